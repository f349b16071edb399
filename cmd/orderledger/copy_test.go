package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// localEventStoreDB starts 'orderledger local --eventstore'.
func localEventStoreDB(t *testing.T) (address string) {
	t.Helper()
	address, stop, err := startEventStore(t.TempDir())
	check(t, err)
	t.Cleanup(func() { check(t, stop()) })
	return address
}

func openESDB(t *testing.T, address string) *esdb.Store {
	t.Helper()
	s, err := esdb.Open(t.Context(), esdb.Config{ConnectionString: address, Logger: quiet})
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

// filledLedger makes an embedded ledger with so many orders of one event, and returns its address.
func filledLedger(t *testing.T, orders int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	ledger, err := pebblestore.Open(dir, &pebblestore.Config{Logger: quiet})
	check(t, err)
	appendOrders(t, ledger, 0, orders)
	check(t, ledger.Close())
	return "pebble:" + dir
}

func appendOrders(t *testing.T, ledger eventstore.Appender, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		e := eventstore.Event{ID: uuid.New(), Type: "test.happened.v1", Metadata: []byte(`{"command":"1"}`), Data: fmt.Appendf(nil, `{"n":%d}`, i)}
		_, err := ledger.Append(t.Context(), fmt.Sprintf("order-%d", i), eventstore.NoStream, []eventstore.Event{e})
		check(t, err)
	}
}

// A copy that is killed, again and again, goes on where it was.
func TestCopyIsKilled(t *testing.T) {
	source := filledLedger(t, 3_000)
	random := seeded(t)
	for name, pair := range map[string][2]string{
		"to EventStoreDB":       {source, localEventStoreDB(t)},
		"to an embedded ledger": {source, "pebble:" + t.TempDir()},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"copy", "--from", pair[0], "--to", pair[1]}
			killed := 0
			for range 20 {
				c := exec.Command("orderledger", args...)
				check(t, c.Start())
				kill := time.AfterFunc(time.Duration(10+random.IntN(60))*time.Millisecond, func() { _ = c.Process.Kill() })
				err := c.Wait()
				kill.Stop()
				if err == nil {
					return // it was faster; what has been copied was checked
				}
				killed++
			}
			code, stdout, stderr := command(t, append(args, "--json")...)
			finished := code == exitRefused && strings.Contains(stderr, "incarnation 1") // just before the last one was killed
			if code != exitOK && !finished {
				t.Fatalf("after %d kills: exit code %d\n%s%s", killed, code, stdout, stderr)
			}
		})
	}
}

// What the original takes while it is copied is copied by the next run.
func TestCopyOfALedgerInUse(t *testing.T) {
	address, target := localEventStoreDB(t), "pebble:"+t.TempDir()
	source := openESDB(t, address)
	appendOrders(t, source, 0, 200)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := 200; ctx.Err() == nil; i++ {
			appendOrders(t, source, i, i+1)
		}
	})
	code, _, stderr := command(t, "copy", "--from", address, "--to", target)
	if code != exitRefused || !strings.Contains(stderr, "more events meanwhile") {
		t.Errorf("while there are writers: exit code %d, %s", code, stderr)
	}
	stop()
	writing.Wait()
	mustCommand(t, "copy", "--from", address, "--to", target)
	mustCommand(t, "verify", "ledger", "--ledger", target)
}

func TestCopyOfAnotherHistory(t *testing.T) {
	source := filledLedger(t, 10)
	ledger, err := pebblestore.Open(strings.TrimPrefix(source, "pebble:"), &pebblestore.Config{ReadOnly: true, Logger: quiet})
	check(t, err)
	head, err := ledger.Head(t.Context())
	check(t, err)
	var events []eventstore.Recorded
	for e, err := range ledger.ReadAll(t.Context(), 0, public) {
		check(t, err)
		events = append(events, e)
	}
	check(t, ledger.Close())
	changed := events[2]
	changed.Time = changed.Time.Add(time.Nanosecond)
	longer := events[9]
	longer.Stream = "order-10"
	for name, begun := range map[string][]eventstore.Recorded{
		"changed": {events[0], events[1], changed, events[3]},
		"longer":  append(events[:10:10], longer),
	} {
		target := t.TempDir()
		c, err := pebblestore.OpenCopy(target, &pebblestore.Config{Logger: quiet}, head.Identity)
		check(t, err)
		check(t, errors.Join(c.Add(t.Context(), begun), c.Close()))
		if code, stdout, stderr := command(t, "copy", "--from", source, "--to", "pebble:"+target); code != exitRefused {
			t.Errorf("%s: exit code %d\n%s%s", name, code, stdout, stderr)
		}
		code, _, _ := command(t, "ledger", "begin-incarnation", "--data", target)
		if code != exitUsage {
			t.Errorf("%s: an unfinished copy goes on: exit code %d", name, code)
		}
	}
}

// The relay and the read models have seen the chain. What they have seen must still be there.
func TestVerifyOverEventStoreDB(t *testing.T) {
	for name, c := range map[string]struct {
		position int // of a made-up checkpoint, counted from the last event
		chain    bool
		want     string
	}{
		"as it was":             {0, true, ""},
		"another history":       {0, false, "the history up to here is another one"},
		"a cut-off end":         {1000, false, "its end was cut off"},
		"an event that is gone": {-1, false, "which is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			address, data := localEventStoreDB(t), t.TempDir()
			s := openESDB(t, address)
			appendOrders(t, s, 0, 3)
			_, err := s.Append(t.Context(), "relay-other", eventstore.NoStream, []eventstore.Event{{ID: uuid.New(), Type: "x.v1", Data: []byte("{}")}})
			check(t, err)
			appendOrders(t, s, 3, 4)
			var end chainEnd
			for e, err := range s.ReadAll(t.Context(), 0, public) {
				check(t, err)
				check(t, end.follow(&e))
			}
			if !c.chain {
				end.chain[0]++
			}
			checkpoint := fmt.Appendf(nil, `{"position":%d,"chain":%q,"lanes":null}`, int(end.position)+c.position, end.chain)
			_, err = s.Append(t.Context(), "relay-bus", eventstore.NoStream, []eventstore.Event{{ID: uuid.New(), Type: "relay.checkpoint.v1", Data: checkpoint}})
			check(t, err)
			code, stdout, stderr := command(t, "verify", "ledger", "--ledger", address, "--data", data)
			switch {
			case c.want == "" && (code != exitOK || !strings.Contains(stdout, "4 events") || strings.Contains(stdout, "vouches")):
				t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
			case c.want != "" && (code != exitDifferent || !strings.Contains(stderr, c.want)):
				t.Errorf("exit code %d, want one that says %q\n%s%s", code, c.want, stdout, stderr)
			}
			appendOrders(t, s, 4, 5)
			if c.want == "" {
				if stdout := mustCommand(t, "verify", "ledger", "--ledger", address, "--data", data); !strings.Contains(stdout, "no anchor vouches") {
					t.Errorf("nothing vouches for the newest event, and it says\n%s", stdout)
				}
			}
		})
	}
}
