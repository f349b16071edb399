package pebblestore

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// TestNothingAcknowledgedIsLostInACrash takes what a disk might hold at some moment under load, and opens that.
func TestNothingAcknowledgedIsLostInACrash(t *testing.T) {
	const crashes, writers, appends = 15, 8, 12
	disk := vfs.NewCrashableMem()
	s := mustOpen(t, "data", &Config{FS: disk})
	defer mustClose(t, s)
	var mu sync.Mutex
	known := make(map[uuid.UUID]spot) // what was acknowledged or seen

	for crash := range crashes {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 0))
		moment, done := make(chan struct{}), 0
		at := 1 + rng.IntN(writers*appends)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for n := range appends {
					events := newEvents(1 + n%4)
					a, err := s.Append(t.Context(), fmt.Sprintf("order-%d", w), eventstore.Any, events)
					if err != nil {
						t.Errorf("Append: %v", err)
					}
					mu.Lock()
					for i, e := range events {
						back := len(events) - 1 - i
						known[e.ID] = spot{a.Revision - uint64(back), a.Position - eventstore.Position(back)}
					}
					if done++; done == at {
						close(moment)
					}
					mu.Unlock()
				}
			})
		}
		<-moment
		mu.Lock()
		want := maps.Clone(known)
		mu.Unlock()
		for e, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			want[e.ID] = spot{e.Revision, e.Position}
		}
		left := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: crash * 100 / (crashes - 1), RNG: rng})
		wg.Wait()

		after := mustOpen(t, "data", &Config{FS: left})
		if err := after.Writable(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		for e, err := range after.ReadAll(t.Context(), 0, eventstore.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if was, ok := want[e.ID]; ok && was != (spot{e.Revision, e.Position}) {
				t.Errorf("seed %d: event %s came back at revision %d, position %d, and was at %+v", seed, e.ID, e.Revision, e.Position, was)
			}
			delete(want, e.ID)
		}
		if len(want) > 0 {
			t.Errorf("seed %d: %d events that were acknowledged or seen are lost", seed, len(want))
		}
		if r, err := after.Verify(t.Context(), nil); err != nil || r.Problem != "" {
			t.Errorf("seed %d: report %+v, error %v", seed, r, err)
		}
		appendOne(t, after, "order-1")
		mustClose(t, after)
	}
}

type spot struct {
	revision uint64
	position eventstore.Position
}

// A fault makes operations on the log fail while it is on.
type fault struct {
	on    atomic.Bool
	kinds map[errorfs.OpKind]bool
	err   error
}

func (f *fault) MaybeError(op errorfs.Op) error {
	if f.on.Load() && f.kinds[op.Kind] && inLog(op) {
		return f.err
	}
	return nil
}

func (f *fault) String() string { return "fault of the log" }

func TestNoWriteIsTakenAfterAFailedOne(t *testing.T) {
	syncs := map[errorfs.OpKind]bool{errorfs.OpFileSync: true, errorfs.OpFileSyncData: true, errorfs.OpFileSyncTo: true}
	writes := map[errorfs.OpKind]bool{errorfs.OpFileWriteAt: true}
	for name, c := range map[string]struct {
		fault *fault
		full  bool
	}{
		"a sync fails":         {fault: &fault{kinds: syncs, err: syscall.EIO}},
		"a write fails":        {fault: &fault{kinds: writes, err: syscall.EIO}},
		"the disk fills up":    {fault: &fault{kinds: writes, err: syscall.ENOSPC}, full: true},
		"the quota is used up": {fault: &fault{kinds: syncs, err: syscall.EDQUOT}, full: true},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewCrashableMem()
			s := mustOpen(t, "data", &Config{FS: errorfs.Wrap(disk, c.fault)})
			appendEvents(t, s, "order-1", 2)
			h := s.durable()

			c.fault.on.Store(true)
			events := newEvents(2)
			_, err := s.Append(t.Context(), "order-1", eventstore.At(1), events)
			if err == nil || eventstore.Unavailable(err) || eventstore.IsConflict(err) {
				t.Errorf("the append under way: error %v, want an unknown outcome", err)
			}
			c.fault.on.Store(false)
			for range 2 {
				_, err = s.Append(t.Context(), "order-1", eventstore.At(1), events)
				if !errors.Is(err, eventstore.ErrFailed) || errors.Is(err, eventstore.ErrFull) != c.full || !errors.Is(err, c.fault.err) {
					t.Errorf("the next append: error %v, want ErrFailed", err)
				}
				if err := s.Writable(); !errors.Is(err, eventstore.ErrFailed) {
					t.Errorf("writable: error %v, want ErrFailed", err)
				}
			}
			if got := s.durable(); got != h {
				t.Errorf("the head moved from %+v to %+v", h, got)
			}
			if n := count(t, s); n != 2 {
				t.Errorf("%d events are shown, want 2", n)
			}
			for range s.ReadStream(t.Context(), "order-1", 2, eventstore.Forward) {
				t.Error("an event that is not durable is shown")
			}
			for e := range s.ReadStream(t.Context(), "order-1", eventstore.End, eventstore.Backward) {
				if e.Revision > 1 {
					t.Error("an event that is not durable is shown")
				}
			}
			left := disk.CrashClone(vfs.CrashCloneCfg{})
			mustClose(t, s)

			// What a crash had left, and what Close leaves, opens and takes the append, be it a repeat or not.
			for _, fs := range []vfs.FS{left, disk} {
				s := mustOpen(t, "data", &Config{FS: fs})
				if n := count(t, s); n != 2 && n != 4 {
					t.Errorf("%d events, want 2 or 4", n)
				}
				if a, err := s.Append(t.Context(), "order-1", eventstore.At(1), events); err != nil || a.Revision != 3 {
					t.Errorf("%+v, error %v", a, err)
				}
				if r, err := s.Verify(t.Context(), nil); err != nil || r.Problem != "" || r.Events != 4 {
					t.Errorf("report %+v, error %v", r, err)
				}
				mustClose(t, s)
			}
		})
	}
}

// TestNoWriteFollowsAFailureInAGroup has a group be committed in its middle, for a repeat, and that fail.
func TestNoWriteFollowsAFailureInAGroup(t *testing.T) {
	g := &gate{arrived: make(chan struct{}, 1)}
	fault := &fault{kinds: map[errorfs.OpKind]bool{errorfs.OpFileWriteAt: true}, err: syscall.EIO}
	s := mustOpen(t, "data", &Config{FS: errorfs.Wrap(errorfs.Wrap(vfs.NewMem(), g), fault)})
	defer mustClose(t, s)
	g.shut()
	first := asyncAppend(t, t.Context(), s, "order-first", eventstore.NoStream, newEvents(1))
	<-g.arrived
	repeated := newEvents(1)
	var answers []<-chan answer
	for i, a := range []struct {
		stream string
		events []eventstore.Event
	}{
		{"order-1", repeated},
		{"order-1", repeated}, // commits
		{"order-2", newEvents(1)},
		{"order-1", repeated},
	} {
		answers = append(answers, asyncAppend(t, t.Context(), s, a.stream, eventstore.NoStream, a.events))
		queued(s, i+1)
	}
	fault.on.Store(true)
	g.Unlock()
	if a := <-first; a.err != nil {
		t.Fatal(a.err)
	}
	for i, unknown := range []bool{true, false, true, true} {
		if a := <-answers[i]; a.err == nil || errors.Is(a.err, eventstore.ErrFailed) == unknown {
			t.Errorf("append %d: %+v, want an unknown outcome: %v", i, a, unknown)
		}
	}
	for _, stream := range []string{"order-1", "order-2"} {
		if found, err := s.index.lookUp(stream); err != nil || found.revision >= 0 {
			t.Errorf("%s: last revision %d, error %v", stream, found.revision, err)
		}
	}
}

func TestNothingIsAcknowledgedAfterPebbleGaveUp(t *testing.T) {
	s := mustOpen(t, "data", &Config{FS: vfs.NewMem()})
	defer mustClose(t, s)
	appendOne(t, s, "order-1")
	pebbleLogger{s.logger, s.fail}.Fatalf("MANIFEST sync failed: %v", syscall.EIO)
	if _, err := s.Append(t.Context(), "order-1", eventstore.Any, newEvents(1)); !errors.Is(err, eventstore.ErrFailed) {
		t.Errorf("error %v, want ErrFailed", err)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestAnAppendDuringAFailureHasAnUnknownOutcome(t *testing.T) {
	g := &gate{arrived: make(chan struct{}, 1)}
	s := mustOpen(t, "data", &Config{FS: errorfs.Wrap(vfs.NewMem(), g)})
	defer mustClose(t, s)
	g.shut()
	waiting := asyncAppend(t, t.Context(), s, "order-1", eventstore.NoStream, newEvents(1))
	<-g.arrived
	s.fail(syscall.EIO)
	g.Unlock()
	if a := <-waiting; a.err == nil || eventstore.Unavailable(a.err) {
		t.Errorf("error %v, want an unknown outcome", a.err)
	}
	if n := count(t, s); n != 0 {
		t.Errorf("%d events are shown after the failure", n)
	}
}

func TestAppendsAreRefusedWhileTheDiskIsFull(t *testing.T) {
	disk := &smallDisk{FS: vfs.NewMem()}
	disk.available.Store(reserve + 1)
	s := mustOpen(t, "data", &Config{FS: disk})
	defer mustClose(t, s)
	appendOne(t, s, "order-1")
	disk.available.Store(reserve)
	_, err := s.Append(t.Context(), "order-1", eventstore.Any, newEvents(1))
	if !errors.Is(err, eventstore.ErrFull) || errors.Is(err, eventstore.ErrFailed) || !strings.Contains(err.Error(), "64 MiB") {
		t.Errorf("error %v, want ErrFull", err)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	disk.available.Store(reserve + 1)
	if a := appendOne(t, s, "order-1"); a.Revision != 1 || a.Position != 2 {
		t.Errorf("%+v once there is room", a)
	}
}

func TestASpareGivesWayToAppends(t *testing.T) {
	disk := &smallDisk{FS: vfs.NewMem()}
	disk.available.Store(reserve + 1)
	s := mustOpen(t, "data", &Config{FS: disk})
	defer mustClose(t, s)
	spare := "data/ledger/" + spareName
	if _, err := s.Append(t.Context(), "order-1", eventstore.Any, []eventstore.Event{sized("order-1", 1<<20)}); err != nil {
		t.Fatal(err)
	}
	events := 1
	for exists := false; !exists; events++ {
		appendOne(t, s, "order-1") // it was not hungry before
		_, err := disk.Stat(spare)
		exists = err == nil
	}
	disk.available.Store(reserve)
	appendOne(t, s, "order-1")
	if _, err := disk.Stat(spare); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the spare is still there: %v", err)
	}
	checkWhole(t, s, events+1)
}

// A smallDisk has so much room left, and a byte more without a spare.
type smallDisk struct {
	vfs.FS
	available atomic.Uint64
}

func (d *smallDisk) Remove(name string) error {
	err := d.FS.Remove(name)
	if err == nil && strings.HasSuffix(name, spareName) {
		d.available.Add(1)
	}
	return err
}

func (d *smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.available.Load()}, nil
}

// TestWhatIsSeenAfterAFailedSyncIsDurable has a sync fail and the ledger opened again: what the memory of the machine has
// of the group may not be on the disk, although another sync succeeds.
func TestWhatIsSeenAfterAFailedSyncIsDurable(t *testing.T) {
	disk := vfs.NewCrashableMem()
	fault := &fault{kinds: map[errorfs.OpKind]bool{errorfs.OpFileSyncData: true}, err: syscall.EIO}
	writes := &counter{kind: errorfs.OpFileWriteAt}
	s := mustOpen(t, "data", &Config{FS: errorfs.Wrap(disk, fault)})
	appendEvents(t, s, "order-1", 2)
	fault.on.Store(true)
	if _, err := s.Append(t.Context(), "order-1", eventstore.At(1), newEvents(2)); err == nil {
		t.Fatal("no error")
	}
	mustClose(t, s)

	s = mustOpen(t, "data", &Config{FS: errorfs.Wrap(disk, writes)})
	if n := count(t, s); n != 4 {
		t.Fatalf("%d events, want 4: this test is about the other case", n)
	}
	if writes.n.Load() == 0 {
		t.Error("the last group was not written again")
	}
	left := disk.CrashClone(vfs.CrashCloneCfg{})
	mustClose(t, s)
	s = mustOpen(t, "data", &Config{FS: left})
	defer mustClose(t, s)
	if err := s.Writable(); err != nil {
		t.Error(err)
	}
	checkWhole(t, s, 4)
}

// A counter counts operations on the log.
type counter struct {
	kind errorfs.OpKind
	n    atomic.Int64
}

func (c *counter) MaybeError(op errorfs.Op) error {
	if op.Kind == c.kind && inLog(op) {
		c.n.Add(1)
	}
	return nil
}

func (c *counter) String() string { return "counter" }

// An ending lets so many changes of files pass, and none after them. The index goes on: it promises nothing.
type ending struct{ left atomic.Int64 }

func (e *ending) MaybeError(op errorfs.Op) error {
	if strings.Contains(op.Path, "index") {
		return nil
	}
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpRename, errorfs.OpRemove, errorfs.OpMkdirAll, errorfs.OpOpenDir, errorfs.OpFileWrite,
		errorfs.OpFileWriteAt, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		if e.left.Add(-1) < 0 {
			return syscall.EIO
		}
	}
	return nil
}

func (e *ending) String() string { return "ending" }

// TestAnyChangeOfAFileMayBeTheLast ends a ledger at each change that it makes to a file, by a killed process or a loss of
// power or one after the other, and opens what is left.
func TestAnyChangeOfAFileMayBeTheLast(t *testing.T) {
	for name, c := range map[string]struct {
		cfg     Config
		size    int // of an append
		appends int
		step    int64
	}{
		"small segments":      {cfg: Config{SegmentSize: 2 << 10}, size: 700, appends: 8, step: 1},
		"segments of a spare": {cfg: Config{SegmentSize: 2 << 20}, size: 900 << 10, appends: 9, step: 7},
	} {
		t.Run(name, func(t *testing.T) {
			for n, done := int64(0), false; !done; n += c.step {
				disk := vfs.NewCrashableMem()
				e := new(ending)
				e.left.Store(n)
				acknowledged := 0
				cfg := c.cfg
				cfg.FS, cfg.Logger = errorfs.Wrap(disk, e), slog.New(slog.DiscardHandler)
				s, err := Open("data", &cfg)
				if err == nil {
					half := c.size / 2
					for range c.appends {
						events := []eventstore.Event{sized("order-1", half), sized("order-1", half)}
						if _, err = s.Append(t.Context(), "order-1", eventstore.Any, events); err != nil {
							break
						}
						acknowledged += len(events)
					}
					err = errors.Join(err, s.Close())
				}
				done = err == nil
				e.left.Store(1 << 40)
				reopen := func(fs vfs.FS) {
					t.Helper()
					cfg := c.cfg
					cfg.FS = fs
					s := mustOpen(t, "data", &cfg)
					got := count(t, s)
					if got != acknowledged && got != acknowledged+2 {
						t.Fatalf("after %d changes: %d events, and %d were acknowledged", n, got, acknowledged)
					}
					acknowledged = got // what was seen must not vanish either
					if n%3 > 0 {
						appendEvents(t, s, "order-1", 2)
						acknowledged += 2
					}
					if err := s.Writable(); err != nil {
						t.Fatalf("after %d changes: %v", n, err)
					}
					checkWhole(t, s, acknowledged)
					disk = disk.CrashClone(vfs.CrashCloneCfg{})
					mustClose(t, s)
				}
				switch n % 4 {
				case 0: // power
					disk = disk.CrashClone(vfs.CrashCloneCfg{})
				case 1: // power, and some of what was not synced is there
					disk = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(n), 0))})
				default: // killed, and then power
					reopen(disk)
				}
				reopen(disk)
			}
		})
	}
}

func TestASpareThatCannotBeMadeIsOnlyAWarning(t *testing.T) {
	var log safeBuffer
	full := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWriteAt && strings.HasSuffix(op.Path, spareName) {
			return syscall.ENOSPC
		}
		return nil
	})
	mem := vfs.NewMem()
	s := mustOpen(t, "data", &Config{FS: errorfs.Wrap(mem, full), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 5 {
		if _, err := s.Append(t.Context(), "order-1", eventstore.Any, []eventstore.Event{sized("order-1", 900<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	for !strings.Contains(log.String(), "the next segment is not made ahead") {
		runtime.Gosched()
	}
	if n := len(*s.segments.segments.Load()); n < 3 {
		t.Errorf("%d segments", n)
	}
	checkWhole(t, s, 5)
	mustClose(t, s)
	if _, err := mem.Stat("data/ledger/" + spareName); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the spare is still there: %v", err)
	}
}

// A safeBuffer is one for a logger that several goroutines use.
type safeBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestASegmentThatCannotBeBegunIsAFailure(t *testing.T) {
	for name, c := range map[string]struct {
		kind   errorfs.OpKind
		suffix string
	}{
		"no file":            {errorfs.OpCreate, "00000002.log"},
		"no header":          {errorfs.OpFileWriteAt, "00000002.log"},
		"no sync":            {errorfs.OpFileSync, "00000002.log"},
		"no directory":       {errorfs.OpOpenDir, "data/ledger"},
		"it cannot be read":  {errorfs.OpOpen, "00000002.log"},
		"it cannot be found": {errorfs.OpFileReadAt, "00000002.log"},
	} {
		t.Run(name, func(t *testing.T) {
			var on atomic.Bool
			mem := vfs.NewMem()
			s := mustOpen(t, "data", &Config{SegmentSize: 1 << 10, FS: errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if on.Load() && op.Kind == c.kind && strings.HasSuffix(op.Path, c.suffix) {
					return syscall.EIO
				}
				return nil
			}))})
			appendEvents(t, s, "order-1", 2)
			on.Store(true)
			_, err := s.Append(t.Context(), "order-1", eventstore.At(1), []eventstore.Event{sized("order-1", 1000)})
			if !errors.Is(err, eventstore.ErrFailed) || !errors.Is(err, syscall.EIO) {
				t.Errorf("error %v, want ErrFailed", err)
			}
			on.Store(false)
			if _, err := s.Append(t.Context(), "order-1", eventstore.Any, newEvents(1)); !errors.Is(err, eventstore.ErrFailed) {
				t.Errorf("error %v, want ErrFailed", err)
			}
			if n := count(t, s); n != 2 {
				t.Errorf("%d events, want 2", n)
			}
			mustClose(t, s)
			s = mustOpen(t, "data", &Config{SegmentSize: 1 << 10, FS: mem})
			defer mustClose(t, s)
			appendEvents(t, s, "order-1", 2)
			checkWhole(t, s, 4)
		})
	}
}

func TestReadErrorsAreTold(t *testing.T) {
	for _, suffix := range []string{segmentSuffix, ".sst"} {
		t.Run(suffix, func(t *testing.T) {
			var on atomic.Bool
			disk := vfs.NewMem()
			broken := errorfs.InjectorFunc(func(op errorfs.Op) error {
				if on.Load() && op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, suffix) {
					return syscall.EIO
				}
				return nil
			})
			s := mustOpen(t, "data", &Config{FS: disk})
			for n := range 300 {
				appendEvents(t, s, fmt.Sprint("order-", n), 3)
			}
			appendEvents(t, s, "order-1", 500)
			mustClose(t, s)
			cfg := &Config{FS: errorfs.Wrap(disk, broken)}
			s = mustOpen(t, "data", cfg)
			defer mustClose(t, s)
			for !s.index.complete.Load() {
				runtime.Gosched() // it fails less with what Pebble has in memory
			}
			on.Store(true)
			defer on.Store(false)
			fails := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, syscall.EIO) || errors.Is(err, eventstore.ErrCorrupt) || eventstore.Unavailable(err) {
					t.Errorf("%s: error %v, want EIO", what, err)
				}
			}
			if suffix == segmentSuffix {
				for what, seq := range map[string]iter.Seq2[eventstore.Recorded, error]{
					"ReadAll":    s.ReadAll(t.Context(), 0, eventstore.Filter{}),
					"ReadStream": s.ReadStream(t.Context(), "order-1", 0, eventstore.Forward),
					"backward":   s.ReadStream(t.Context(), "order-1", 100, eventstore.Backward),
					"Subscribe":  s.Subscribe(t.Context(), 700, eventstore.Filter{}),
				} {
					var last error
					for _, last = range seq {
					}
					fails(what, last)
				}
				_, err := s.Append(t.Context(), "order-1", eventstore.At(1), newEvents(1))
				fails("Append", err)
				_, err = s.Verify(t.Context(), nil)
				fails("Verify", err)
			}
			on.Store(false)
			checkWhole(t, s, 1400)
			appendOne(t, s, "order-1")

			// An error is no damage: the index is not thrown away for it.
			mustClose(t, s)
			on.Store(true)
			if _, err := Open("data", cfg); !errors.Is(err, syscall.EIO) {
				t.Errorf("Open: error %v, want EIO", err)
			}
			on.Store(false)
			s = mustOpen(t, "data", cfg)
			checkWhole(t, s, 1401)
			mustClose(t, s)
		})
	}
}
