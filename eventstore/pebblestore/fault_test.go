package pebblestore

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
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
	known := make(map[uuid.UUID]place) // what was acknowledged or seen

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
						known[e.ID] = place{a.Revision - uint64(back), a.Position - eventstore.Position(back)}
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
			want[e.ID] = place{e.Revision, e.Position}
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
			if was, ok := want[e.ID]; ok && was != (place{e.Revision, e.Position}) {
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

type place struct {
	revision uint64
	position eventstore.Position
}

// A fault makes operations on Pebble's log fail while it is on.
type fault struct {
	on    atomic.Bool
	kinds map[errorfs.OpKind]bool
	err   error
}

func (f *fault) MaybeError(op errorfs.Op) error {
	if f.on.Load() && f.kinds[op.Kind] && strings.HasSuffix(op.Path, ".log") {
		return f.err
	}
	return nil
}

func (f *fault) String() string { return "fault of the log" }

// inject makes a file system consult an injector, also for logs that Pebble uses again, which errorfs leaves out.
func inject(fs vfs.FS, i errorfs.Injector) vfs.FS { return injected{errorfs.Wrap(fs, i)} }

type injected struct{ vfs.FS }

func (fs injected) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := fs.Remove(oldname); err != nil {
		return nil, err
	}
	return fs.Create(newname, category)
}

func TestNoWriteIsTakenAfterAFailedOne(t *testing.T) {
	syncs := map[errorfs.OpKind]bool{errorfs.OpFileSync: true, errorfs.OpFileSyncData: true, errorfs.OpFileSyncTo: true}
	writes := map[errorfs.OpKind]bool{errorfs.OpFileWrite: true, errorfs.OpFileWriteAt: true}
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
			s := mustOpen(t, "data", &Config{FS: inject(disk, c.fault)})
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
	fault := &fault{kinds: map[errorfs.OpKind]bool{errorfs.OpFileWrite: true}, err: syscall.EIO}
	s := mustOpen(t, "data", &Config{FS: inject(inject(vfs.NewMem(), g), fault)})
	defer mustClose(t, s)
	for len(g.arrived) > 0 {
		<-g.arrived
	}
	g.Lock()
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
	for i, unknown := range []bool{true, false, true, false} {
		if a := <-answers[i]; a.err == nil || errors.Is(a.err, eventstore.ErrFailed) == unknown {
			t.Errorf("append %d: %+v, want an unknown outcome: %v", i, a, unknown)
		}
	}
	for stream, written := range map[string]bool{"order-1": true, "order-2": false} {
		if last, err := s.lastRevision(stream); err != nil || (last == 0) != written {
			t.Errorf("%s: last revision %d in Pebble, error %v", stream, last, err)
		}
	}
}

func TestNothingIsAcknowledgedAfterPebbleGaveUp(t *testing.T) {
	s := mustOpen(t, "data", &Config{FS: vfs.NewMem()})
	defer mustClose(t, s)
	appendOne(t, s, "order-1")
	pebbleLogger{s.log, s.fail}.Fatalf("MANIFEST sync failed: %v", syscall.EIO)
	if _, err := s.Append(t.Context(), "order-1", eventstore.Any, newEvents(1)); !errors.Is(err, eventstore.ErrFailed) {
		t.Errorf("error %v, want ErrFailed", err)
	}
	b := s.db.NewBatch()
	if err := b.Set([]byte("x"), nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.apply(b); !errors.Is(err, eventstore.ErrFailed) {
		t.Errorf("apply: error %v, want ErrFailed although Pebble had none", err)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestAnAppendDuringAFailureHasAnUnknownOutcome(t *testing.T) {
	g := &gate{arrived: make(chan struct{}, 1)}
	s := mustOpen(t, "data", &Config{FS: inject(vfs.NewMem(), g)})
	defer mustClose(t, s)
	for len(g.arrived) > 0 {
		<-g.arrived
	}
	g.Lock()
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

type smallDisk struct {
	vfs.FS
	available atomic.Uint64
}

func (d *smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.available.Load()}, nil
}

func TestRevisionsOfAGroupAreNotForgotten(t *testing.T) {
	var r revisions
	for i := range int64(3 * maxRevisions) {
		r.set(fmt.Sprint("order-", i), i)
		r.get("order-0") // in use
		for _, back := range []int64{0, 1, maxQueue} {
			if j := i - back; j >= 0 {
				if got, ok := r.get(fmt.Sprint("order-", j)); !ok || got != j {
					t.Fatalf("after %d streams, order-%d is remembered at %d, %t", i, j, got, ok)
				}
			}
		}
	}
	if _, ok := r.get("order-0"); !ok {
		t.Error("a stream in use was forgotten")
	}
	if n := len(r.young) + len(r.old); n > 2*maxRevisions {
		t.Errorf("%d streams are remembered, at most %d", n, 2*maxRevisions)
	}
}

// panicVariable makes this test's own binary go through a panic of Pebble, whose goroutines then stay for ever.
const panicVariable = "PEBBLESTORE_TEST_PANIC"

func TestAPanicOfPebbleIsAFailure(t *testing.T) {
	if os.Getenv(panicVariable) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), panicVariable+"=yes")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	fault := &fault{kinds: map[errorfs.OpKind]bool{errorfs.OpFileWrite: true}, err: syscall.ENOSPC}
	s := mustOpen(t, "data", &Config{FS: inject(vfs.NewMem(), fault)})
	appendOne(t, s, "order-1")
	fault.on.Store(true)
	// Pebble panics when it writes a block after it has noticed that an earlier one failed. A large append may do so
	// by itself; here it takes three.
	var err error
	for _, size := range []int{1, 100 << 10, 1} {
		b := s.db.NewBatch()
		if err := b.Set([]byte("x"), make([]byte, size), nil); err != nil {
			t.Fatal(err)
		}
		if err = s.apply(b); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("error %v, want ENOSPC", err)
		}
	}
	if !s.stuck {
		t.Error("Pebble did not panic")
	}
	s.fail(err)
	if n := count(t, s); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	if _, err := s.Append(t.Context(), "order-1", eventstore.Any, newEvents(1)); !errors.Is(err, eventstore.ErrFull) {
		t.Errorf("error %v, want ErrFull", err)
	}
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "only a new process") {
		t.Errorf("Close: %v", err)
	}
	if !t.Failed() {
		os.Exit(0) // without the look for goroutines
	}
}

func TestReadErrorsAreTold(t *testing.T) {
	var on atomic.Bool
	disk := vfs.NewMem()
	broken := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if on.Load() && op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") {
			return syscall.EIO
		}
		return nil
	})
	s := mustOpen(t, "data", &Config{FS: disk})
	appendEvents(t, s, "order-1", 5000)
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = mustOpen(t, "data", &Config{FS: inject(disk, broken)})
	defer mustClose(t, s)
	on.Store(true)
	defer on.Store(false)
	fails := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, syscall.EIO) || errors.Is(err, eventstore.ErrCorrupt) || eventstore.Unavailable(err) {
			t.Errorf("%s: error %v, want EIO", what, err)
		}
	}
	for what, seq := range map[string]iter.Seq2[eventstore.Recorded, error]{
		"ReadAll":    s.ReadAll(t.Context(), 0, eventstore.Filter{}),
		"ReadStream": s.ReadStream(t.Context(), "order-1", 0, eventstore.Forward),
		"backward":   s.ReadStream(t.Context(), "order-1", 100, eventstore.Backward),
		"Subscribe":  s.Subscribe(t.Context(), 0, eventstore.Filter{}),
	} {
		var last error
		for _, last = range seq {
		}
		fails(what, last)
	}
	_, err := s.Append(t.Context(), "order-1", eventstore.At(4999), newEvents(1))
	fails("Append", err)
	_, err = s.Verify(t.Context(), nil)
	fails("Verify", err)
	on.Store(false)
	if n := count(t, s); n != 5000 {
		t.Errorf("%d events once the disk reads again, want 5000", n)
	}
	appendOne(t, s, "order-1")
}

func TestADamagedFileIsToldAsCorrupt(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, &Config{})
	for range 5 {
		appendEvents(t, s, "order-1", 2000)
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	files, err := filepath.Glob(filepath.Join(dir, "ledger", "*.sst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, error %v", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/3] ^= 1
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = mustOpen(t, dir, &Config{})
	defer func() { _ = s.Close() }() // the anchor may not be written
	var last error
	for _, last = range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
	}
	if !errors.Is(last, eventstore.ErrCorrupt) {
		t.Errorf("error %v, want ErrCorrupt", last)
	}
	if r, err := s.Verify(t.Context(), nil); err != nil || r.Problem == "" || r.Bad == 0 || r.Bad > 10000 {
		t.Errorf("report %+v, error %v", r, err)
	}
}
