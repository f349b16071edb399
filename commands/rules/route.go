package rules

import (
	"slices"

	"github.com/orderledger/orderledger/domain"
)

type routingRow struct {
	conditions
	name string
	line []cell  // of the line that is routed
	to   []*site // the best first
}

// Route gives each open line to the first site of its row that is not excluded and takes the line; the row is the
// first of the routing table that matches. Lines for the same site go there together. An order that asks for complete
// delivery goes to one site for all its open lines, or to none. If a line finds no site, none does.
func (r *RuleSet) Route(o *domain.Order, open []domain.LineQuantity, excluded []string) domain.Routing {
	rt := router{set: r, order: o, excluded: excluded}
	jobs, ok := rt.jobs(open)
	var allocations []domain.Allocation
	if ok && o.Terms.CompleteDelivery {
		allocations = rt.together(jobs)
	} else if ok {
		allocations = rt.apart(jobs)
	}
	return domain.Routing{Allocations: allocations, Decision: rt.why.decision(r)}
}

// A router routes one order once.
type router struct {
	set      *RuleSet
	order    *domain.Order
	excluded []string
	why      explanation
}

// A job is an open line with the row that it follows.
type job struct {
	domain.LineQuantity
	subject
	row *routingRow
}

// jobs finds the row of every open line. It reports false where one has none.
func (rt *router) jobs(open []domain.LineQuantity) ([]job, bool) {
	jobs := make([]job, 0, len(open))
	applies := make([]answer, len(rt.set.routing)) // what of a row's conditions does not depend on the line
	next := 0                                      // open lines stand in the order's own order, nearly always
	for _, q := range open {
		line := rt.line(q.Line, &next)
		if line == nil {
			rt.why.row(noRow)
			return nil, false
		}
		j := job{LineQuantity: q, subject: subject{order: rt.order, line: line, quantity: q.Quantity}}
		for i := range rt.set.routing {
			row := &rt.set.routing[i]
			if applies[i] == unknown {
				applies[i] = answerOf(row.match(rt.order))
			}
			if applies[i] == yes && matchAll(row.line, j.subject) {
				j.row = row
				break
			}
		}
		if j.row == nil {
			rt.why.row(noRow)
			rt.why.fact(j.nameOf(&lineFacts[0]), line.SKU)
			return nil, false
		}
		if rt.why.row(j.row.name) {
			rt.why.conditions(&j.row.conditions, rt.order)
			rt.why.cells(j.row.line, j.subject)
		}
		jobs = append(jobs, j)
	}
	return jobs, true
}

// line finds a line by its id, looking at the one after the last found first.
func (rt *router) line(id string, next *int) *domain.OrderLine {
	lines := rt.order.Lines
	for range lines {
		if *next >= len(lines) {
			*next = 0
		}
		l := &lines[*next]
		*next++
		if l.ID == id {
			return l
		}
	}
	return nil
}

// apart gives every line to its own best site.
func (rt *router) apart(jobs []job) []domain.Allocation {
	var allocations []domain.Allocation
	for i := range jobs {
		j := &jobs[i]
		k := slices.IndexFunc(j.row.to, func(s *site) bool { return rt.takes(s, j) })
		if k < 0 {
			return nil
		}
		code := j.row.to[k].Code
		n := slices.IndexFunc(allocations, func(a domain.Allocation) bool { return a.Site == code })
		if n < 0 {
			n = len(allocations)
			allocations = append(allocations, domain.Allocation{Site: code})
		}
		allocations[n].Lines = append(allocations[n].Lines, j.LineQuantity)
	}
	return allocations
}

// together gives all lines to the one site that the rows of all of them name, in the preference of the first line.
func (rt *router) together(jobs []job) []domain.Allocation {
	if len(jobs) == 0 {
		return nil
	}
	takesAll := func(s *site) bool {
		for i := range jobs {
			j := &jobs[i]
			if !slices.Contains(j.row.to, s) {
				rt.why.fact("site "+s.Code, "not named by row "+j.row.name)
				return false
			}
			if !rt.takes(s, j) {
				return false
			}
		}
		return true
	}
	k := slices.IndexFunc(jobs[0].row.to, takesAll)
	if k < 0 {
		return nil
	}
	a := domain.Allocation{Site: jobs[0].row.to[k].Code}
	for i := range jobs {
		a.Lines = append(a.Lines, jobs[i].LineQuantity)
	}
	return []domain.Allocation{a}
}

// takes reports whether a site may have a line, and notes why not.
func (rt *router) takes(s *site, j *job) bool {
	if slices.Contains(rt.excluded, s.Code) {
		rt.why.fact("site "+s.Code, "excluded")
		return false
	}
	whole := subject{order: rt.order}
	if c := miss(s.when, whole); c != nil {
		rt.why.fact("site "+s.Code, "does not take "+c.fact.name+" "+c.fact.show(c.fact.get(whole)))
		return false
	}
	if c := miss(s.line, j.subject); c != nil {
		rt.why.fact("site "+s.Code, "does not take "+j.nameOf(c.fact)+" "+c.fact.show(c.fact.get(j.subject)))
		return false
	}
	return true
}

// An answer is one that may not have been asked for yet.
type answer uint8

const (
	unknown answer = iota
	yes
	no
)

func answerOf(b bool) answer {
	if b {
		return yes
	}
	return no
}
