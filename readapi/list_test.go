package readapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
	"github.com/orderledger/orderledger/readapi"
)

// exact compares decimal numbers.
var exact = cmp.Comparer(func(a, b domain.Decimal) bool { return a == b })

func numbers(l readapi.OrderList) []string {
	list := []string{}
	for _, o := range l.Orders {
		list = append(list, o.Number)
	}
	return list
}

func TestListFindsOrders(t *testing.T) {
	w := newWorld(t)
	plain, _ := w.submit("plain")
	held, _ := w.submit("held", func(s *domain.Submit) {
		s.Channel, s.PurchaseOrder, s.References = "watched", "PO-88", []domain.Reference{{Kind: "quote", Value: "Q-77"}}
		s.Parties.Buyer.Identifiers = []domain.Identifier{{Scheme: "customer", Value: "K-2002"}}
	})
	eventful := w.eventful()
	w.do("eu", orderID("eu", "x"), simple())
	n := domain.Number
	for query, want := range map[string][]string{
		"":                                   {n(eventful), n(held), n(plain)},
		"number=" + strings.ToLower(n(held)): {n(held)},
		"reference=q-77":                     {n(held)},
		"reference=C-2026-9":                 {n(eventful), n(plain)},
		"reference=W-99120":                  {n(eventful)},
		"purchase_order=po-88":               {n(held)},
		"customer=K-2002":                    {n(held)},
		"site=wetzlar":                       {n(eventful)},
		"site=Jena":                          {n(plain)},
		"sku=lens-50&status=routed":          {n(plain)},
		"tracking=00340434161094042557":      {n(eventful)},
		"status=on_hold,routed":              {n(held), n(plain)},
		"status=closed":                      {},
		"q=K-2002+PO-88":                     {n(held)},
		"q=lens":                             {n(eventful), n(held), n(plain)},
		"q=" + url.QueryEscape(n(plain)[:9]): {n(plain)},
		"q=nothing":                          {},
		"business_unit=us":                   {},
	} {
		if got := numbers(read[readapi.OrderList](w, "/v1/orders?"+query)); !cmp.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	o := read[readapi.OrderList](w, "/v1/orders?status=on_hold").Orders[0]
	if o.ID != held || o.Customer != "K-2002" || o.PurchaseOrder != "PO-88" || o.Country != "DE" || o.Channel != "watched" || o.Display != "3\u00a0770.60\u00a0EUR" || o.Currency != "EUR" {
		t.Errorf("%+v", o)
	}
}

func TestListPages(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 7 {
		id, _ := w.submit(fmt.Sprint(i))
		want = append([]string{domain.Number(id)}, want...)
	}
	for _, limit := range []int{1, 2, 3, 6, 7, 8, 200} {
		var got []string
		path := fmt.Sprintf("/v1/orders?limit=%d", limit)
		for next, pages := path, 0; next != ""; pages++ {
			if pages > 8 {
				t.Fatal("the list does not end")
			}
			page := read[readapi.OrderList](w, next)
			got = append(got, numbers(page)...)
			next = ""
			if page.Next != "" {
				next = path + "&cursor=" + page.Next
			}
		}
		if !cmp.Equal(got, want) {
			t.Errorf("by %d: %v, want %v", limit, got, want)
		}
	}
}

func TestListRefuses(t *testing.T) {
	w := newWorld(t)
	w.submit("a")
	w.submit("b")
	cursor := read[readapi.OrderList](w, "/v1/orders?limit=1").Next
	for query, code := range map[string]string{
		"cursor=x":                               "invalid_cursor",
		"cursor=" + cursor + "&status=routed":    "invalid_cursor",
		"cursor=" + cursor + "&business_unit=eu": "invalid_cursor",
		"cursor=A" + cursor:                      "invalid_cursor",
		"limit=0":                                "invalid_parameter",
		"limit=201":                              "invalid_parameter",
		"limit=x":                                "invalid_parameter",
		"status=lost":                            "invalid_parameter",
		"colour=red":                             "unknown_parameter",
		"q=1&q=2":                                "duplicate_parameter",
		"q=a+b+c+d+e+f+g+h+i":                    "invalid_search",
		"q=" + strings.Repeat("a", 201):          "invalid_parameter",
		"business_unit=%2e%2e":                   "invalid_business_unit",
	} {
		w.refused(400, code, "/v1/orders?"+query)
	}
	if l := read[readapi.OrderList](w, "/v1/orders?limit=50&cursor="+cursor); len(l.Orders) != 1 {
		t.Errorf("a cursor goes on with another limit: %v", numbers(l))
	}
}

func TestTimeline(t *testing.T) {
	w := newWorld(t)
	id := w.eventful()
	path := "/v1/orders/" + id.String() + "/timeline"
	all := read[readapi.Timeline](w, path)
	if all.Order != id || all.Number != domain.Number(id) || all.Next != nil || len(all.Entries) != 9 {
		t.Fatalf("%+v", all)
	}
	failed := all.Entries[3]
	if failed.Text != "Jena cannot fulfil its part." || failed.Type != "order.fulfilment_failed.v1" || failed.Revision != 3 || failed.Status != domain.StatusAccepted ||
		failed.Reason.Code != "machine_down" || failed.Actor.Subject != "ada" || failed.Summary.Code != "failed" || failed.ID != w.id.String()+":3" || failed.Occurred.IsZero() || failed.Recorded.IsZero() {
		t.Errorf("%+v", failed)
	}
	if routed := all.Entries[2]; routed.RuleRow != "R2" || routed.RuleSet == "" {
		t.Errorf("%+v", routed)
	}
	var got []readapi.TimelineEntry
	for next := uint64(0); ; {
		page := read[readapi.Timeline](w, fmt.Sprintf("%s?limit=4&from=%d", path, next))
		got = append(got, page.Entries...)
		if page.Next == nil {
			break
		}
		next = *page.Next
	}
	if d := cmp.Diff(all.Entries, got, exact); d != "" {
		t.Error(d)
	}
	if page := read[readapi.Timeline](w, path+"?from=9"); len(page.Entries) != 0 || page.Next != nil {
		t.Errorf("%+v", page)
	}
	for _, query := range []string{"from=-1", "from=99999999999999999", "limit=0", "limit=201"} {
		w.refused(400, "invalid_parameter", path+"?"+query)
	}
}

func TestCounts(t *testing.T) {
	w := newWorld(t)
	if c := read[readapi.Counts](w, "/v1/counts"); c.Orders != 0 || len(c.Statuses) != len(domain.Statuses()) {
		t.Errorf("%+v", c)
	}
	w.submit("a")
	since := w.now
	w.submit("b")
	w.submit("c", func(s *domain.Submit) { s.Channel = "watched" })
	w.do("eu", orderID("eu", "x"), simple())
	counts := read[readapi.Counts](w, "/v1/counts")
	for i, c := range counts.Statuses {
		if c.Status != domain.Statuses()[i] {
			t.Errorf("%d: %s", i, c.Status)
		}
		switch want := map[domain.Status]uint64{"routed": 2, "on_hold": 1}[c.Status]; {
		case c.Orders != want, (c.Oldest != nil) != (want > 0):
			t.Errorf("%+v", c)
		case c.Status == "routed" && (!c.Oldest.Equal(since) || c.OldestSeconds != w.now.Sub(since).Seconds()):
			t.Errorf("%+v at %v", c, w.now)
		}
	}
	if counts.Orders != 3 {
		t.Errorf("%+v", counts)
	}
}

func TestStatus(t *testing.T) {
	w := newWorld(t)
	w.submit("a")
	w.paused = true
	w.submit("b")
	s := read[readapi.SystemStatus](w, "/v1/status")
	if len(s.Sources) != 1 || len(s.Parked) != 0 {
		t.Fatalf("%+v", s)
	}
	src := s.Sources[0]
	if src.Ledger != w.id || src.Lanes != 64 || src.Passed != 3 || src.Newest != 3 || src.Lag.Head != 6 || src.Lag.Events != 3 || src.Lag.Seconds < 0 || src.Lag.Parked != 0 {
		t.Errorf("%+v %+v", src, src.Lag)
	}
}

// Reads go on while the ledger cannot be asked how far it is.
func TestReadsWithoutLag(t *testing.T) {
	w := newWorld(t, func(c *readapi.Config) {
		c.Lag = func(context.Context) ([]projections.Lag, error) { return nil, errors.New("the ledger is away") }
	})
	id, _ := w.submit("a")
	if rec := w.get("/v1/orders/" + id.String()); rec.Code != 200 || rec.Header().Get("Orderledger-Lag") != "" || rec.Header().Get("Orderledger-Mark") == "" {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
	if s := read[readapi.SystemStatus](w, "/v1/status"); s.Sources[0].Lag != nil || !strings.Contains(w.log.String(), "the ledger is away") {
		t.Errorf("%+v; log: %s", s, w.log)
	}
}

// An order with an event that nobody can read is parked; it is shown as it was, and status tells.
func TestParkedOrder(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	mark := w.appendRaw(id, "order.teleported.v1")
	w.catchUp()
	s := read[readapi.SystemStatus](w, "/v1/status")
	if len(s.Parked) != 1 || s.Parked[0].Order != id || s.Parked[0].Revision != 3 || s.Sources[0].Lag.Parked != 1 {
		t.Errorf("%+v", s)
	}
	if s := read[readapi.SystemStatus](w, "/v1/status?business_unit=eu"); len(s.Parked) != 0 {
		t.Errorf("another business unit sees it: %+v", s)
	}
	if o := read[readapi.Order](w, "/v1/orders/"+id.String()); o.Revision != 2 {
		t.Errorf("%+v", o)
	}
	w.refused(503, "order_parked", "/v1/orders/"+id.String(), "Orderledger-Mark: "+mark.String())
}

// An operator sees what is parked, has it applied once the program understands it, or gives it up.
func TestParkedOrders(t *testing.T) {
	w := newWorld(t)
	w.server = web.New(web.Config{Codes: readapi.Codes(), Rate: -1})
	readapi.Register(w.server, readapi.Config{Views: w.views, Ledger: w.ledger, Key: w.key, Lag: w.projector.Lag, Projector: w.projector, Now: w.clock})
	id, _ := w.submit("a")
	w.appendRaw(id, "order.teleported.v1")
	w.catchUp()
	type list struct{ Parked []readapi.ParkedEvent }
	for _, skipped := range []bool{false, true} {
		if l := read[list](w, "/v1/parked"); len(l.Parked) != 1 || l.Parked[0].Order != id || l.Parked[0].Error == "" || l.Parked[0].Skipped != skipped {
			t.Errorf("%+v", l)
		}
		for _, do := range []string{"retry", "skip"} {
			rec := w.post("/v1/parked/" + id.String() + "/" + do)
			if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), `"parked":true`) {
				t.Errorf("%s: %d %s", do, rec.Code, rec.Body)
			}
		}
	}
	if l := read[list](w, "/v1/parked?business_unit=eu"); len(l.Parked) != 0 {
		t.Errorf("another business unit sees it: %+v", l)
	}
	other, _ := w.submit("b")
	for _, path := range []string{
		"/v1/parked/" + other.String() + "/retry", "/v1/parked/" + id.String() + "/skip?business_unit=eu",
	} {
		if rec := w.post(path); rec.Code != http.StatusNotFound || !strings.Contains(rec.Body.String(), "not_parked") {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	if rec := w.post("/v1/parked/x/skip"); rec.Code != http.StatusBadRequest {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func (w *world) post(path string) *httptest.ResponseRecorder {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.server.ServeHTTP(rec, httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://localhost"+path, nil))
	return rec
}
