package importer

import (
	"errors"
	"time"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/web"
)

// wholeOrders assembles JSON lines, each of which is an order.
type wholeOrders struct{ mapping *mapping }

func (w wholeOrders) add(r record) ([]*draft, *reject) {
	if r.fault != "" {
		return nil, r.reject("", r.fault, unreadable)
	}
	var in struct {
		Key      string    `json:"key"`
		Occurred time.Time `json:"occurred"`
		domain.Details
		Lines    []domain.Line   `json:"lines"`
		Personal domain.Personal `json:"personal"`
		Settled  bool            `json:"settled"`
	}
	var bad *web.JSONError
	if errors.As(web.DecodeStrict([]byte(r.text), &in), &bad) {
		return nil, r.reject(bad.Pointer, bad.Code, bad.Error())
	}
	key, ok := w.mapping.key(in.Key)
	switch {
	case in.Key == "":
		return nil, r.reject("/key", "missing", "an order needs a key that is its own at every run")
	case !ok:
		return nil, r.reject("/key", "invalid_group", longKey)
	}
	d := &draft{
		order: Order{
			Key: key, Occurred: in.Occurred.UTC(), Personal: in.Personal,
			Submit: domain.Submit{Details: in.Details, Lines: in.Lines, Settled: in.Settled || w.mapping.Settled},
		},
		lines:  []origin{r.origin},
		weight: lineWeight*(1+len(in.Lines)) + 2*len(r.text),
	}
	if d.order.Submit.Channel == "" {
		d.order.Submit.Channel = domain.ChannelImport
	}
	return []*draft{d}, nil
}

func (wholeOrders) rest() []*draft { return nil }
