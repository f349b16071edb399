package readapi_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/readapi"
)

func TestOrder(t *testing.T) {
	w := newWorld(t)
	id := w.eventful()
	o := read[readapi.Order](w, "/v1/orders/"+id.String())
	if o.ID != id || o.BusinessUnit != "main" || o.Number != domain.Number(id) || o.Status != domain.StatusPartiallyShipped || o.Revision != 8 || o.Source != w.id {
		t.Errorf("%+v", o)
	}
	if o.PurchaseOrder != "PO-4711" || o.Promised != "2026-12-03" || o.Parties.Buyer.Country != "DE" || o.Terms.Payment != "30 days net" {
		t.Errorf("%+v", o)
	}
	lens := o.Lines[0]
	if lens.Quantity != domain.Whole(3) || lens.Shipped != domain.Whole(2) || lens.Delivered != domain.Whole(1) || lens.Requested.Day != "2026-12-01" ||
		lens.FirstPromised != "2026-12-03" || lens.Promised != "2026-12-03" {
		t.Errorf("%+v", lens)
	}
	const space = "\u00a0"
	want := readapi.Amounts{Lines: "3" + space + "751.59" + space + "EUR", Taxes: "19.01" + space + "EUR", Total: "3" + space + "770.60" + space + "EUR"}
	if d := cmp.Diff(want, o.Display); d != "" {
		t.Error(d)
	}
	if o.Totals.Total != domain.MustDecimal("3770.59625") {
		t.Errorf("the exact total is %v", o.Totals.Total)
	}
	if o.Verdict != domain.VerdictAccepted || o.Decision.Row != "V7" || o.Decision.Facts[0].Value != "web" || len(o.Fulfilments) != 2 ||
		o.Fulfilments[0].Phase != domain.PhaseFailed || o.Fulfilments[1].Decision.Row != "R2" || o.Fulfilments[1].Shipments[0].Carrier != "DHL" {
		t.Errorf("%+v", o)
	}
	if o.Personal == nil || o.Personal.ShipTo.City != "Wien" || o.Erased {
		t.Errorf("personal: %+v", o.Personal)
	}
	if o.Submitted.After(o.StatusSince) || o.StatusSince.After(o.Updated) || o.Updated != w.now {
		t.Errorf("submitted %v, since %v, updated %v", o.Submitted, o.StatusSince, o.Updated)
	}
}

func TestOrderByAnySpellingOfItsNumber(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	number := domain.Number(id)
	for _, name := range []string{
		id.String(), strings.ToUpper(id.String()), number, strings.ToLower(number), strings.ReplaceAll(number, "-", ""),
		strings.ReplaceAll(number, "-", "%20"), strings.ReplaceAll(strings.ReplaceAll(number, "0", "o"), "1", "l"),
	} {
		if o := read[readapi.Order](w, "/v1/orders/"+name); o.ID != id {
			t.Errorf("%s names %v", name, o.ID)
		}
	}
}

func TestUnknownOrders(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	other := orderID("eu", "a")
	w.do("eu", other, simple())
	if o := read[readapi.Order](w, "/v1/orders/"+other.String(), "Business-Unit: eu"); o.ID != other {
		t.Errorf("%+v", o)
	}
	missing := orderID("main", "nobody")
	for _, name := range []string{
		other.String(), domain.Number(other), missing.String(), domain.Number(missing), "K7Q2-9FTM-3XWA-Q", "x", "%00", "..%2f", "%ff",
		"urn:uuid:" + id.String()[:20], "%7B" + id.String()[1:] + "%7D",
	} {
		w.refused(404, "unknown_order", "/v1/orders/"+name)
		w.refused(404, "unknown_order", "/v1/orders/"+name+"/timeline")
		w.refused(404, "unknown_order", "/v1/orders/"+name+"/events")
		w.refused(404, "unknown_order", "/v1/history/orders/"+name)
		w.refused(404, "unknown_order", "/v1/history/orders/"+name+"/state")
		w.refused(404, "unknown_order", "/v1/history/orders/"+name+"/diff?from=0")
		for _, page := range []string{"/orders/" + name, "/orders/" + name + "/history"} {
			if rec := w.get(page); rec.Code != 404 || !strings.Contains(rec.Body.String(), "There is no such order.") {
				t.Errorf("GET %s: %d", page, rec.Code)
			}
		}
	}
}

func TestETag(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	path := "/v1/orders/" + id.String()
	tag := w.get(path).Header().Get("ETag")
	if tag != `"0-2"` {
		t.Errorf("ETag %s", tag)
	}
	for _, condition := range []string{tag, "W/" + tag, `"0-1", ` + tag, "*"} {
		rec := w.get(path, "If-None-Match: "+condition)
		if rec.Code != 304 || rec.Body.Len() != 0 || rec.Header().Get("ETag") != tag || rec.Header().Get("Orderledger-Mark") == "" {
			t.Errorf("If-None-Match %s: %d %v %s", condition, rec.Code, rec.Header(), rec.Body)
		}
	}
	for _, condition := range []string{`"0-1"`, `"1-2"`, `"other"`} {
		if rec := w.get(path, "If-None-Match: "+condition); rec.Code != 200 || rec.Header().Get("ETag") != tag {
			t.Errorf("If-None-Match %s: %d", condition, rec.Code)
		}
	}
	w.refused(400, "invalid_etag", path, "If-None-Match: 0-2")
	w.do("main", id, domain.StartFulfilment{Fulfilment: "f1"})
	if rec := w.get(path, "If-None-Match: "+tag); rec.Code != 200 || rec.Header().Get("ETag") != `"0-3"` {
		t.Errorf("after a change: %d %s", rec.Code, rec.Header().Get("ETag"))
	}
}

func TestWaitForAChange(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	path := "/v1/orders/" + id.String()
	if rec := w.get(path+"?wait=1ms", `If-None-Match: "0-2"`); rec.Code != 304 || rec.Header().Get("ETag") != `"0-2"` {
		t.Errorf("nothing happened: %d %s", rec.Code, rec.Body)
	}
	if rec := w.get(path+"?wait=1h", `If-None-Match: "0-1"`); rec.Code != 200 {
		t.Errorf("has happened before: %d", rec.Code)
	}
	if rec := w.get(path + "?wait=1h"); rec.Code != 200 {
		t.Errorf("without a condition: %d", rec.Code)
	}
	rec, done := w.background(path+"?wait=30s", `If-None-Match: "0-2"`)
	rec.waitUntilItLingers(t, done)
	w.do("main", id, domain.StartFulfilment{Fulfilment: "f1"})
	<-done
	if rec.Code != 200 || rec.Header().Get("ETag") != `"0-3"` || !strings.Contains(rec.Body.String(), `"status":"in_fulfilment"`) {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
	for _, wait := range []string{"-1s", "soon", "30"} {
		w.refused(400, "invalid_parameter", path+"?wait="+wait)
	}
}

// A recorder tells when a request has begun to wait.
type recorder struct {
	*httptest.ResponseRecorder
	lingers chan struct{}
}

// SetWriteDeadline is called when a request begins to wait.
func (r *recorder) SetWriteDeadline(time.Time) error {
	close(r.lingers)
	return nil
}

// waitUntilItLingers returns when the request has begun to wait. One that is answered without has failed.
func (r *recorder) waitUntilItLingers(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-r.lingers:
	case <-done:
		t.Fatalf("answered at once: %d %s", r.Code, r.Body)
	}
}

// background sends a request and goes on; done is closed when it has been answered.
func (w *world) background(path string, headers ...string) (rec *recorder, done chan struct{}) {
	rec, done = &recorder{httptest.NewRecorder(), make(chan struct{})}, make(chan struct{})
	go func() {
		defer close(done)
		w.server.ServeHTTP(rec, w.request(path, headers...))
	}()
	return rec, done
}

func TestMarks(t *testing.T) {
	w := newWorld(t)
	w.submit("a")
	w.paused = true
	id, mark := w.submit("b")
	path := "/v1/orders/" + id.String()
	w.refused(404, "unknown_order", path)
	rec := w.refused(503, "not_yet", path+"?mark_wait=1ms", "Orderledger-Mark: "+mark.String())
	if rec.Header().Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", rec.Header().Get("Retry-After"))
	}
	w.refused(503, "not_yet", "/v1/orders?mark_wait=1ms&mark="+mark.String())
	if rec := w.get(path + "?mark=" + mark.String() + "&mark_wait=1ms"); rec.Code != 503 {
		t.Errorf("mark in the query: %d", rec.Code)
	}

	lag := w.get("/v1/counts").Header().Get("Orderledger-Lag")
	if events, seconds, _ := strings.Cut(lag, ";"); events != "3" || !strings.Contains(seconds, ".") {
		t.Errorf("lag %q", lag)
	}

	done := make(chan *httptest.ResponseRecorder)
	go func() { done <- w.get(path, "Orderledger-Mark: "+mark.String()) }()
	w.catchUp()
	rec = <-done
	if rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	seen, err := eventstore.ParseMark(rec.Header().Get("Orderledger-Mark"))
	if err != nil || seen.Ledger != w.id || seen.Position < mark.Position {
		t.Errorf("seen %v, %v; written %v", seen, err, mark)
	}
	if lag := rec.Header().Get("Orderledger-Lag"); lag != "0;0.000" {
		t.Errorf("lag %q", lag)
	}
	// What a read has seen, the next one sees too, whatever it reads.
	for _, path := range []string{
		path, path + "/timeline", "/v1/orders", "/v1/counts", "/v1/status", "/v1/history" + strings.TrimPrefix(path, "/v1"),
		"/v1/notifications?wait=1ms", path + "/events?wait=1ms",
	} {
		rec := w.get(path, "Orderledger-Mark: "+seen.String())
		if rec.Code != 200 || rec.Header().Get("Orderledger-Mark") == "" || rec.Header().Get("Orderledger-Lag") == "" {
			t.Errorf("GET %s: %d %v", path, rec.Code, rec.Header())
		}
	}
	// An order that does not exist is unknown, not late.
	w.refused(404, "unknown_order", "/v1/orders/"+orderID("main", "nobody").String(), "Orderledger-Mark: "+seen.String())
}

func TestInvalidMarks(t *testing.T) {
	w := newWorld(t)
	id, mark := w.submit("a")
	for _, path := range []string{"/v1/orders/" + id.String(), "/v1/orders", "/v1/counts", "/v1/notifications", "/v1/history/orders/" + id.String()} {
		for _, bad := range []string{"x", "1.2.3.4", mark.String() + ".1", mark.String() + "0x"} {
			w.refused(400, "invalid_mark", path, "Orderledger-Mark: "+bad)
		}
		stranger := mark
		stranger.Ledger = uuid.New()
		w.refused(400, "unknown_mark", path, "Orderledger-Mark: "+stranger.String())
	}
	w.refused(400, "invalid_parameter", "/v1/orders?mark_wait=x")
}

func TestPersonalData(t *testing.T) {
	w := newWorld(t)
	id := orderID("main", "a")
	seal := func(p domain.Personal, key string) domain.Sealed { return w.seal(p, id, key) }
	w.submit("a", func(s *domain.Submit) {
		s.Personal = seal(domain.Personal{Buyer: domain.Person{Name: "Secret Buyer"}, ShipTo: domain.Person{Name: "Secret Old"}}, "k1")
	})
	w.do("main", id, domain.Amend{ShipTo: &domain.Party{Country: "AT"}, Reason: domain.Reason{Code: "moved"},
		Personal: seal(domain.Personal{ShipTo: domain.Person{Name: "Secret New"}, Instructions: "Secret words"}, "k1")})
	path := "/v1/orders/" + id.String()
	want := &domain.Personal{Buyer: domain.Person{Name: "Secret Buyer"}, ShipTo: domain.Person{Name: "Secret New"}, Instructions: "Secret words"}
	if o := read[readapi.Order](w, path); o.Erased || !cmp.Equal(o.Personal, want) {
		t.Errorf("%+v", o.Personal)
	}
	page := w.get("/orders/" + id.String())
	if !strings.Contains(page.Body.String(), "Secret New") || strings.Contains(page.Body.String(), "Secret Old") || page.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("page: %v", page.Header())
	}
	if w.get(path).Header().Get("Cache-Control") != "no-store" {
		t.Error("the order may be cached")
	}

	// Nowhere else.
	for _, elsewhere := range []string{
		"/v1/orders", "/v1/orders?q=secret", path + "/timeline", path + "/events?wait=1ms", "/v1/notifications?after=0&wait=1ms", "/v1/counts",
		"/v1/history" + strings.TrimPrefix(path, "/v1"), "/v1/history" + strings.TrimPrefix(path, "/v1") + "/diff?from=0",
		"/v1/history" + strings.TrimPrefix(path, "/v1") + "/state", "/", "/?q=secret", "/orders/" + id.String() + "/history?revision=3",
	} {
		rec := w.get(elsewhere)
		if rec.Code != 200 || strings.Contains(strings.ReplaceAll(rec.Body.String(), "?q=secret", ""), "Secret ") || strings.Contains(rec.Body.String(), `"data":"`) {
			t.Errorf("GET %s: %d %s", elsewhere, rec.Code, rec.Body)
		}
	}
	if strings.Contains(w.log.String(), "Secret") {
		t.Errorf("log: %s", w.log)
	}

	w.destroyKey("k1")
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(w.get(path).Body.Bytes(), &raw); err != nil || string(raw["personal"]) != "null" || string(raw["erased"]) != "true" {
		t.Errorf("erased: %s %s, %v", raw["personal"], raw["erased"], err)
	}
	if page := w.get("/orders/" + id.String()).Body.String(); strings.Contains(page, "Secret") || !strings.Contains(page, "was erased") {
		t.Error("the page after erasure")
	}
}

func TestPersonalDataThatCannotBeOpened(t *testing.T) {
	w := newWorld(t)
	id := orderID("main", "a")
	w.submit("a", func(s *domain.Submit) {
		s.Personal = w.seal(domain.Personal{Instructions: "x"}, orderID("main", "another"), "k1")
	})
	if o := read[readapi.Order](w, "/v1/orders/"+id.String()); o.Personal != nil || o.Erased {
		t.Errorf("%+v", o.Personal)
	}
	if !strings.Contains(w.log.String(), id.String()) {
		t.Error("the log does not tell")
	}

	keyless := newWorld(t, func(c *readapi.Config) { c.Key, c.Lag, c.Logger, c.Now = nil, nil, nil, nil })
	id, _ = keyless.submit("a", func(s *domain.Submit) { s.Personal = keyless.seal(domain.Personal{Instructions: "x"}, id, "k1") })
	rec := keyless.get("/v1/orders/" + id.String())
	if !strings.Contains(rec.Body.String(), `"personal":null`) || strings.Contains(rec.Body.String(), "erased") {
		t.Errorf("without keys: %s", rec.Body)
	}
	if rec.Header().Get("Orderledger-Lag") != "" || rec.Header().Get("Orderledger-Mark") == "" {
		t.Errorf("without lag: %v", rec.Header())
	}
}

// Erasure changes the body but not the version: whoever still has the personal data must learn of it.
func TestErasedOrderIsNeverUnmodified(t *testing.T) {
	w := newWorld(t)
	id := orderID("main", "a")
	w.submit("a", func(s *domain.Submit) { s.Personal = w.seal(domain.Personal{Instructions: "x"}, id, "k1") })
	path := "/v1/orders/" + id.String()
	tag := w.get(path).Header().Get("ETag")
	if rec := w.get(path, "If-None-Match: "+tag); rec.Code != 304 {
		t.Errorf("before the erasure: %d", rec.Code)
	}
	w.destroyKey("k1")
	for _, path := range []string{path, path + "?wait=1ms"} {
		rec := w.get(path, "If-None-Match: "+tag)
		if rec.Code != 200 || rec.Header().Get("ETag") != tag || !strings.Contains(rec.Body.String(), `"erased":true`) {
			t.Errorf("GET %s after the erasure: %d %v %s", path, rec.Code, rec.Header(), rec.Body)
		}
	}
}

func TestRegisterNeedsViewsAndLedger(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	readapi.Register(nil, readapi.Config{})
}
