package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
)

// followed is a ledger with events, its deliveries, and a mirror that has made contact while the ledger was empty.
func followed(t *testing.T, n int, log *logBook) (m *mirror.Mirror, source eventstore.Reader, sent []eventstore.Delivery) {
	t.Helper()
	ledger := newLedger(t)
	if log == nil {
		log = new(logBook)
	}
	m = openMirror(t, "", ledger, log.logger())
	catchUp(t, m, ledger)
	fill(t, ledger, n)
	return m, ledger, deliveries(head(t, ledger).Identity, public(t, ledger))
}

func TestReadersSeeWhatLinks(t *testing.T) {
	m, source, sent := followed(t, 6, nil)
	for _, c := range []struct{ deliver, verified, held int }{{0, 1, 0}, {3, 1, 1}, {3, 1, 1}, {5, 1, 2}, {1, 2, 2}, {1, 2, 2}, {2, 4, 1}, {3, 4, 1}, {4, 6, 0}} {
		apply(t, m, sent[c.deliver])
		checkVerified(t, m, public(t, source)[:c.verified])
		if s := m.Status(); s.Held != c.held {
			t.Errorf("after event %d %d deliveries are held, want %d", c.deliver, s.Held, c.held)
		}
	}
	catchUp(t, m, source)
	checkEqual(t, m, public(t, source))
	if h, want := head(t, m), head(t, source); h.Identity != want.Identity || h.Chain != want.Chain {
		t.Errorf("head %+v, want %+v", h, want)
	}
}

func TestABatchMayBeInAnyOrder(t *testing.T) {
	m, source, sent := followed(t, 50, nil)
	slices.Reverse(sent)
	apply(t, m, append(sent, sent...)...)
	checkVerified(t, m, public(t, source))
}

// TestWhatIsHeldIsDurable has everything that was acknowledged count after the mirror is opened again, although its
// ledger is not there any more.
func TestWhatIsHeldIsDurable(t *testing.T) {
	ledger := newLedger(t)
	path := filepath.Join(t.TempDir(), "sub", "..", "source.db")
	m := openMirror(t, path, ledger, nil)
	fill(t, ledger, 10)
	id := head(t, ledger).Identity
	sent := deliveries(id, public(t, ledger))
	apply(t, m, sent[3:6]...) // before the first contact
	empty := changed{Reader: newLedger(t), head: func(h *eventstore.Head) { h.ID = id.ID }}
	if got, known := m.Identity(); known || got.ID != id.ID {
		t.Errorf("identity %v %v before the first contact", got, known)
	}
	catchUp(t, m, empty)
	if s := m.Status(); s.Held != 0 {
		t.Errorf("%d deliveries are held that the ledger did not have when they were there", s.Held)
	}
	apply(t, m, sent[3:]...)
	apply(t, m, sent[1])
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = openMirror(t, path, ledger, nil)
	if s := m.Status(); s.Held != 8 || !s.Known {
		t.Errorf("status %+v, want 8 deliveries held", s)
	}
	apply(t, m, sent[0])
	checkVerified(t, m, public(t, ledger)[:2])
	apply(t, m, sent[2])
	checkVerified(t, m, public(t, ledger))
}

func TestHeldBeforeTheFirstContact(t *testing.T) {
	ledger := newLedger(t)
	m := openMirror(t, "", ledger, nil)
	if !m.NeedsCatchUp(time.Now()) {
		t.Error("nothing tells that the ledger must be read")
	}
	fill(t, ledger, 10)
	apply(t, m, deliveries(head(t, ledger).Identity, public(t, ledger))...)
	if _, err := m.Head(t.Context()); !errors.Is(err, mirror.ErrUnreached) {
		t.Errorf("error %v, want ErrUnreached", err)
	}
	if got := public(t, m); len(got) > 0 {
		t.Errorf("%d events are shown before the first contact", len(got))
	}
	catchUp(t, m, ledger)
	checkEqual(t, m, public(t, ledger))
	if s := m.Status(); s.Held != 0 || s.Err != nil || s.Lag != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestWhatDoesNotBelongIsNotKept(t *testing.T) {
	var log logBook
	m, source, sent := followed(t, 3, &log)
	foreign, zero, internal := sent[0], sent[0], sent[0]
	foreign.Source = uuid.New()
	e := *sent[0].Event
	e.Position = 0
	zero.Event = &e
	f := *sent[0].Event
	f.Stream = "relay-1"
	internal.Event = &f
	apply(t, m, foreign, zero, internal)
	if s := m.Status(); s.Events != 0 || s.Held != 0 {
		t.Errorf("status %+v, want nothing stored", s)
	}
	if log.count("deliveries of another ledger") != 1 {
		t.Errorf("log %s", &log)
	}
	apply(t, m, sent...)
	checkVerified(t, m, public(t, source))
}

// forge changes what is delivered.
func forge(d eventstore.Delivery, change func(*eventstore.Recorded)) eventstore.Delivery {
	e := *d.Event
	e.Data = bytes.Clone(e.Data)
	change(&e)
	d.Event, d.Position = &e, e.Position
	return d
}

func TestForgedDeliveries(t *testing.T) {
	for name, change := range map[string]func(*eventstore.Recorded){
		"other data":     func(e *eventstore.Recorded) { e.Data[0] ^= 1 },
		"another stream": func(e *eventstore.Recorded) { e.Stream += "0" },
		"another time":   func(e *eventstore.Recorded) { e.Time = e.Time.Add(1) },
		"another hash":   func(e *eventstore.Recorded) { e.Chain[0] ^= 1 },
		"no hash":        func(e *eventstore.Recorded) { e.Chain, e.Data[0] = eventstore.Hash{}, 'x' },
		"far ahead":      func(e *eventstore.Recorded) { e.Position += 1 << 40; e.Data[0] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			var log logBook
			m, source, sent := followed(t, 6, &log)
			forged := forge(sent[2], change)
			apply(t, m, sent[0], forged)
			apply(t, m, sent[1], sent[4])
			checkVerified(t, m, public(t, source)[:2])
			catchUp(t, m, source)
			checkEqual(t, m, public(t, source))
			if log.count("level=ERROR") != 1 || log.count("position="+position(forged)) != 1 {
				t.Errorf("log %s", &log)
			}
			if s := m.Status(); s.Held != 0 || s.Lag != 0 {
				t.Errorf("status %+v", s)
			}
			if m.NeedsCatchUp(time.Now()) {
				t.Error("the ledger must be read again")
			}
		})
	}
}

func position(d eventstore.Delivery) string { return strconv.FormatUint(uint64(d.Position), 10) }

// TestForgedLate has a forged delivery come after the true one.
func TestForgedLate(t *testing.T) {
	var log logBook
	m, source, sent := followed(t, 3, &log)
	apply(t, m, sent...)
	if status := confirm(t, m, 0, sent[2].Position); status != http.StatusOK || m.NeedsCatchUp(time.Now()) {
		t.Error("the ledger must be read before anything was forged")
	}
	apply(t, m, forge(sent[1], func(e *eventstore.Recorded) { e.Data[0] ^= 1; e.Chain[0] ^= 1 }))
	if log.count("level=ERROR") != 1 || !m.NeedsCatchUp(time.Now()) {
		t.Errorf("needed: %v, log %s", m.NeedsCatchUp(time.Now()), &log)
	}
	checkEqual(t, m, public(t, source))
}

// TestTheTrueOneReplacesAForgedOne has the bus alone heal what was forged at the same place.
func TestTheTrueOneReplacesAForgedOne(t *testing.T) {
	var log logBook
	m, source, sent := followed(t, 4, &log)
	apply(t, m, forge(sent[1], func(e *eventstore.Recorded) { e.Data[0] ^= 1 }), sent[3])
	apply(t, m, sent[0], sent[1])
	checkVerified(t, m, public(t, source)[:2])
	apply(t, m, sent[2])
	checkVerified(t, m, public(t, source))
	if log.count("level=ERROR") != 1 || m.Status().Held != 0 {
		t.Errorf("%d held, log %s", m.Status().Held, &log)
	}
}

func TestWhatIsHeldIsBounded(t *testing.T) {
	for name, limit := range map[string]func(*mirror.Mirror){
		"in events": func(m *mirror.Mirror) { m.Limit(20, 1<<20, 1000, 256) },
		"in bytes":  func(m *mirror.Mirror) { m.Limit(1000, 20*130, 1000, 256) },
	} {
		t.Run(name, func(t *testing.T) {
			m, source, sent := followed(t, 100, nil)
			limit(m)
			for _, d := range sent[1:] {
				apply(t, m, d)
			}
			if s := m.Status(); s.Held < 10 || s.Held > 20 {
				t.Errorf("%d deliveries are held", s.Held)
			}
			if !m.NeedsCatchUp(time.Now()) {
				t.Error("nothing tells that the ledger must be read")
			}
			apply(t, m, sent[0])
			if s := m.Status(); s.Held != 0 || s.Events < 10 || s.Events > 21 {
				t.Errorf("%d events, %d held", s.Events, s.Held)
			}
			catchUp(t, m, source)
			checkEqual(t, m, public(t, source))
		})
	}
}

// TestAcknowledgedIsOnTheDisk has a transaction wait for the disk: the bus forgets what was acknowledged, and a client
// was told that it outlasts the ledger.
func TestAcknowledgedIsOnTheDisk(t *testing.T) {
	const everyCommit = 2 // FULL; with NORMAL, a log that is written ahead is synced now and then
	m := openMirror(t, "", newLedger(t), nil)
	if level, err := m.Synchronous(t.Context()); err != nil || level != everyCommit {
		t.Errorf("SQLite syncs at level %d (%v)", level, err)
	}
}

func TestTheDiskIsFull(t *testing.T) {
	m, source, sent := followed(t, 400, nil)
	apply(t, m, sent[:10]...)
	if err := m.Room(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := m.Apply(t.Context(), sent[10:]); err == nil {
		t.Fatal("deliveries were taken that have no room")
	}
	if s := m.Status(); s.Err == nil || s.Since.IsZero() {
		t.Errorf("status %+v", s)
	}
	if err := m.Apply(t.Context(), sent[200:]); err == nil {
		t.Fatal("deliveries were held that have no room")
	}
	if err := m.CatchUp(t.Context(), source); err == nil {
		t.Fatal("events were taken that have no room")
	}
	checkVerified(t, m, public(t, source)[:10])
	if s := m.Status(); s.Held != 0 || !m.NeedsCatchUp(time.Now()) {
		t.Errorf("status %+v", s)
	}
	if err := m.Room(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	apply(t, m, sent[10:200]...)
	checkVerified(t, m, public(t, source)[:200])
	catchUp(t, m, source)
	checkEqual(t, m, public(t, source))
	if s := m.Status(); s.Err != nil {
		t.Errorf("status %+v", s)
	}
}

// TestACommitFails has nothing be seen of a transaction that SQLite does not commit, not even for a moment: who waits for
// an event would take it for durable.
func TestACommitFails(t *testing.T) {
	m, source, sent := followed(t, 20, nil)
	apply(t, m, sent[:10]...)
	before := m.Status()
	// A constraint that is checked when a transaction is committed.
	for _, statement := range []string{
		`CREATE TABLE parents (id INTEGER PRIMARY KEY)`,
		`CREATE TABLE orphans (id INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)`,
		`CREATE TRIGGER orphan AFTER INSERT ON events BEGIN INSERT INTO orphans VALUES (1); END`,
		`PRAGMA foreign_keys = ON`,
	} {
		if err := m.Damage(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Apply(t.Context(), sent[10:]); err == nil || !strings.Contains(err.Error(), "committing") {
		t.Fatalf("the commit fails with %v", err)
	}
	if s := m.Status(); s.Head != before.Head || s.Events != before.Events {
		t.Errorf("after a commit that failed it shows %d events up to position %d, before it were %d up to %d", s.Events, s.Head.Position, before.Events, before.Head.Position)
	}
	now, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Wait(now, 0, sent[10].Position); err == nil {
		t.Error("it has an event that it could not store")
	}
	if err := m.Damage(t.Context(), `DROP TRIGGER orphan`); err != nil {
		t.Fatal(err)
	}
	apply(t, m, sent[10:]...)
	catchUp(t, m, source)
	checkEqual(t, m, public(t, source))
}

func TestNeedsCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, source, sent := followed(t, 10, nil)
		needs := func(want bool, when string) {
			t.Helper()
			if got := m.NeedsCatchUp(time.Now()); got != want {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		// whole tells that an event is the last one of its append.
		whole := func(d eventstore.Delivery) {
			t.Helper()
			if status := confirm(t, m, 0, d.Position); status != http.StatusOK {
				t.Errorf("status %d", status)
			}
		}
		needs(false, "after the first contact")
		apply(t, m, sent[0])
		time.Sleep(19 * time.Millisecond)
		needs(false, "half an append for a moment")
		if s := m.Status(); s.Lag == 0 || s.Behind != 19*time.Millisecond || s.Head.Position != 0 || s.Events != 1 {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Millisecond)
		needs(true, "half an append for long")
		whole(sent[0])
		needs(false, "level")

		apply(t, m, sent[2])
		time.Sleep(249 * time.Millisecond)
		needs(false, "held for a moment")
		time.Sleep(time.Millisecond)
		needs(true, "held for long")
		apply(t, m, sent[1])
		whole(sent[2])
		needs(false, "linked")
		if s := m.Status(); s.Lag != 0 || s.Behind != 0 {
			t.Errorf("status %+v", s)
		}

		apply(t, m, sent[4], sent[6])
		time.Sleep(200 * time.Millisecond)
		apply(t, m, sent[3])
		whole(sent[4])
		time.Sleep(200 * time.Millisecond)
		needs(false, "others have linked")
		time.Sleep(50 * time.Millisecond)
		needs(true, "held since then")
		apply(t, m, sent[5])
		whole(sent[6])
		needs(false, "linked again")

		tick := sent[9]
		tick.Event = nil
		apply(t, m, tick)
		time.Sleep(999 * time.Millisecond)
		needs(false, "told of more for a moment")
		apply(t, m, sent[7]) // not all of it
		whole(sent[7])
		time.Sleep(time.Millisecond)
		needs(true, "told of more for a second")
		if s := m.Status(); s.Lag < 2 || s.Behind != time.Second || s.Source != tick.Position {
			t.Errorf("status %+v", s)
		}
		apply(t, m, sent[8:]...)
		whole(sent[9])
		needs(false, "level again")

		tick.Position += 1000
		apply(t, m, tick)
		time.Sleep(time.Second)
		needs(true, "told a lie")
		catchUp(t, m, source)
		needs(false, "the ledger knows better")
		if s := m.Status(); s.Lag != 0 || s.Behind != 0 {
			t.Errorf("status %+v", s)
		}

		time.Sleep(9999 * time.Millisecond)
		needs(false, "quiet for a moment")
		time.Sleep(time.Millisecond)
		needs(true, "quiet for long")
		tick.Position = sent[9].Position
		apply(t, m, tick)
		needs(false, "a tick")

		later := sent[9]
		later.Incarnation++
		apply(t, m, later)
		needs(true, "another incarnation")
		if s := m.Status(); s.Held != 1 {
			t.Errorf("status %+v", s)
		}
		catchUp(t, m, source)
		needs(false, "there is no such incarnation")
		if s := m.Status(); s.Held != 0 {
			t.Errorf("status %+v", s)
		}

		away := errors.New("away")
		if err := m.CatchUp(t.Context(), changed{Reader: failing{source, away}}); !errors.Is(err, away) {
			t.Errorf("error %v", err)
		}
		needs(true, "after a failure")
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := source.(interface{ Close() error }).Close(); err != nil {
			t.Fatal(err)
		}
	})
}
