package esdbserver

import (
	"math"
	"regexp"
	"strings"

	proto "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/orderledger/orderledger/eventstore"
)

// A filter chooses events of $all by the names of their streams or by their types. A nil filter chooses all.
type filter struct {
	byType   bool
	prefixes []string       // one of these; empty: what the expression matches
	regex    *regexp.Regexp // nil: any
	interval int            // a checkpoint is due after so many events, chosen or not
}

const (
	maxExpression = 4 << 10 // bytes of a filter's regular expression
	defaultWindow = 32      // events that are considered at a time, where a client does not say
)

func newFilter(o *proto.ReadReq_Options_FilterOptions) (*filter, error) {
	if o == nil {
		return nil, nil
	}
	f := &filter{}
	expression := o.GetStreamIdentifier()
	if expression == nil {
		expression, f.byType = o.GetEventType(), true
	}
	f.prefixes = expression.GetPrefix()
	if text := expression.GetRegex(); text != "" {
		if len(f.prefixes) > 0 {
			return nil, invalid("a filter has prefixes or a regular expression, not both")
		}
		if len(text) > maxExpression {
			return nil, invalid("the regular expression of a filter has up to %d bytes", maxExpression)
		}
		var err error
		if f.regex, err = regexp.Compile(text); err != nil {
			return nil, invalid("the regular expression of a filter is not supported: %v", err)
		}
	}
	window := uint64(defaultWindow)
	if o.GetMax() > 0 {
		window = uint64(o.GetMax())
	}
	f.interval = int(min(window*uint64(o.GetCheckpointIntervalMultiplier()), math.MaxInt32))
	return f, nil
}

func (f *filter) match(e *eventstore.Recorded) bool {
	if f == nil {
		return true
	}
	name := e.Stream
	if f.byType {
		name = e.Type
	}
	for _, p := range f.prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return len(f.prefixes) == 0 && (f.regex == nil || f.regex.MatchString(name))
}
