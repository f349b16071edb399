package readapi_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/readapi"
)

func historyPath(id uuid.UUID) string { return "/v1/history/orders/" + id.String() }

func TestHistory(t *testing.T) {
	w := newWorld(t)
	id := w.eventful()
	h := read[readapi.History](w, historyPath(id))
	if h.Order != id || h.Number != domain.Number(id) || h.Next != nil || len(h.Steps) != 9 {
		t.Fatalf("%+v", h)
	}
	types := []string{"submitted", "accepted", "routed", "fulfilment_failed", "routed", "confirmed", "fulfilment_started", "shipped", "delivered"}
	for i, s := range h.Steps {
		if s.Revision != uint64(i) || s.After.Revision != uint64(i) || s.Type != "order."+types[i]+".v1" || s.Actor.Subject != "ada" || s.Actor.Issuer != "local" ||
			s.Cause.Correlation != "corr-1" || s.Command == uuid.Nil || s.Occurred.IsZero() || s.Recorded.IsZero() || s.Position == 0 || len(s.Changes) == 0 {
			t.Errorf("step %d: %+v", i, s)
		}
	}
	failed := h.Steps[3]
	var event struct {
		Fulfilment string
		Reason     domain.Reason
	}
	if err := json.Unmarshal(failed.Event, &event); err != nil || event.Fulfilment != "f1" || event.Reason.Code != "machine_down" {
		t.Errorf("%v: %s", err, failed.Event)
	}
	if failed.Text != "Jena cannot fulfil its part." || failed.After.Status != domain.StatusAccepted || failed.After.Fulfilments[0].Phase != domain.PhaseFailed {
		t.Errorf("%+v", failed)
	}
	if c := change(h.Steps[6].Changes, "fulfilments[f2].phase"); string(c.Before) != `"confirmed"` || string(c.After) != `"started"` {
		t.Errorf("%+v", h.Steps[6].Changes)
	}
	if c := change(h.Steps[0].Changes, "personal"); !c.Sealed || c.After != nil {
		t.Errorf("%+v", h.Steps[0].Changes)
	}
	var got []readapi.Step
	for next := uint64(0); ; {
		page := read[readapi.History](w, fmt.Sprintf("%s?limit=4&from=%d", historyPath(id), next))
		got = append(got, page.Steps...)
		if page.Next == nil {
			break
		}
		next = *page.Next
	}
	for i := range got {
		if len(got) != 9 || got[i].EventID != h.Steps[i].EventID || got[i].Text != h.Steps[i].Text {
			t.Errorf("by pages: step %d of %d: %+v", i, len(got), got[i])
		}
	}
	if h := read[readapi.History](w, "/v1/history/orders/"+domain.Number(id)); h.Order != id {
		t.Errorf("by number: %+v", h)
	}
	w.refused(404, "unknown_order", historyPath(id)+"?business_unit=eu")
}

func change(list []readapi.Change, path string) readapi.Change {
	for _, c := range list {
		if c.Path == path {
			return c
		}
	}
	return readapi.Change{}
}

func TestStateAtAMoment(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	submitted := w.now
	w.submit("another")
	w.do("main", id, domain.StartFulfilment{Fulfilment: "f1"})
	started := w.now
	w.do("main", id, domain.Ship{Fulfilment: "f1"})
	path := historyPath(id) + "/state"
	steps := read[readapi.History](w, historyPath(id)).Steps
	at := func(t time.Time) string { return url.QueryEscape(t.Format(time.RFC3339Nano)) }
	for query, revision := range map[string]uint64{
		"":            4,
		"?revision=0": 0,
		"?revision=3": 3,
		fmt.Sprintf("?position=%d", steps[3].Position):   3,
		fmt.Sprintf("?position=%d", steps[3].Position-1): 2,
		"?position=4000":                                      4,
		"?at=" + at(steps[3].Recorded):                        3,
		"?at=" + at(steps[3].Recorded.Add(-1)):                2,
		"?clock=occurred&at=" + at(started):                   3,
		"?clock=occurred&at=" + at(started.Add(-time.Second)): 2,
		"?clock=occurred&at=" + at(submitted):                 2,
		"?clock=recorded&at=" + at(time.Now().Add(time.Hour)): 4,
		"?at=" + url.QueryEscape("2999-01-01T00:00:00+02:00"): 4,
	} {
		s := read[readapi.Step](w, path+query)
		if s.Revision != revision || s.After.Revision != revision || s.Text != steps[revision].Text || s.After.Status != steps[revision].After.Status {
			t.Errorf("%s: revision %d %q, want %d", query, s.Revision, s.Text, revision)
		}
	}
	for _, query := range []string{"?revision=5", "?position=0", "?at=1999-01-01T00:00:00Z", "?clock=occurred&at=" + at(submitted.Add(-time.Second))} {
		w.refused(404, "unknown_moment", path+query)
	}
	for _, query := range []string{"?revision=x", "?revision=-1", "?revision=2026-01-01T00:00:00Z", "?position=x", "?at=5", "?at=yesterday", "?revision=1&position=1", "?revision=1&at=2026-01-01T00:00:00Z"} {
		w.refused(400, "invalid_moment", path+query)
	}
	w.refused(400, "invalid_parameter", path+"?clock=mine")
	w.refused(404, "unknown_order", path+"?revision=5&business_unit=eu")
	w.refused(404, "unknown_order", path+"?business_unit=eu")
}

func TestDiff(t *testing.T) {
	w := newWorld(t)
	id := w.eventful()
	steps := read[readapi.History](w, historyPath(id)).Steps
	path := historyPath(id) + "/diff"
	d := read[readapi.Difference](w, path+"?from=5&to=7")
	if d.Order != id || d.Number != domain.Number(id) || d.From != 5 || d.To != 7 {
		t.Errorf("%+v", d)
	}
	if c := change(d.Changes, "fulfilments[f2].phase"); string(c.Before) != `"confirmed"` || string(c.After) != `"started"` {
		t.Errorf("%+v", d.Changes)
	}
	if d := read[readapi.Difference](w, path+"?from=8"); d.Changes == nil || len(d.Changes) != 0 || d.To != 8 {
		t.Errorf("from the newest step to now: %+v", d)
	}
	if d := read[readapi.Difference](w, path+"?from=7&to=5"); d.From != 7 || string(change(d.Changes, "fulfilments[f2].phase").After) != `"confirmed"` {
		t.Errorf("backwards: %+v", d)
	}
	if d := read[readapi.Difference](w, fmt.Sprintf("%s?from=position:%d&to=%s&clock=occurred", path, steps[2].Position, url.QueryEscape(steps[6].Occurred.Format(time.RFC3339)))); d.From != 2 || d.To != 6 {
		t.Errorf("%+v", d)
	}
	for _, query := range []string{"?from=x", "?from=0&to=x", "?from=position:x", "?from=position:-1"} {
		w.refused(400, "invalid_moment", path+query)
	}
	w.refused(400, "missing_parameter", path)
	w.refused(404, "unknown_moment", path+"?from=0&to=9")
	w.refused(404, "unknown_moment", path+"?from=9")
}

// The answer stays bounded although each step has the whole order.
func TestHistoryOfALargeOrder(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("large", func(s *domain.Submit) {
		for range 2998 {
			s.Lines = append(s.Lines, s.Lines[1])
		}
	})
	h := read[readapi.History](w, historyPath(id))
	if len(h.Steps) != 1 || h.Next == nil || *h.Next != 1 {
		t.Errorf("%d steps, next %v", len(h.Steps), h.Next)
	}
}

// The history of an order that is parked can be read up to the event that nobody understands.
func TestHistoryOfAParkedOrder(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	w.paused = true
	w.do("main", id, domain.StartFulfilment{Fulfilment: "f1"})
	s := read[readapi.Step](w, historyPath(id)+"/state")
	if s.Revision != 3 || s.Text != "Fulfilment started" {
		t.Errorf("a step that the read models lack: %+v", s)
	}
	unseen, _ := w.submit("b")
	if h := read[readapi.History](w, historyPath(unseen)); len(h.Steps) != 3 || h.Steps[0].Text != "Submitted" {
		t.Errorf("an order that they lack: %+v", h)
	}
	w.appendRaw(id, "order.teleported.v1")
	rec := w.refused(500, "internal_error", historyPath(id))
	if strings.Contains(rec.Body.String(), "teleported") || !strings.Contains(w.log.String(), "teleported") {
		t.Errorf("%s; log: %s", rec.Body, w.log)
	}
	if page := w.get("/orders/" + id.String() + "/history"); page.Code != 500 || strings.Contains(page.Body.String(), "teleported") {
		t.Errorf("page: %d", page.Code)
	}
}
