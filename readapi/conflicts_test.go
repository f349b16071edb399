package readapi_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/readapi"
)

// dispute lets an order of this region get two conflicts with what the other region has done.
func dispute(here, there *world, key string) uuid.UUID {
	id, _ := here.submit(key)
	for _, c := range []domain.Conflict{
		{Ledger: there.id.String(), Command: uuid.NewString(), Action: "ship", Code: "over_shipment", Revision: 4},
		{Ledger: there.id.String(), Site: "Wetzlar", Fulfilment: "f1", Revision: 2},
	} {
		here.do("main", id, domain.RecordConflict{Conflict: c})
	}
	return id
}

func TestConflicts(t *testing.T) {
	here, there, _ := newRegions(t)
	p := here.page(200, "/conflicts")
	shows(t, p, ".lead", "None is open")
	shows(t, p, "#conflicts .empty", "There is nothing to do.")
	shows(t, here.page(200, "/regions"), "#open-conflicts", "No open conflicts")
	first, second := dispute(here, there, "a"), dispute(here, there, "b")
	here.do("main", second, domain.Settle{Conflict: "c1", Reason: domain.Reason{Code: "shipped_again", Text: "The site has sent it once more"}})

	list := read[readapi.ConflictList](here, "/v1/conflicts")
	if n := len(list.Conflicts); n != 3 || list.Next != "" {
		t.Fatalf("%d conflicts are open, want 3; then %q", n, list.Next)
	}
	site := list.Conflicts[0]
	if site.Order != second || site.Number != domain.Number(second) || site.ID != "c2" || site.Region != "us" || site.Site != "Wetzlar" ||
		site.Settled || site.SettledAt != nil || site.Found.IsZero() || site.Source != here.id ||
		site.Text != "Wetzlar was given the order by another region, and is not needed here." {
		t.Errorf("a site's conflict is %+v", site)
	}
	if c := list.Conflicts[2]; c.Order != first || c.Action != "ship" || c.Code != "over_shipment" || c.Revision != 4 ||
		c.Text != "“Ship” was done in another region and does not count here." {
		t.Errorf("a command's conflict is %+v", c)
	}
	var paged []string
	for path := "/v1/conflicts?all=true&limit=1"; path != ""; {
		part := read[readapi.ConflictList](here, path)
		for _, c := range part.Conflicts {
			paged = append(paged, c.Number+c.ID+c.State())
		}
		if path = ""; part.Next != "" {
			path = "/v1/conflicts?all=true&limit=1&cursor=" + url.QueryEscape(part.Next)
		}
	}
	a, b := domain.Number(first), domain.Number(second)
	if got, want := strings.Join(paged, " "), strings.Join([]string{b + "c2open", a + "c2open", a + "c1open", b + "c1settled"}, " "); got != want {
		t.Errorf("one by one: %s, want %s", got, want)
	}
	part := read[readapi.ConflictList](here, "/v1/conflicts?limit=1")
	here.refused(http.StatusBadRequest, "invalid_cursor", "/v1/conflicts?all=true&cursor="+url.QueryEscape(part.Next))
	if list := read[readapi.ConflictList](here, "/v1/conflicts?all=true&business_unit=other"); len(list.Conflicts) != 0 {
		t.Errorf("another business unit sees %+v", list)
	}

	p = here.page(200, "/conflicts")
	shows(t, p, ".lead", "3 are open")
	shows(t, p, ".orders a.number", b, a, a)
	shows(t, p, "td[data-th=Region]", "us", "us", "us")
	shows(t, p, "td[data-th=State]", "Open", "Open", "Open")
	if got := texts(p, "#conflicts tbody td"); got[3] != "Site Wetzlar was given f1" || got[4] != "The site is not needed here" || got[17] != "Ship" || got[18] != "Over shipment" {
		t.Errorf("the page says %q", got)
	}
	p = here.page(200, attribute(find(p, "#h-conflicts a")[0], "href"))
	shows(t, p, "td[data-th=State]", "Open", "Open", "Open", "Settled The site has sent it once more")
	if link := find(p, "#h-conflicts a"); attribute(link[0], "href") != "/conflicts" {
		t.Errorf("back to %s", attribute(link[0], "href"))
	}
	if len(find(p, "nav a[href=/conflicts]")) != 1 {
		t.Error("the pages have no link to the conflicts")
	}
	shows(t, here.page(200, "/regions"), "#open-conflicts", "3 open conflicts")

	p = here.page(200, "/orders/"+second.String())
	shows(t, p, ".note.hold", "1 open conflict with what another region has done: see below.")
	shows(t, p, "td[data-th=State]", "Settled The site has sent it once more", "Open")
	if got := texts(p, ".timeline li"); !strings.HasPrefix(got[0], "Settled: “Ship” was done in another region and does not count here. The site has sent it once more") ||
		!strings.HasPrefix(got[2], "“Ship” was done in another region and does not count here. Over shipment") {
		t.Errorf("the timeline says %q", got)
	}
	order := read[readapi.Order](here, "/v1/orders/"+second.String())
	if at := attribute(find(p, ".walk .now time")[0], "datetime"); at != order.StatusSince.Format(time.RFC3339) {
		t.Errorf("the order came there at %s, which is not %s", at, order.StatusSince)
	}
	if len(order.Conflicts) != 2 || !order.Conflicts[0].Settled || order.Conflicts[0].Answer.Code != "shipped_again" || order.Conflicts[1].Settled {
		t.Errorf("the order's conflicts are %+v", order.Conflicts)
	}
	notes := read[readapi.Notifications](here, "/v1/notifications?after=0&wait=1ms").Notifications
	var kinds []string
	for _, n := range notes {
		if n.Order == second {
			kinds = append(kinds, n.Kind)
		}
	}
	if got := strings.Join(kinds, " "); got != "submitted accepted routed conflict_found conflict_found conflict_settled" {
		t.Errorf("told is %s", got)
	}
}

func TestConflictsPages(t *testing.T) {
	here, there, _ := newRegions(t)
	for i := range 26 {
		dispute(here, there, string(rune('a'+i)))
	}
	p := here.page(200, "/conflicts?all=true")
	if n := len(find(p, "#conflicts tbody tr")); n != 50 {
		t.Errorf("%d conflicts on the first page, want 50", n)
	}
	links := find(p, "p a.more")
	if len(links) != 1 {
		t.Fatalf("%d links to what follows", len(links))
	}
	p = here.page(200, attribute(links[0], "href"))
	if n := len(find(p, "#conflicts tbody tr")); n != 2 {
		t.Errorf("%d conflicts on the second page, want 2", n)
	}
	here.page(http.StatusBadRequest, "/conflicts?cursor=none")
}

// copyOrder takes an order over from one region into another.
func copyOrder(from, to *world, id uuid.UUID) {
	from.t.Helper()
	var events []eventstore.Event
	var o domain.Order
	for e, err := range from.ledger.ReadStream(from.t.Context(), domain.Stream(id), 0, eventstore.Forward) {
		if err != nil {
			from.t.Fatal(err)
		}
		event, err := domain.DecodeEvent(e.Type, e.Data)
		if err != nil {
			from.t.Fatal(err)
		}
		o, events = domain.Evolve(o, event), append(events, e.Event)
	}
	if _, err := to.ledger.Append(to.t.Context(), domain.Stream(id), eventstore.NoStream, events); err != nil {
		from.t.Fatal(err)
	}
	to.do("main", id, domain.Move{Home: to.id.String(), Source: from.id.String(), Last: o.Revision(), Epoch: o.Epoch + 1})
}

// An order that another region has taken over is the same order, and says where it lives now.
func TestMovedOrder(t *testing.T) {
	here, there, regions := newRegions(t)
	(*regions)[1].Copy, (*regions)[1].Mirror = there.ledger, &readapi.Mirror{Heard: here.now}
	if err := here.projector.Follow(t.Context(), there.ledger); err != nil {
		t.Fatal(err)
	}
	id := dispute(here, there, "moves")
	path := "/v1/orders/" + id.String()
	before := read[readapi.Order](here, path)
	if before.Home != here.id.String() || before.Region != "eu" || before.Epoch != 0 {
		t.Errorf("the order lives in %s, region %q, epoch %d", before.Home, before.Region, before.Epoch)
	}
	place := here.id.String() + ":3"
	copyOrder(here, there, id)
	here.catchUp()

	after := read[readapi.Order](here, path)
	if after.Home != there.id.String() || after.Region != "us" || after.Epoch != 1 || after.Source != there.id || after.Status != before.Status {
		t.Errorf("the order lives in %s, region %q, epoch %d, status %s", after.Home, after.Region, after.Epoch, after.Status)
	}
	if list := read[readapi.ConflictList](here, "/v1/conflicts"); len(list.Conflicts) != 2 {
		t.Errorf("%d conflicts, want each once", len(list.Conflicts))
	}
	events := read[readapi.Progress](here, path+"/events?after="+place, "Accept: application/json").Events
	if len(events) != 2 || events[0].Revision != 4 || events[1].Text != "Moved to region us." {
		t.Errorf("whoever had come to revision 3 hears %+v", events)
	}
	p := here.page(200, "/orders/"+id.String())
	details := strings.Join(texts(p, ".details div"), "|")
	if !strings.Contains(details, "Region us") && !strings.Contains(details, "Regionus") || !strings.Contains(details, "Moved1 time") {
		t.Errorf("the page says %q", details)
	}
	if steps := read[readapi.History](here, "/v1/history/orders/"+id.String()).Steps; steps[len(steps)-1].Text != "Moved to region us." {
		t.Errorf("the history ends with %q", steps[len(steps)-1].Text)
	}
}

// Where another region may have an order, nobody says that there is none.
func TestNotKnownYet(t *testing.T) {
	here, there, regions := newRegions(t)
	unknown := orderID("main", "nobody's")
	paths := []string{
		"/v1/orders/" + unknown.String(), "/v1/orders/" + domain.Number(unknown), "/v1/orders/" + unknown.String() + "/timeline",
		"/v1/orders/" + unknown.String() + "/events", "/v1/history/orders/" + unknown.String(), "/v1/history/orders/" + domain.Number(unknown) + "/state",
	}
	wants := func(status int, code, retry string) {
		t.Helper()
		for _, path := range paths {
			if rec := here.refused(status, code, path); rec.Header().Get("Retry-After") != retry {
				t.Errorf("%s: ask again after %q, want %q", path, rec.Header().Get("Retry-After"), retry)
			}
		}
		here.page(status, "/orders/"+unknown.String())
	}
	us := &(*regions)[1]
	wants(http.StatusServiceUnavailable, "not_known_yet", "10") // never heard of
	us.Mirror = &readapi.Mirror{Heard: here.now, Problem: "cannot be reached"}
	wants(http.StatusServiceUnavailable, "not_known_yet", "10")

	theirs, mark := there.submit("over there")
	us.Copy, us.Mirror = there.ledger, &readapi.Mirror{Heard: here.now, Position: mark.Position, Head: mark.Position}
	paths = paths[:1]
	wants(http.StatusServiceUnavailable, "not_known_yet", "1") // the rows have nothing of it
	if err := here.projector.Follow(t.Context(), there.ledger); err != nil {
		t.Fatal(err)
	}
	wants(http.StatusServiceUnavailable, "not_known_yet", "1") // the rows lack what the mirror has
	here.asked = here.catchUp                                  // what is looked for comes while it is looked for
	if rec := here.get("/v1/orders/" + theirs.String()); rec.Code != http.StatusOK {
		t.Errorf("an order that comes while it is looked for: %d %s", rec.Code, rec.Body)
	}
	here.asked = nil
	us.Mirror = &readapi.Mirror{Heard: here.now, Position: mark.Position, Head: mark.Position + 3}
	wants(http.StatusNotFound, "unknown_order", "") // what the mirror lacks is nothing for rows
	us.Mirror.Events = 1
	wants(http.StatusServiceUnavailable, "not_known_yet", "1")
	us.Mirror = nil
	wants(http.StatusNotFound, "unknown_order", "") // it is not followed

	// What stands in the own ledger is known, whatever the rows show.
	us.Mirror = &readapi.Mirror{Heard: here.now, Problem: "cannot be reached"}
	here.paused = true
	mine, _ := here.submit("mine")
	if steps := read[readapi.History](here, "/v1/history/orders/"+mine.String()).Steps; len(steps) != 3 {
		t.Errorf("%d steps of an order that no row shows", len(steps))
	}
	if rec := here.get("/v1/orders/no-number"); rec.Code != http.StatusNotFound {
		t.Errorf("what cannot be a number: %d %s", rec.Code, rec.Body)
	}
}

// The page of conflicts moves when one is found or settled.
func TestConflictsPageMovesByItself(t *testing.T) {
	ctx := browse(t)
	here, there, _ := newRegions(t)
	id := dispute(here, there, "a")
	dispute(here, there, "b")
	base := here.serve()
	browser(t, ctx, chromedp.Navigate(base+"/conflicts?all=true"), chromedp.WaitVisible(`html[data-live="on"]`))
	here.do("main", id, domain.Settle{Conflict: "c2", Reason: domain.Reason{Code: "site_told", Text: "Wetzlar has taken it back"}})
	browser(t, ctx, chromedp.WaitVisible(`#conflicts .is-settled`))
	screenshot(t, ctx, "conflicts")
	browser(t, ctx, chromedp.Navigate(base+"/orders/"+id.String()), chromedp.WaitVisible(`html[data-live="on"]`))
	screenshot(t, ctx, "order-conflicts")
	browser(t, ctx, chromedp.Navigate(base+"/regions"), chromedp.WaitVisible(`#open-conflicts`))
	screenshot(t, ctx, "regions-conflicts")
}
