package esdbserver_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

// until collects what a subscription brings, one word each, up to a word.
func until(t *testing.T, s *esdb.Subscription, last string) string {
	t.Helper()
	var words []string
	for {
		e := s.Recv()
		word := ""
		switch {
		case e.EventAppeared != nil:
			word = fmt.Sprintf("%d:%s", e.EventAppeared.OriginalEvent().EventNumber, e.EventAppeared.OriginalEvent().EventType)
		case e.CheckPointReached != nil:
			word = fmt.Sprintf("@%d", e.CheckPointReached.Commit)
		case e.CaughtUp != nil:
			word = "caughtup"
		case e.SubscriptionDropped != nil:
			word = "dropped"
		}
		words = append(words, word)
		if word == last || word == "dropped" {
			return strings.Join(words, " ")
		}
	}
}

func TestSubscribeToAStream(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from esdb.StreamPosition
		old  string
		live string
	}{
		{esdb.Start{}, "0:t0 1:t1 2:t2 caughtup", "3:t0 4:t1"},
		{esdb.Revision(0), "1:t1 2:t2 caughtup", "3:t0 4:t1"},
		{esdb.Revision(2), "caughtup", "3:t0 4:t1"},
		{esdb.End{}, "caughtup", "3:t0 4:t1"},
		{esdb.Revision(3), "caughtup", "4:t1"},
	} {
		d := open(t)
		d.append("s", esdb.NoStream{}, newEvents(3)...)
		d.append("s1", esdb.NoStream{}, newEvents(3)...)
		sub, err := d.SubscribeToStream(d.ctx, "s", esdb.SubscribeToStreamOptions{From: c.from})
		if err != nil {
			t.Fatal(err)
		}
		if got := until(t, sub, "caughtup"); got != c.old {
			t.Errorf("from %v: %s, want %s", c.from, got, c.old)
		}
		d.append("s1", esdb.Any{}, newEvents(3)...)
		d.append("s", esdb.Any{}, newEvents(2)...)
		if got := until(t, sub, "4:t1"); got != c.live {
			t.Errorf("from %v, later: %s, want %s", c.from, got, c.live)
		}
		if _, err := d.TombstoneStream(d.ctx, "s", esdb.TombstoneStreamOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := until(t, sub, "dropped"); got != "9223372036854775807:$streamDeleted dropped" {
			t.Errorf("from %v, at the tombstone: %s", c.from, got)
		}
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSubscribeToAStreamThatDoesNotExistYet(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, from := range []esdb.StreamPosition{esdb.Start{}, esdb.End{}} {
		stream := fmt.Sprintf("s-%T", from)
		sub, err := d.SubscribeToStream(d.ctx, stream, esdb.SubscribeToStreamOptions{From: from})
		if err != nil {
			t.Fatal(err)
		}
		if got := until(t, sub, "caughtup"); got != "caughtup" {
			t.Errorf("before the first event: %s", got)
		}
		d.append(stream, esdb.NoStream{}, newEvents(2)...)
		if got := until(t, sub, "1:t1"); got != "0:t0 1:t1" {
			t.Errorf("the first events: %s", got)
		}
		d.delete(stream, esdb.Any{})
		d.append(stream, esdb.NoStream{}, newEvents(1)...)
		if got := until(t, sub, "2:t0"); got != "2:t0" {
			t.Errorf("after it was deleted: %s", got)
		}
		_ = sub.Close()
	}
}

func TestSubscribeToAllFromEveryPosition(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.append("s", esdb.NoStream{}, newEvents(40)...)
	all, err := drain(d.ReadAll(d.ctx, esdb.ReadAllOptions{From: esdb.Start{}}, 1000))
	if err != nil {
		t.Fatal(err)
	}
	for i := -1; i < len(all); i += 10 {
		var from esdb.AllPosition = esdb.Start{}
		if i >= 0 {
			from = all[i].Event.Position
		}
		sub, err := d.SubscribeToAll(d.ctx, esdb.SubscribeToAllOptions{From: from})
		if err != nil {
			t.Fatal(err)
		}
		want := strings.TrimSpace(text(all[i+1:]) + " caughtup")
		if got := until(t, sub, "caughtup"); got != want {
			t.Errorf("after event %d: %s, want %s", i, got, want)
		}
		_ = sub.Close()
	}
	sub, err := d.SubscribeToAll(d.ctx, esdb.SubscribeToAllOptions{From: esdb.End{}})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if got := until(t, sub, "caughtup"); got != "caughtup" {
		t.Errorf("from the end: %s", got)
	}
	d.append("s", esdb.Revision(39), newEvent("live"))
	if got := until(t, sub, "40:live"); got != "40:live" {
		t.Errorf("from the end, later: %s", got)
	}
}

func TestFiltersAndCheckpoints(t *testing.T) {
	t.Parallel()
	d := open(t)
	for i := range 10 { // positions 1 to 20
		d.append(fmt.Sprintf("order-%d", i), esdb.NoStream{}, newEvent("order.placed"))
		d.append(fmt.Sprintf("other-%d", i), esdb.NoStream{}, newEvent("$other"))
	}
	head, err := d.store.Head(d.ctx)
	if err != nil || head.Position != 20 {
		t.Fatalf("the head is %d, error %v", head.Position, err)
	}
	for name, f := range map[string]*esdb.SubscriptionFilter{
		"stream prefix": {Type: esdb.StreamFilterType, Prefixes: []string{"none", "order-"}},
		"stream regex":  {Type: esdb.StreamFilterType, Regex: "^order-[0-9]$"},
		"type prefix":   {Type: esdb.EventFilterType, Prefixes: []string{"order."}},
		"type regex":    {Type: esdb.EventFilterType, Regex: "placed$"},
		"no system":     esdb.ExcludeSystemEventsFilter(),
	} {
		sub, err := d.SubscribeToAll(d.ctx, esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: f, MaxSearchWindow: 8, CheckpointInterval: 1})
		if err != nil {
			t.Fatal(err)
		}
		const e = "0:order.placed "
		if got, want := until(t, sub, "caughtup"), strings.Repeat(e, 4)+"@8 "+strings.Repeat(e, 4)+"@16 "+strings.Repeat(e, 2)+"@20 caughtup"; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		_ = sub.Close()
	}
	sub, err := d.SubscribeToAll(d.ctx, esdb.SubscribeToAllOptions{
		From: esdb.Position{Commit: 18, Prepare: 18}, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"order-"}}, MaxSearchWindow: 2, CheckpointInterval: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if got := until(t, sub, "caughtup"); got != "0:order.placed @20 caughtup" {
		t.Errorf("from a checkpoint: %s", got)
	}
	even, err := d.SubscribeToAll(d.ctx, esdb.SubscribeToAllOptions{
		From: esdb.Start{}, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"none"}}, MaxSearchWindow: 5, CheckpointInterval: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer even.Close()
	if got := until(t, even, "caughtup"); got != "@10 @20 caughtup" {
		t.Errorf("a checkpoint at the end: %s", got)
	}
	d.append("other", esdb.NoStream{}, newEvents(9)...)
	d.append("order-x", esdb.NoStream{}, newEvent("live"))
	if got := until(t, sub, "0:live"); got != "@24 @28 0:live" {
		t.Errorf("live: %s", got)
	}
}

func TestFiltersThatAreRefused(t *testing.T) {
	t.Parallel()
	d := open(t)
	for name, o := range map[string]esdb.SubscribeToAllOptions{
		"a look-ahead":      {Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: "^(?!x)"}},
		"a long expression": {Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: strings.Repeat("x", 5000)}},
	} {
		if _, err := d.SubscribeToAll(d.ctx, o); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := d.SubscribeToStream(d.ctx, "$all", esdb.SubscribeToStreamOptions{}); err == nil {
		t.Error("$all was taken for a stream")
	}
	if _, err := regexp.Compile(esdb.ExcludeSystemEventsFilter().Regex); err != nil {
		t.Error(err)
	}
}

// TestSubscriptionsMissNothingWhileTheyCatchUp begins subscriptions while events are written all the time.
func TestSubscriptionsMissNothingWhileTheyCatchUp(t *testing.T) {
	t.Parallel()
	d := open(t)
	const n = 600
	written := make(chan error, 1)
	go func() {
		for i := range n {
			for _, stream := range []string{"s", "s1"} {
				if _, err := d.AppendToStream(d.ctx, stream, esdb.AppendToStreamOptions{}, newEvent(fmt.Sprintf("t%d", i))); err != nil {
					written <- err
					return
				}
			}
		}
		written <- nil
	}()
	for round := range 12 {
		stream, err := d.SubscribeToStream(d.ctx, "s", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
		if err != nil {
			t.Fatal(err)
		}
		all, err := d.SubscribeToAll(d.ctx, esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: "^s$"}})
		if err != nil {
			t.Fatal(err)
		}
		for what, sub := range map[string]*esdb.Subscription{"stream": stream, "$all": all} {
			position := uint64(0)
			for next := 0; next < min(n, 50*(round+1)); {
				e := sub.Recv()
				switch {
				case e.EventAppeared != nil:
					got := e.EventAppeared.OriginalEvent()
					if got.EventNumber != uint64(next) || got.EventType != fmt.Sprintf("t%d", next) || got.Position.Commit <= position {
						t.Fatalf("%s: event %d at %d came after %d at %d", what, got.EventNumber, got.Position.Commit, next-1, position)
					}
					position = got.Position.Commit
					next++
				case e.CheckPointReached != nil:
					if e.CheckPointReached.Commit < position {
						t.Fatalf("%s: a checkpoint at %d came after an event at %d", what, e.CheckPointReached.Commit, position)
					}
					position = e.CheckPointReached.Commit
				case e.SubscriptionDropped != nil:
					t.Fatalf("%s: dropped: %v", what, e.SubscriptionDropped.Error)
				}
			}
			_ = sub.Close()
		}
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}
