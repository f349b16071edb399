package domain

// few is how many lines are looked up one by one rather than through an index, which takes in all parts of an order.
const few = 8

// shares finds the sites that have a share of a line.
type shares struct {
	order *Order
	first []int32 // of each line, by where it stands: where its first share stands in all, plus one; nil: no index
	all   []share
}

type share struct {
	fulfilment, part int32
	next             int32 // of the same line, as in first
}

// shares prepares for n lines to be looked up. It is good until fulfilments or parts come or go.
func (o *Order) shares(n int) shares {
	s := shares{order: o}
	if n <= few {
		return s
	}
	parts := 0
	for i := range o.Fulfilments {
		parts += len(o.Fulfilments[i].Parts)
	}
	s.first, s.all = make([]int32, len(o.Lines)), make([]share, 0, parts)
	for i := len(o.Fulfilments) - 1; i >= 0; i-- { // so that each line's first share comes last
		for j := range o.Fulfilments[i].Parts {
			at := o.line(o.Fulfilments[i].Parts[j].Line)
			if at < 0 {
				continue
			}
			s.all = append(s.all, share{int32(i), int32(j), s.first[at]})
			s.first[at] = int32(len(s.all))
		}
	}
	return s
}

// of returns where the shares of a line that exists begin, for next.
func (s *shares) of(line string) int {
	if s.first == nil {
		return 0
	}
	return int(s.first[s.order.line(line)])
}

// next returns the share of a line that stands at a place, in the order of the fulfilments, and moves the place to the
// one after it. It returns nil after the last.
func (s *shares) next(line string, at *int) (*Fulfilment, *Part) {
	all := s.order.Fulfilments
	if s.first != nil {
		if *at == 0 {
			return nil, nil
		}
		next := &s.all[*at-1]
		*at = int(next.next)
		f := &all[next.fulfilment]
		return f, &f.Parts[next.part]
	}
	for *at < len(all) {
		f := &all[*at]
		*at++
		if p := f.part(line); p != nil {
			return f, p
		}
	}
	return nil, nil
}
