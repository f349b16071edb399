package rules

import "fmt"

// A Problem is something wrong in a text, and where.
type Problem struct {
	Line   int    // from 1; 0: the text as a whole
	Column int    // from 1; 0: the line as a whole
	Place  string // such as row V3, list eu or site LYON-WH
	Text   string // a sentence
}

func (p Problem) String() string {
	var where string
	if p.Line > 0 {
		where = fmt.Sprintf("line %d", p.Line)
	}
	if p.Column > 0 {
		where += fmt.Sprintf(", column %d", p.Column)
	}
	if p.Place != "" {
		where += ", " + p.Place
	}
	if where == "" {
		return p.Text
	}
	return where + ": " + p.Text
}

// An Invalid tells why a text is no rule set.
type Invalid struct {
	Problems []Problem // at least one, at most 50, in the order of the text
}

func (e *Invalid) Error() string {
	if len(e.Problems) == 1 {
		return "the rule set is refused: " + e.Problems[0].String()
	}
	return fmt.Sprintf("the rule set is refused: %s (and %d more)", e.Problems[0], len(e.Problems)-1)
}
