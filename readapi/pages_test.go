package readapi_test

import (
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/orderledger/orderledger/domain"
)

// page reads a page, which must have the given status.
func (w *world) page(status int, path string) *html.Node {
	w.t.Helper()
	rec := w.get(path)
	if rec.Code != status || rec.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		w.t.Fatalf("GET %s: %d %v", path, rec.Code, rec.Header())
	}
	root, err := html.Parse(rec.Body)
	if err != nil {
		w.t.Fatalf("GET %s: %v", path, err)
	}
	return root
}

// find returns the elements that match a selector: steps of name, #id, .class and [attribute] or [attribute=value],
// separated by spaces.
func find(root *html.Node, selector string) []*html.Node {
	found := []*html.Node{root}
	for _, step := range strings.Fields(selector) {
		var next []*html.Node
		seen := make(map[*html.Node]bool)
		for _, n := range found {
			for d := range n.Descendants() {
				if matches(d, step) && !seen[d] {
					seen[d] = true
					next = append(next, d)
				}
			}
		}
		found = next
	}
	return found
}

var selectorPart = regexp.MustCompile(`^[a-z0-9]+|#[\w-]+|\.[\w-]+|\[[\w-]+(=[^\]]*)?\]`)

func matches(n *html.Node, step string) bool {
	if n.Type != html.ElementNode {
		return false
	}
	for _, part := range selectorPart.FindAllString(step, -1) {
		switch part[0] {
		case '#':
			if attribute(n, "id") != part[1:] {
				return false
			}
		case '.':
			if !strings.Contains(" "+attribute(n, "class")+" ", " "+part[1:]+" ") {
				return false
			}
		case '[':
			name, value, valued := strings.Cut(part[1:len(part)-1], "=")
			if got, ok := lookUp(n, name); !ok || valued && got != value {
				return false
			}
		default:
			if n.Data != part {
				return false
			}
		}
	}
	return true
}

func attribute(n *html.Node, name string) string {
	value, _ := lookUp(n, name)
	return value
}

func lookUp(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// text is what an element says, with single spaces.
func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		switch {
		case d.Type == html.TextNode:
			b.WriteString(d.Data)
		case d.Data == "br":
			b.WriteByte(' ')
		}
	}
	return strings.Join(strings.FieldsFunc(b.String(), func(r rune) bool { return r == ' ' || r == '\n' || r == '\t' }), " ")
}

func texts(root *html.Node, selector string) []string {
	var all []string
	for _, n := range find(root, selector) {
		all = append(all, text(n))
	}
	return all
}

// shows checks the texts of the elements that match a selector.
func shows(t *testing.T, root *html.Node, selector string, want ...string) {
	t.Helper()
	if got := texts(root, selector); !reflect.DeepEqual(got, want) {
		t.Errorf("%s shows %q, want %q", selector, got, want)
	}
}

func TestOrderPage(t *testing.T) {
	w := newWorld(t)
	id := w.eventful()
	p := w.page(200, "/orders/"+id.String())
	shows(t, p, "title", "Order "+domain.Number(id)+" – Order ledger")
	shows(t, p, "h1", domain.Number(id))
	shows(t, p, ".hero .lead .status", "Partially shipped")
	shows(t, p, ".promise strong", "3 Dec 2026")
	shows(t, p, ".walk li .name", "Submitted", "Accepted", "Routed", "Confirmed", "In fulfilment", "Partly shipped", "Delivered")
	shows(t, p, ".walk .half .name", "Partly shipped")
	if n := len(find(p, ".walk .done time[datetime]")); n != 5 {
		t.Errorf("%d steps with a time", n)
	}
	shows(t, p, ".lines tbody strong", "LENS-50", "MOUNT-M")
	shows(t, p, ".lines td[data-th=Shipped]", "2", "0")
	shows(t, p, ".lines td[data-th=Delivered]", "1", "0")
	shows(t, p, ".lines td[data-th=Promised]", "3 Dec 2026 requested 1 Dec 2026", "3 Dec 2026")
	if bars := find(p, ".lines svg.bar"); attribute(bars[0], "aria-label") != "67 % shipped, 33 % delivered" {
		t.Errorf("bar %q", attribute(bars[0], "aria-label"))
	}
	shows(t, p, ".totals .sum dd", "3\u00a0770.60\u00a0EUR")
	shows(t, p, ".site h3", "Jena f1 Failed", "Wetzlar f2 Partially shipped")
	shows(t, p, ".site .bad", "the coating machine is down")
	shows(t, p, ".site details summary", "Why Jena?", "Why Wetzlar?")
	shows(t, p, ".site details .row strong", "R2", "R2")
	shows(t, p, ".shipment code", "00340434161094042557")
	shows(t, p, "#h-why", "Why accepted?")
	shows(t, p, ".narrow .facts dt", "channel")
	shows(t, p, ".narrow .facts dd", "web")
	if got := texts(p, ".timeline .text"); len(got) != 9 || got[0] != "Delivered from Wetzlar." || got[5] != "Jena cannot fulfil its part." {
		t.Errorf("timeline %q", got)
	}
	shows(t, p, ".parties dt", "Buyer", "Ship to")
	if got := texts(p, ".parties dd"); !strings.Contains(got[1], "Mariahilfer Straße 12") {
		t.Errorf("parties %q", got)
	}
	body := find(p, "body")[0]
	if got := attribute(body, "data-events"); got != "/v1/orders/"+id.String()+"/events?after="+w.id.String()+"%3A8" {
		t.Errorf("news come from %s", got)
	}
	if len(find(p, "#news[aria-live=polite]")) != 1 || len(find(p, "head noscript")) != 1 || len(find(p, "#order[data-live]")) != 1 {
		t.Error("the page does not move")
	}
}

// The walk, banners and sites of orders that met trouble.
func TestOrderPageInTrouble(t *testing.T) {
	w := newWorld(t)
	page := func(key string, channel string, do ...domain.Action) *html.Node {
		id, _ := w.submit(key, func(s *domain.Submit) {
			if s.Channel = channel; channel == domain.ChannelImport {
				s.Settled = true
			}
		})
		for _, a := range do {
			w.do("main", id, a)
		}
		return w.page(200, "/orders/"+id.String())
	}
	p := page("rejected", "bad")
	shows(t, p, ".note.end", "Rejected: no orders from there.")
	shows(t, p, ".walk .last .name", "Submitted")
	shows(t, p, "#h-why", "Why rejected?")
	if len(find(p, ".walk .off")) != 6 {
		t.Error("the walk goes on")
	}

	p = page("held", "watched")
	shows(t, p, ".note.hold", "On hold: first order of this customer. May be released by fraud.Why?Row V7 of rule set abababab channelwatched")
	shows(t, p, ".walk .now .name", "Submitted")

	p = page("held again", "web", domain.PlaceHold{Reason: domain.Reason{Code: "credit_limit"}, Until: domain.Date{Day: "2026-12-24"}})
	shows(t, p, ".note.hold", "On hold: Credit limit. To be looked at again on 24 Dec 2026.")
	shows(t, p, ".walk .now .name", "Routed")
	shows(t, p, ".lead .status", "On hold")

	p = page("no site left", "web", domain.StartFulfilment{Fulfilment: "f1"},
		domain.ReportFailure{Fulfilment: "f1", Reason: domain.Reason{Code: "fire"}}, domain.ReportFailure{Fulfilment: "f2", Reason: domain.Reason{Code: "flood"}})
	shows(t, p, ".lead .status", "On hold")
	shows(t, p, ".walk .now .name", "Accepted")

	p = page("cancelled", "web", domain.StartFulfilment{Fulfilment: "f1"}, domain.Cancel{Reason: domain.Reason{Code: "changed_mind"}})
	shows(t, p, ".note.end", "Cancelled: Changed mind.")
	shows(t, p, ".walk .last .name", "In fulfilment")
	shows(t, p, ".lines .gone td[data-th=Ordered]", "3 3 cancelled", "25 25 cancelled")
	if len(find(p, ".lines .bar")) != 0 {
		t.Error("a bar of nothing")
	}

	p = page("delivered", "web", domain.Ship{Fulfilment: "f1"}, domain.Deliver{Fulfilment: "f1"},
		domain.Return{Lines: []domain.LineQuantity{{Line: "1", Quantity: domain.Whole(1)}}, Reason: domain.Reason{Code: "broken"}}, domain.Close{})
	shows(t, p, ".lead .status", "Closed")
	shows(t, p, ".lines td[data-th=Delivered]", "3 1 returned", "25")
	if len(find(p, ".walk .done")) != 7 || len(find(p, ".note")) != 0 {
		t.Error("the walk is not over")
	}

	p = page("settled", domain.ChannelImport)
	if len(find(p, ".walk")) != 0 || len(find(p, ".note")) != 1 {
		t.Error("a settled order walks")
	}

	p = page("withdrawn", "web", domain.Withdraw{Winner: "another-ledger"})
	shows(t, p, ".note.end code", "another-ledger")
}

func TestOverviewPage(t *testing.T) {
	w := newWorld(t)
	p := w.page(200, "/")
	shows(t, p, "#counts .empty", "There are no orders yet.")
	first, _ := w.submit("a")
	held, _ := w.submit("b", func(s *domain.Submit) { s.Channel, s.PurchaseOrder = "watched", "PO-88" })
	p = w.page(200, "/")
	shows(t, p, "#counts li strong", "1", "1")
	shows(t, p, "#counts li span", "On hold", "Routed")
	shows(t, p, "#counts li small", "oldest 0\u00a0s", "oldest 7\u00a0min")
	shows(t, p, ".orders a.number", domain.Number(held), domain.Number(first))
	if got := attribute(find(p, "body")[0], "data-events"); !strings.HasPrefix(got, "/v1/notifications?after="+w.id.String()) {
		t.Errorf("news come from %s", got)
	}
	if len(find(p, "nav a[href=/docs]")) != 1 || len(find(p, "form[role=search] input[name=q]")) != 1 {
		t.Error("no way to the documentation, or no search")
	}
	p = w.page(200, attribute(find(p, "#counts .is-on_hold a")[0], "href"))
	shows(t, p, ".orders a.number", domain.Number(held))
	p = w.page(200, "/?q=po-88")
	shows(t, p, ".orders a.number", domain.Number(held))
	p = w.page(200, "/?q=1+2+3+4+5+6+7+8+9")
	shows(t, p, ".note", "A search has at most eight words.")
	shows(t, w.page(200, "/?q=nothing"), "#orders .empty", "No orders.")

	number := strings.ToLower(domain.Number(held))
	if rec := w.get("/?q=" + number); rec.Code != http.StatusSeeOther || rec.Header().Get("Location") != "/orders/"+held.String() {
		t.Errorf("a whole number: %d %s", rec.Code, rec.Header().Get("Location"))
	}
}

func TestOverviewPages(t *testing.T) {
	w := newWorld(t)
	for i := range 30 {
		w.submit(string(rune('A' + i)))
	}
	p := w.page(200, "/?q=lens&status=routed")
	next := find(p, "#orders a.more")
	if len(find(p, ".orders tbody tr")) != 25 || len(next) != 1 {
		t.Fatal("the first page")
	}
	p = w.page(200, attribute(next[0], "href"))
	if len(find(p, ".orders tbody tr")) != 5 || len(find(p, "#orders a.more")) != 0 {
		t.Error("the second page")
	}
	shows(t, w.page(400, "/?cursor=x"), "h1", "Invalid cursor")
}

func TestHistoryPage(t *testing.T) {
	w := newWorld(t)
	id := w.eventful()
	path := "/orders/" + id.String() + "/history"
	var walked []string
	for next := path + "?revision=0"; next != ""; {
		p := w.page(200, next)
		walked = append(walked, text(find(p, "h1")[0]))
		if got := texts(p, ".timeline [aria-current=step] .text"); len(got) != 1 || got[0] != walked[len(walked)-1] {
			t.Errorf("%s: current %q", next, got)
		}
		next = ""
		if later := find(p, "a[rel=next]"); len(later) == 1 {
			next = attribute(later[0], "href")
		}
	}
	if len(walked) != 9 || walked[3] != "Jena cannot fulfil its part." {
		t.Errorf("%q", walked)
	}
	p := w.page(200, path+"?revision=6")
	shows(t, p, ".lead", "In fulfilment after step 7 of 9")
	shows(t, p, ".diff td[data-th=Field]", "fulfilments[f2].phase")
	shows(t, p, ".diff del", "confirmed")
	shows(t, p, ".diff ins", "started")
	if got := attribute(find(p, "a[rel=prev]")[0], "href"); got != path+"?revision=5" {
		t.Errorf("earlier leads to %s", got)
	}
	p = w.page(200, path+"?revision=0")
	if got := texts(p, ".diff code"); !strings.Contains(strings.Join(got, " "), "lines[1].sku") {
		t.Errorf("fields %q", got)
	}
	shows(t, p, ".diff td[colspan]", "personal data, not shown in history")
	shows(t, w.page(200, path), ".lead", "Partially shipped after step 9 of 9")
	shows(t, w.page(404, path+"?revision=9"), "h1", "Unknown moment")
	shows(t, w.page(400, path+"?revision=x"), "h1", "Invalid moment")
}

// Pages of another business unit link to each other.
func TestPagesKeepTheBusinessUnit(t *testing.T) {
	w := newWorld(t)
	id := orderID("eu", "a")
	w.do("eu", id, simple())
	const unit = "?business_unit=eu"
	p := w.page(200, "/"+unit)
	shows(t, p, ".unit", "eu")
	order := attribute(find(p, ".orders a.number")[0], "href")
	if order != "/orders/"+id.String()+unit {
		t.Errorf("link %s", order)
	}
	p = w.page(200, order)
	if events := attribute(find(p, "body")[0], "data-events"); !strings.HasSuffix(events, "&business_unit=eu") {
		t.Errorf("news come from %s", events)
	}
	p = w.page(200, attribute(find(p, "#h-timeline a")[0], "href"))
	w.page(200, attribute(find(p, ".eyebrow a")[0], "href"))
	w.page(404, "/orders/"+id.String())
	w.page(404, "/orders/"+id.String()+"/history")
	if rec := w.get("/?business_unit=%3Cb%3E"); rec.Code != 400 || strings.Contains(rec.Body.String(), "<b>") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// A page waits for the mark of a write, and says so when it does not come.
func TestPagesTakeMarks(t *testing.T) {
	w := newWorld(t)
	id, mark := w.submit("a")
	w.page(200, "/orders/"+id.String()+"?mark="+mark.String())
	shows(t, w.page(400, "/?mark=x"), "h1", "Invalid mark")
	w.paused = true
	_, mark = w.submit("b")
	shows(t, w.page(200, "/"), "#fresh", "3 events, "+behind(w)+" s behind the ledger · 20 Nov 2026 08:44 UTC")
	_ = mark
}

// behind is what the server last said about its lag.
func behind(w *world) string {
	_, seconds, _ := strings.Cut(w.get("/v1/counts").Header().Get("Orderledger-Lag"), ";")
	return seconds
}

const hostile = `<script>alert(1)</script>"'>&amp;` + "\u202e\u05d0\u0627" + `{{.}}</title><img src=x onerror=alert(1)>`

// Whatever stands in an order, its pages show it as text.
func TestInjection(t *testing.T) {
	w := newWorld(t)
	id := orderID("main", "h")
	reason := domain.Reason{Code: "x", Text: hostile}
	person := domain.Person{Name: hostile, Contact: hostile, Street: []string{hostile}, PostalCode: hostile, City: hostile, Email: hostile, Phone: hostile}
	party := domain.Party{Identifiers: []domain.Identifier{{Scheme: "customer", Value: hostile}}, Country: "DE", Region: "BY"}
	submit := domain.Submit{
		Details: domain.Details{
			Channel: hostile, PurchaseOrder: hostile, Currency: "EUR", References: []domain.Reference{{Kind: hostile, Value: hostile}},
			Parties:    domain.Parties{Buyer: party, ShipTo: party, BillTo: party, Payer: party, EndCustomer: party},
			Terms:      domain.Terms{Incoterms: domain.Incoterms{Rule: "DAP", Version: "2020", Place: hostile}, Payment: hostile},
			Documents:  []domain.Document{{Name: hostile, SHA256: strings.Repeat("ab", 32), Size: 1, MediaType: "text/plain"}},
			Extensions: []domain.Extension{{Name: "note", Value: hostile}},
		},
		Lines: []domain.Line{{SKU: hostile, BuyerSKU: hostile, BuyerLine: hostile, Description: hostile, Quantity: domain.Whole(2), Price: domain.Price{Amount: domain.Whole(1)},
			Configuration: domain.Configuration{Schema: hostile, Data: hostile}}},
		Personal: w.seal(domain.Personal{Buyer: person, ShipTo: person, BillTo: person, Payer: person, EndCustomer: person, Instructions: hostile,
			Lines: []domain.PersonalLine{{Line: "1", Configuration: hostile, Text: hostile}}}, id, "k"),
	}
	w.do("main", id, submit)
	for _, a := range []domain.Action{
		domain.PlaceHold{Reason: reason, Role: hostile}, domain.Release{Reason: reason}, domain.PlaceHold{Reason: reason, Role: hostile}, domain.Release{Hold: "h2"},
		domain.Reroute{Fulfilment: "f1", Site: hostile, Reason: reason},
		domain.Confirm{Fulfilment: "f2", Confirmation: domain.Confirmation{Outcome: domain.AcceptsWithChanges, Reference: hostile, Reason: reason}},
		domain.Ship{Fulfilment: "f2", Shipment: domain.Shipment{ID: hostile, Carrier: hostile, Tracking: hostile, Lines: []domain.LineQuantity{{Line: "1", Quantity: domain.Whole(1)}}}},
		domain.PlaceHold{Reason: reason, Role: hostile},
	} {
		w.do("main", id, a)
	}
	pages := []string{"/", "/orders/" + id.String(), "/?q=%3Cscript%3Ealert(1)%3C/script%3E%22%27&status=%22%3E%3Cscript%3E", "/orders/%3Cscript%3E"}
	for _, link := range find(w.page(200, "/orders/"+id.String()+"/history"), ".timeline a") {
		pages = append(pages, attribute(link, "href"))
	}
	if len(pages) < 12 {
		t.Fatalf("only %d pages", len(pages))
	}
	shown := 0
	for _, path := range pages {
		rec := w.get(path)
		body := rec.Body.String()
		p, err := html.Parse(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range find(p, "script") {
			if !strings.HasPrefix(attribute(s, "src"), "/assets/live.") || s.FirstChild != nil {
				t.Errorf("GET %s has a script: %s", path, body)
			}
		}
		for n := range p.Descendants() {
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
					t.Errorf("GET %s has an attribute %s on <%s>", path, a.Key, n.Data)
				}
			}
			if n.Type == html.TextNode && strings.Contains(n.Data, "\u202e") {
				shown++
				if n.Parent.Data != "bdi" {
					t.Errorf("GET %s: text of the order stands in <%s>, where it may turn around what follows", path, n.Parent.Data)
				}
			}
		}
		for _, img := range find(p, "img") {
			if !strings.HasPrefix(attribute(img, "src"), "/assets/") {
				t.Errorf("GET %s has an image", path)
			}
		}
	}
	if shown < 60 {
		t.Errorf("hostile text was shown %d times", shown)
	}
}

// Pages load nothing but files of this server that never change under their name.
func TestAssets(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	seen := make(map[string]bool)
	for _, path := range []string{"/", "/orders/" + id.String(), "/orders/" + id.String() + "/history", "/orders/x"} {
		rec := w.get(path)
		if csp := rec.Header().Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'self'") || strings.Contains(csp, "unsafe") {
			t.Errorf("GET %s: policy %q", path, csp)
		}
		p, err := html.Parse(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		for n := range p.Descendants() {
			for _, a := range n.Attr {
				if (a.Key == "src" || a.Key == "href") && n.Data != "a" {
					seen[a.Val] = true
				}
			}
		}
		if len(find(p, "style")) > 0 {
			t.Errorf("GET %s has a style of its own", path)
		}
	}
	if len(seen) != 3 {
		t.Errorf("assets: %v", seen)
	}
	for asset := range seen {
		rec := w.get(asset)
		if rec.Code != 200 || rec.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" || rec.Body.Len() == 0 || rec.Header().Get("Content-Type") == "" {
			t.Errorf("GET %s: %d %v", asset, rec.Code, rec.Header())
		}
		if strings.Contains(strings.ReplaceAll(rec.Body.String(), "http://www.w3.org/2000/svg", ""), "://") {
			t.Errorf("%s refers to another place", asset)
		}
	}
	for _, path := range []string{"/assets/style.css", "/assets/", "/assets/..%2freadapi.go", "/assets/style.000000000000.css"} {
		if rec := w.get(path); rec.Code != 404 {
			t.Errorf("GET %s: %d", path, rec.Code)
		}
	}
}
