package readapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/readapi"
)

// newRegions returns a world that follows another region's ledger, into which the other world writes.
func newRegions(t *testing.T) (here, there *world, regions *[]readapi.Region) {
	t.Helper()
	ledger, err := pebblestore.Open("there", &pebblestore.Config{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closes(t, ledger.Close()) })
	head, err := ledger.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	regions = new([]readapi.Region)
	here = newWorld(t, func(c *readapi.Config) {
		c.Regions = func() []readapi.Region {
			if here != nil && here.asked != nil {
				here.asked()
			}
			return *regions
		}
	})
	there = &world{t: t, ledger: ledger, id: head.ID, keys: here.keys, now: here.now, paused: true}
	*regions = []readapi.Region{
		{Name: "eu", Continent: "Europe", Latitude: 50, Longitude: 8, API: "https://eu.example.com", Ledger: here.id, Here: true, Copy: here.ledger},
		{Name: "us", Continent: "America", Latitude: 40, Longitude: -75, API: "https://us.example.com", Ledger: there.id, Mirror: new(readapi.Mirror)},
	}
	return here, there, regions
}

func TestRegions(t *testing.T) {
	here, there, regions := newRegions(t)
	id, mark := there.submit("over there")
	rec := here.get("/v1/orders/"+id.String(), "Orderledger-Mark: "+mark.String())
	if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "Nothing of that region") {
		t.Errorf("a mark of a region that was not heard of yet: %d %s", rec.Code, rec.Body)
	}

	us := &(*regions)[1]
	us.Copy = there.ledger
	us.Mirror = &readapi.Mirror{Position: 1, Head: mark.Position, Events: 2, Age: time.Minute, Heard: there.now, Problem: "nobody answers"}
	if err := here.projector.Follow(t.Context(), there.ledger); err != nil {
		t.Fatal(err)
	}
	rec = here.get("/v1/orders/"+id.String()+"?mark_wait=1ms", "Orderledger-Mark: "+mark.String())
	if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "This region is 3 events and") || !strings.Contains(rec.Body.String(), "behind region us.") {
		t.Errorf("a mark of a region that this one is behind: %d %s", rec.Code, rec.Body)
	}
	here.catchUp()
	own, _ := here.submit("over here")

	for path, want := range map[string]string{
		"/v1/orders/" + id.String():                               `"source":"` + there.id.String() + `"`,
		"/v1/history/orders/" + id.String():                       `"revision":0`,
		"/v1/history/orders/" + own.String():                      `"revision":0`,
		"/v1/history/orders/" + id.String() + "/state?revision=1": `"revision":1`,
		"/orders/" + id.String() + "/history":                     "History of order",
	} {
		if rec := here.get(path, "Orderledger-Mark: "+mark.String()); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%s: %d, want %s in %s", path, rec.Code, want, rec.Body)
		}
	}

	var list readapi.RegionList
	rec = here.get("/v1/regions")
	if err := json.Unmarshal(rec.Body.Bytes(), &list); err != nil || rec.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", rec.Code, rec.Body, err)
	}
	if n := len(list.Regions); n != 2 {
		t.Fatalf("%d regions, want 2", n)
	}
	eu, other := list.Regions[0], list.Regions[1]
	if !eu.Here || eu.Orders != 1 || eu.Mirror != nil || eu.Passed == nil {
		t.Errorf("this region is %+v", eu)
	}
	if other.Here || other.Orders != 1 || other.Mirror == nil || other.Mirror.Problem != "nobody answers" || other.Mirror.Seconds != 60 || other.Mirror.Heard == nil {
		t.Errorf("the other region is %+v", other)
	}
	rec = here.get("/regions")
	for _, want := range []string{"region is-here", "region is-cut", "nobody answers", `translate(188 40)`} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("the page lacks %q: %s", want, rec.Body)
		}
	}
	us.Mirror = new(readapi.Mirror)
	if rec := here.get("/regions"); !strings.Contains(rec.Body.String(), "region is-unknown") || !strings.Contains(rec.Body.String(), "Not heard of yet") {
		t.Errorf("the page shows a region that was never heard of: %s", rec.Body)
	}
	us.Mirror = &readapi.Mirror{Heard: there.now}
	if rec := here.get("/regions"); !strings.Contains(rec.Body.String(), "region is-well") {
		t.Errorf("the page shows a region that is well: %s", rec.Body)
	}
}

// The order of the ledger that counts is shown, and so is its history.
func TestOrderOfTwoRegions(t *testing.T) {
	here, there, regions := newRegions(t)
	(*regions)[1].Copy = there.ledger
	if err := here.projector.Follow(t.Context(), there.ledger); err != nil {
		t.Fatal(err)
	}
	shown := make(map[uuid.UUID]bool)
	for i := range 20 {
		key := "both" + string(rune('a'+i))
		id, _ := there.submit(key, func(s *domain.Submit) { s.Channel = "there" })
		here.submit(key, func(s *domain.Submit) { s.Channel = "here" })
		winner, channel := there.id, "there"
		if (domain.Claim{Ledger: here.id}).Over(domain.Claim{Ledger: there.id}, id) {
			winner, channel = here.id, "here"
		}
		shown[winner] = true
		var order readapi.Order
		rec := here.get("/v1/orders/" + id.String())
		if err := json.Unmarshal(rec.Body.Bytes(), &order); err != nil || order.Source != winner || order.Channel != channel {
			t.Errorf("the order is shown from %s, channel %s, want %s, %s: %v", order.Source, order.Channel, winner, channel, err)
		}
		if rec := here.get("/v1/history/orders/" + id.String()); !strings.Contains(rec.Body.String(), `"channel":"`+channel+`"`) {
			t.Errorf("the history is another ledger's: %s", rec.Body)
		}
	}
	if len(shown) != 2 {
		t.Error("all orders are shown from one ledger")
	}
	var counts readapi.Counts
	if err := json.Unmarshal(here.get("/v1/counts").Body.Bytes(), &counts); err != nil || counts.Orders != 20 {
		t.Errorf("%d orders are counted, want 20: %v", counts.Orders, err)
	}
}

func TestOneRegion(t *testing.T) {
	w := newWorld(t)
	if rec := w.get("/v1/regions"); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), `"regions":[]`) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := w.get("/regions"); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "There is one region") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}
