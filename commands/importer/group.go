package importer

import (
	"strings"

	"github.com/orderledger/orderledger/domain"
)

// A draft is an order whose lines are still being read. It has at least one.
type draft struct {
	order  Order
	group  string
	credit bool
	lines  []origin // where order.Submit.Lines come from
	last   int64    // the record that its newest line came with
	weight int      // bytes of memory that it takes, roughly
}

// Bounds of what a grouper keeps in memory.
const (
	maxOpenWeight  = 32 << 20 // of all open drafts
	maxDraftWeight = 8 << 20  // of one
	lineWeight     = 1 << 10  // of a line beside its text
)

// A grouper deals the lines of one file to orders. Lines of one order need not be neighbours, as long as no more than
// a window of other lines stand between them; only the orders within that window are kept in memory.
type grouper struct {
	*builder
	open   map[string]*draft
	recent []*draft // ring: the draft that took record n stands at n modulo its length; nil: none did
	count  int64    // records seen
	oldest int64    // the newest line of every open draft came with this record or a later one
	weight int      // of all open drafts
}

func newGrouper(b *builder) *grouper {
	return &grouper{builder: b, open: make(map[string]*draft), recent: make([]*draft, b.mapping.Window+2)}
}

// add takes one record. It returns the drafts that are complete now, and a reject where the record can be given to no
// order.
func (g *grouper) add(r record) (done []*draft, reject *reject) {
	n := g.count
	g.count++
	for g.oldest <= n-int64(len(g.recent)) || g.weight > maxOpenWeight {
		done = g.close(done)
	}
	d, reject := g.take(r)
	g.recent[n%int64(len(g.recent))] = d
	if d != nil {
		d.last = n
	}
	return done, reject
}

// rest returns all drafts that are left.
func (g *grouper) rest() []*draft {
	var done []*draft
	for g.oldest < g.count {
		done = g.close(done)
	}
	return done
}

// close appends the draft whose newest line came with the oldest record, if there is one.
func (g *grouper) close(done []*draft) []*draft {
	if d := g.recent[g.oldest%int64(len(g.recent))]; d != nil && d.last == g.oldest {
		delete(g.open, d.group)
		g.weight -= d.weight
		done = append(done, d)
	}
	g.oldest++
	return done
}

// take adds a record to its draft, or rejects it. It returns the draft also where that has no use for the record.
func (g *grouper) take(r record) (*draft, *reject) {
	if reject := g.unusable(r); reject != nil {
		return nil, reject
	}
	group := strings.TrimSpace(r.fields[g.group])
	known := g.open[group]
	d := known
	if known == nil {
		var reject *reject
		if d, reject = g.begin(group, r); reject != nil {
			return nil, reject
		}
	} else if column := g.contradiction(d, r); column != "" {
		return known, r.reject(column, "differs_from_order", "the line says something else than the first line of its order")
	}
	weight := lineWeight + len(r.text)
	if len(d.lines) == domain.MaxLines || d.weight+weight > maxDraftWeight {
		return known, r.reject(g.mapping.Group, "too_many_lines", "the order has as many lines as an order may have")
	}
	line, reject := g.line(r, d.credit)
	if reject != nil {
		return known, reject
	}
	d.order.Submit.Lines = append(d.order.Submit.Lines, line)
	d.lines = append(d.lines, r.origin)
	d.weight += weight
	g.weight += weight
	g.open[group] = d
	return d, nil
}
