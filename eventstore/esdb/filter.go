package esdb

import (
	"slices"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/orderledger/orderledger/eventstore"
)

// public matches the names of streams that begin neither with $ nor with relay-. It needs no look-ahead, which not every
// server knows.
const public = `^(?:[^$r]|r(?:$|[^e]|e(?:$|[^l]|l(?:$|[^a]|a(?:$|[^y]|y(?:$|[^-]))))))`

// serverFilter is a filter for the server: it chooses at least what f does. nil: everything.
func serverFilter(f eventstore.Filter) *official.SubscriptionFilter {
	switch {
	case len(f.Prefixes) > 0 && !slices.Contains(f.Prefixes, ""):
		return &official.SubscriptionFilter{Type: official.StreamFilterType, Prefixes: f.Prefixes}
	case f.Public:
		return &official.SubscriptionFilter{Type: official.StreamFilterType, Regex: public}
	}
	return nil
}
