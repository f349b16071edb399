package mirror_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// TestRandomBuses delivers a ledger in random order over its lanes, with losses and duplicates, while the ledger grows and
// the mirror is closed, killed and opened again. The verified end must only grow, over exactly the ledger's events, what
// was acknowledged must not be lost, and readers must see all appends that are known to be whole, and no part of another.
func TestRandomBuses(t *testing.T) {
	root := t.TempDir()
	run, failed := 0, false
	rapid.Check(t, func(rt *rapid.T) {
		if run++; run > 6 && !failed { // each step syncs a file; a failure is tried again, to make it small
			return
		}
		defer func() { failed = failed || rt.Failed() }()
		b := newBus(t, rt, filepath.Join(root, fmt.Sprint(run)))
		defer b.close()
		rt.Repeat(map[string]func(*rapid.T){
			"append":  b.append,
			"deliver": b.deliver,
			"lose":    b.lose,
			"repeat":  b.repeat,
			"catchUp": b.catchUp,
			"race":    b.race,
			"confirm": b.confirm,
			"reopen":  b.reopen,
			"kill":    b.kill,
			"":        b.check,
		})
		b.catchUp(rt)
		b.check(rt)
		if got := b.end(rt); len(b.all) > 0 && got != b.all[len(b.all)-1].Position {
			rt.Fatalf("the mirror ends at %d", got)
		}
	})
}

// A bus carries a ledger to a mirror.
type bus struct {
	t      *testing.T
	dir    string
	copies int
	ledger *pebblestore.Store
	mirror *mirror.Mirror

	all   []eventstore.Recorded
	ends  []int                         // how many events there were after each append
	lanes map[int][]eventstore.Delivery // what each still has to carry
	sent  []eventstore.Delivery
	taken map[eventstore.Position]bool // acknowledged

	verified, shown int // how many events must be
}

func newBus(t *testing.T, rt *rapid.T, dir string) *bus {
	b := &bus{t: t, dir: dir, lanes: make(map[int][]eventstore.Delivery), taken: make(map[eventstore.Position]bool)}
	var err error
	if b.ledger, err = pebblestore.Open("data", &pebblestore.Config{FS: vfs.NewMem(), Logger: silent()}); err != nil {
		rt.Fatal(err)
	}
	b.open(rt)
	if rapid.Bool().Draw(rt, "known") {
		b.catchUp(rt)
	}
	return b
}

func (b *bus) path() string { return filepath.Join(b.dir, fmt.Sprint(b.copies), "source.db") }

func (b *bus) open(rt *rapid.T) {
	if err := os.MkdirAll(filepath.Dir(b.path()), 0o700); err != nil {
		rt.Fatal(err)
	}
	m, err := mirror.Open(b.t.Context(), b.path(), mirror.Config{Ledger: head(b.t, b.ledger).ID})
	if err != nil {
		rt.Fatal(err)
	}
	m.Limit(1000, 1<<20, 3, 4)
	b.mirror = m
}

func (b *bus) close() {
	if err := errors.Join(b.mirror.Close(), b.ledger.Close()); err != nil {
		b.t.Error(err)
	}
}

func (b *bus) append(rt *rapid.T) {
	for range rapid.IntRange(1, 8).Draw(rt, "appends") {
		stream := fmt.Sprint(rapid.SampledFrom([]string{"order-", "command-", "relay-"}).Draw(rt, "kind"), rapid.IntRange(0, 3).Draw(rt, "id"))
		n := rapid.IntRange(1, 5).Draw(rt, "events")
		if _, err := b.ledger.Append(b.t.Context(), stream, eventstore.Any, events(n)); err != nil {
			rt.Fatal(err)
		}
		if !eventstore.Internal(stream) {
			last := 0
			if len(b.ends) > 0 {
				last = b.ends[len(b.ends)-1]
			}
			b.ends = append(b.ends, last+n)
		}
	}
	all := public(b.t, b.ledger)
	for _, d := range deliveries(head(b.t, b.ledger).Identity, all)[len(b.all):] {
		b.lanes[d.Lane] = append(b.lanes[d.Lane], d)
	}
	b.all = all
}

// next takes the next delivery of some lane.
func (b *bus) next(rt *rapid.T) (eventstore.Delivery, bool) {
	var busy []int
	for lane := range 64 {
		if len(b.lanes[lane]) > 0 {
			busy = append(busy, lane)
		}
	}
	if len(busy) == 0 {
		return eventstore.Delivery{}, false
	}
	lane := rapid.SampledFrom(busy).Draw(rt, "lane")
	d := b.lanes[lane][0]
	b.lanes[lane] = b.lanes[lane][1:]
	return d, true
}

func (b *bus) deliver(rt *rapid.T) {
	var batch []eventstore.Delivery
	for range rapid.IntRange(1, 12).Draw(rt, "deliveries") {
		if d, ok := b.next(rt); ok {
			batch = append(batch, d)
		}
	}
	if len(batch) > 0 {
		b.apply(rt, batch)
	}
}

func (b *bus) apply(rt *rapid.T, batch []eventstore.Delivery) {
	if err := b.mirror.Apply(b.t.Context(), batch); err != nil {
		rt.Fatal(err)
	}
	for _, d := range batch {
		b.taken[d.Position] = true
	}
	b.sent = append(b.sent, batch...)
	b.link()
}

// link moves what must be verified and shown on.
func (b *bus) link() {
	if !b.mirror.Status().Known { // everything is held
		return
	}
	for b.verified < len(b.all) && b.taken[b.all[b.verified].Position] {
		b.verified++
	}
	b.shown = max(b.shown, whole(b.all[:b.verified]))
}

func (b *bus) lose(rt *rapid.T) { b.next(rt) }

func (b *bus) repeat(rt *rapid.T) {
	if len(b.sent) > 0 {
		b.apply(rt, rapid.SliceOfN(rapid.SampledFrom(b.sent), 1, 8).Draw(rt, "again"))
	}
}

func (b *bus) catchUp(rt *rapid.T) {
	if err := b.mirror.CatchUp(b.t.Context(), b.ledger); err != nil {
		rt.Fatal(err)
	}
	b.verified, b.shown = len(b.all), len(b.all)
}

// race catches up while the ledger grows and the bus delivers, between the ledger's head and its events. The connection
// may break between two of those.
func (b *bus) race(rt *rapid.T) {
	left := rapid.IntRange(0, 12).Draw(rt, "events before the connection breaks")
	broken := errors.New("broken")
	head, from := 0, 0
	err := b.mirror.CatchUp(b.t.Context(), changed{
		Reader: b.ledger,
		head: func(*eventstore.Head) {
			head = len(b.all)
			b.append(rt)
			b.deliver(rt)
			from = b.verified
		},
		fail: func() error {
			if left--; left < 0 {
				return broken
			}
			from++
			return nil
		},
	})
	if err != nil && !errors.Is(err, broken) {
		rt.Fatal(err)
	}
	b.verified = max(b.verified, from)
	b.shown = max(b.shown, whole(b.all[:b.verified]))
	if err == nil {
		b.shown = max(b.shown, head)
	}
}

// confirm has the ledger's region ask whether an append is here.
func (b *bus) confirm(rt *rapid.T) {
	if len(b.ends) == 0 {
		return
	}
	end, want := rapid.SampledFrom(b.ends).Draw(rt, "end"), http.StatusServiceUnavailable
	if end <= b.verified {
		want = http.StatusOK
		b.shown = max(b.shown, end)
	}
	if status := confirm(b.t, b.mirror, 0, b.all[end-1].Position); status != want {
		rt.Fatalf("status %d, want %d", status, want)
	}
}

func (b *bus) reopen(rt *rapid.T) {
	if err := b.mirror.Close(); err != nil {
		rt.Fatal(err)
	}
	b.open(rt)
}

// kill goes on with the files as they are now.
func (b *bus) kill(rt *rapid.T) {
	from := filepath.Dir(b.path())
	b.copies++
	if err := os.CopyFS(filepath.Dir(b.path()), os.DirFS(from)); err != nil {
		rt.Fatal(err)
	}
	if err := b.mirror.Close(); err != nil {
		rt.Fatal(err)
	}
	if err := os.RemoveAll(from); err != nil {
		rt.Fatal(err)
	}
	b.open(rt)
}

func (b *bus) end(rt *rapid.T) eventstore.Position {
	h, err := b.mirror.Head(b.t.Context())
	if err != nil && !errors.Is(err, mirror.ErrUnreached) {
		rt.Fatal(err)
	}
	return h.Position
}

func (b *bus) check(rt *rapid.T) {
	got := public(b.t, b.mirror)
	if len(got) != b.shown {
		rt.Fatalf("%d events are shown, want %d", len(got), b.shown)
	}
	if b.shown > 0 && !slices.Contains(b.ends, b.shown) {
		rt.Fatalf("%d events are shown, and appends end after %d", b.shown, b.ends)
	}
	for i := range got {
		if got[i].Position != b.all[i].Position || got[i].Chain != b.all[i].Chain ||
			!bytes.Equal(eventstore.AppendRecord(nil, &got[i]), eventstore.AppendRecord(nil, &b.all[i])) {
			rt.Fatalf("event %d differs", i)
		}
	}
	if end := b.end(rt); len(got) > 0 && got[len(got)-1].Position != end {
		rt.Fatalf("%d events are shown up to position %d", len(got), end)
	}
	held := 0
	for i := b.verified; i < len(b.all); i++ {
		if b.taken[b.all[i].Position] {
			held++
		}
	}
	if s := b.mirror.Status(); s.Held != held || s.Events != uint64(b.verified) {
		rt.Fatalf("%d events are verified and %d deliveries are held, want %d and %d", s.Events, s.Held, b.verified, held)
	}
	if err := b.mirror.Verify(b.t.Context()); err != nil {
		rt.Fatal(err)
	}
}

// TestKilledWhileWorking copies the files while transactions run, which is what a crash of the process leaves, and has every
// copy hold what was acknowledged before.
func TestKilledWhileWorking(t *testing.T) {
	ledger := newLedger(t)
	path := filepath.Join(t.TempDir(), "source.db")
	m := openMirror(t, path, ledger, nil)
	m.Limit(1000, 1<<20, 3, 64)
	catchUp(t, m, ledger)
	for range 200 {
		fill(t, ledger, 1)
	}
	all := public(t, ledger)
	sent := deliveries(head(t, ledger).Identity, all)
	for i := 0; i < len(sent); i += 20 {
		part := slices.Clone(sent[i:min(i+20, len(sent))])
		rand.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		for _, d := range part[1:] {
			apply(t, m, d)
		}
		before := m.Status()
		copied := filepath.Join(t.TempDir(), "source.db")
		for _, suffix := range []string{"", "-wal"} { // shared memory is made anew
			b, err := os.ReadFile(path + suffix)
			if err == nil {
				err = os.WriteFile(copied+suffix, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		c := openMirror(t, copied, ledger, nil)
		if s := c.Status(); s.Events != before.Events || s.Held != before.Held || s.Head != before.Head {
			t.Fatalf("after the crash %+v, before %+v", s, before)
		}
		checkVerified(t, c, all[:before.Events])
		catchUp(t, c, ledger)
		checkEqual(t, c, all)
		apply(t, m, part[0])
	}
	checkVerified(t, m, all)
}
