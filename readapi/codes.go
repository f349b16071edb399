package readapi

import (
	"net/http"

	"github.com/orderledger/orderledger/internal/web"
)

// Codes documents the codes of problems that only this package answers.
func Codes() []web.Code {
	return []web.Code{
		{Code: "invalid_after", Status: http.StatusBadRequest, Meaning: "Last-Event-ID or after is not an id that this route has sent."},
		{Code: "invalid_mark", Status: http.StatusBadRequest, Meaning: "Orderledger-Mark or mark is not a mark of a ledger. Send back what a write or a read answered, unchanged."},
		{Code: "invalid_moment", Status: http.StatusBadRequest, Meaning: "A moment in history is a revision, a position or a time, and exactly one of them."},
		{Code: "invalid_search", Status: http.StatusBadRequest, Meaning: "A search has at most eight words."},
		{Code: "lost_mark", Status: http.StatusConflict, Meaning: "The ledger was restored from a backup after it had given the mark. Read again without the mark and see what is there."},
		{Code: "not_yet", Status: http.StatusServiceUnavailable, Meaning: "The read models have not come to the mark in time. Try again after Retry-After, or read without the mark."},
		{Code: "not_known_yet", Status: http.StatusServiceUnavailable, Meaning: "No order of that name is known here, but a region whose orders cannot all be seen may have it: one that cannot be reached, or that this one is behind. Ask again after Retry-After, or ask that region. It ends when the region is heard of again, or is taken out of the topology."},
		{Code: "not_parked", Status: http.StatusNotFound, Meaning: "No event of the order waits to be applied."},
		{Code: "order_parked", Status: http.StatusServiceUnavailable, Meaning: "The order cannot come to the mark, because an event of it could not be applied. It needs an operator; see /v1/status."},
		{Code: "unknown_mark", Status: http.StatusBadRequest, Meaning: "The mark is of a ledger that this server does not follow."},
		{Code: "unknown_moment", Status: http.StatusNotFound, Meaning: "The order has no such revision, or did not exist at that moment."},
		{Code: codeUnknownOrder, Status: http.StatusNotFound, Meaning: "The business unit has no such order, in no region. An order that was submitted a moment ago may not be visible yet: send the mark that its submission answered."},
	}
}
