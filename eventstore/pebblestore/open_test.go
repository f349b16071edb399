package pebblestore

import (
	"bufio"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

func TestALedgerKeepsItsIdentity(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, "a/b/data", &Config{FS: fs, Lanes: 7})
	id := s.durable().Identity
	if id.Lanes != 7 || id.Format != Format || id.Incarnation != 0 {
		t.Errorf("identity %+v", id)
	}
	mustClose(t, s)
	s = mustOpen(t, "a/b/data", &Config{FS: fs, Lanes: 9})
	if again := s.durable().Identity; again != id {
		t.Errorf("the identity is %+v, and was %+v", again, id)
	}
	mustClose(t, s)
	other := mustOpen(t, "other", &Config{FS: fs})
	defer mustClose(t, other)
	if o := other.durable(); o.ID == id.ID || o.Lanes != eventstore.DefaultLanes {
		t.Errorf("another ledger is %+v", o)
	}
	given := &Config{FS: fs, ID: uuid.MustParse("2a6c1f53-7f0e-4a27-9a54-6f1f3a3ad001")}
	named := mustOpen(t, "named", given)
	if o := named.durable(); o.ID != given.ID {
		t.Errorf("a new ledger has the id %s, want %s", o.ID, given.ID)
	}
	mustClose(t, named)
	named = mustOpen(t, "named", &Config{FS: fs, ID: uuid.New()})
	if o := named.durable(); o.ID != given.ID {
		t.Errorf("an existing ledger has got the id %s, and had %s", o.ID, given.ID)
	}
	mustClose(t, named)
	if _, err := Open("third", &Config{FS: fs, Lanes: -1}); err == nil || !strings.Contains(err.Error(), "lanes") {
		t.Errorf("error %v, want one about lanes", err)
	}
	if _, err := Open("third", &Config{FS: fs, SegmentSize: 1<<30 + 1}); err == nil || !strings.Contains(err.Error(), "1 GiB") {
		t.Errorf("error %v, want one about the size", err)
	}
}

func TestAnUnknownFormatIsRefused(t *testing.T) {
	mem := vfs.NewMem()
	cfg := &Config{FS: mem}
	mustClose(t, mustOpen(t, "data", cfg))
	h := header{identity: eventstore.Identity{Format: 99}, number: 1, first: 1}
	writeAt(t, mem, "data/ledger/00000001.log", 0, h.encode())
	const want = "has format 99, and this program knows format 2 only"
	for _, readOnly := range []bool{false, true} {
		if _, err := Open("data", &Config{FS: mem, ReadOnly: readOnly}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	// A ledger of the first format had no log of its own.
	if err := mem.RemoveAll("data/ledger"); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(mem, "data", anchorName, []byte(`{"format":1,"position":3}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("data", cfg); err == nil || !strings.Contains(err.Error(), "has format 1,") {
		t.Errorf("error %v", err)
	}
}

func TestALedgerWithoutItsLogIsRefused(t *testing.T) {
	cfg := &Config{FS: vfs.NewMem()}
	s := mustOpen(t, "data", cfg)
	appendEvents(t, s, "order-1", 3)
	mustClose(t, s)
	if err := cfg.FS.Remove("data/ledger/00000001.log"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("data", cfg); !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), "stood at position 3") {
		t.Errorf("error %v, want ErrCorrupt", err)
	}
	// What the message says to do helps, and the index of the old ledger does no harm.
	if err := cfg.FS.Remove("data/" + anchorName); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, "data", cfg)
	defer mustClose(t, s)
	if a, err := s.Append(t.Context(), "order-1", eventstore.NoStream, newEvents(1)); err != nil || a.Position != 1 {
		t.Errorf("%+v, error %v", a, err)
	}
	checkWhole(t, s, 1)
}

func TestReadOnly(t *testing.T) {
	mem := vfs.NewMem()
	cfg := &Config{FS: mem, ReadOnly: true}
	if _, err := Open("data", cfg); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
	s := mustOpen(t, "data", &Config{FS: mem})
	if err := s.Writable(); err != nil {
		t.Errorf("ReadOnly = %v", err)
	}
	appendOne(t, s, "order-1")
	mustClose(t, s)

	s = mustOpen(t, "data", cfg)
	defer mustClose(t, s)
	if err := s.Writable(); !errors.Is(err, eventstore.ErrReadOnly) {
		t.Errorf("ReadOnly = %v", err)
	}
	_, err := s.Append(t.Context(), "order-1", eventstore.Any, newEvents(1))
	if !errors.Is(err, eventstore.ErrReadOnly) || !eventstore.Unavailable(err) {
		t.Errorf("error %v, want ErrReadOnly", err)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	if _, err := readAnnouncement(mem, "data"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a reader announced itself: %v", err)
	}
}

func TestAnOlderCopyIsOpenedReadOnly(t *testing.T) {
	dir := t.TempDir()
	data, backup := filepath.Join(dir, "data"), filepath.Join(dir, "backup")
	cfg := &Config{}
	s := mustOpen(t, data, cfg)
	appendEvents(t, s, "order-1", 3)
	mustClose(t, s)
	if err := os.CopyFS(backup, os.DirFS(filepath.Join(data, "ledger"))); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, data, cfg)
	appendEvents(t, s, "order-1", 2)
	mustClose(t, s)
	if err := os.RemoveAll(filepath.Join(data, "ledger")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(data, "ledger"), os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	anchor, err := os.ReadFile(filepath.Join(data, anchorName))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // it does not forget
		s = mustOpen(t, data, cfg)
		_, err := s.Append(t.Context(), "order-1", eventstore.Any, newEvents(1))
		for _, err := range []error{err, s.Writable()} {
			if !errors.Is(err, eventstore.ErrReadOnly) || !strings.Contains(err.Error(), "ends at position 3, and stood at 5") {
				t.Errorf("error %v", err)
			}
		}
		if n := count(t, s); n != 3 {
			t.Errorf("%d events, want 3", n)
		}
		mustClose(t, s)
	}
	if after, err := os.ReadFile(filepath.Join(data, anchorName)); err != nil || string(after) != string(anchor) {
		t.Errorf("the anchor is now %s, error %v; it was %s", after, err, anchor)
	}
	// What the message says to do helps.
	if err := os.Rename(filepath.Join(data, anchorName), filepath.Join(dir, anchorName)); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, data, cfg)
	appendOne(t, s, "order-1")
	mustClose(t, s)
}

func TestAnAnchorOfAnotherKindMakesReadOnly(t *testing.T) {
	for name, c := range map[string]struct{ anchor, want string }{
		"garbage":        {"garbage", "cannot be read"},
		"another ledger": {`{"ledger":"6ba7b810-9dad-11d1-80b4-00c04fd430c8","position":1}`, "the anchor is of ledger 6ba7b810"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &Config{FS: vfs.NewMem()}
			mustClose(t, mustOpen(t, "data", cfg))
			if err := writeFile(cfg.FS, "data", anchorName, []byte(c.anchor)); err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, "data", cfg)
			defer mustClose(t, s)
			if err := s.Writable(); !errors.Is(err, eventstore.ErrReadOnly) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ReadOnly = %v, want %q", err, c.want)
			}
			if r, err := s.Verify(t.Context(), nil); err != nil || !strings.Contains(r.Problem, c.want) {
				t.Errorf("report %+v, error %v; want %q", r, err, c.want)
			}
		})
	}
}

func TestTheAnchorFollowsEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, "data", &Config{FS: vfs.NewMem()})
		defer mustClose(t, s)
		for want := eventstore.Position(1); want <= 3; want++ {
			appendOne(t, s, "order-1")
			time.Sleep(1100 * time.Millisecond)
			a, err := s.readAnchor()
			if err != nil || a.Position != want || a.Head != s.durable() || time.Since(a.Time) > time.Second {
				t.Errorf("anchor %+v, error %v; want position %d", a, err, want)
			}
			time.Sleep(time.Hour)
			if b, _ := s.readAnchor(); b != a {
				t.Errorf("the anchor was written again although nothing happened: %+v", b)
			}
		}
	})
}

func TestALockedLedgerNamesItsOwner(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, &Config{})
	check := func(address string) {
		t.Helper()
		_, err := Open(dir, nil)
		var locked *eventstore.LockedError
		if !errors.As(err, &locked) || locked.Dir != dir || locked.PID != os.Getpid() || locked.Address != address {
			t.Errorf("error %v, want a LockedError with %q", err, address)
		}
		a, err := Announced(dir)
		if err != nil || a != (Announcement{PID: os.Getpid(), Address: address}) {
			t.Errorf("announced %+v, error %v", a, err)
		}
	}
	check("")
	if err := s.Announce("127.0.0.1:4711"); err != nil {
		t.Fatal(err)
	}
	check("127.0.0.1:4711")
	mustClose(t, s)
	if _, err := Announced(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
	mustClose(t, mustOpen(t, dir, &Config{}))
}

// holdVariable makes this test's own binary hold a ledger until it is killed.
const holdVariable = "PEBBLESTORE_TEST_HOLD"

func TestAKilledOwnerDoesNotBlock(t *testing.T) {
	if dir := os.Getenv(holdVariable); dir != "" {
		s := mustOpen(t, dir, &Config{})
		if err := s.Announce("127.0.0.1:4711"); err != nil {
			t.Fatal(err)
		}
		appendEvents(t, s, "order-1", 3)
		_, _ = os.Stdout.WriteString("ready\n")
		<-time.After(time.Minute) // to be killed; it ends by itself where nobody does
		return
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), holdVariable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err = Open(dir, &Config{Logger: slog.New(slog.DiscardHandler)})
	var locked *eventstore.LockedError
	if !errors.As(err, &locked) || locked.PID != cmd.Process.Pid || locked.Address != "127.0.0.1:4711" {
		t.Errorf("error %v, want a LockedError of pid %d", err, cmd.Process.Pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if a, err := Announced(dir); err != nil || a.PID != cmd.Process.Pid {
		t.Errorf("announced %+v, error %v", a, err)
	}
	s := mustOpen(t, dir, &Config{})
	defer mustClose(t, s)
	if n := count(t, s); n != 3 {
		t.Errorf("%d events, want the 3 that were acknowledged", n)
	}
}

func TestADirectoryThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var locked *eventstore.LockedError
	if _, err := Open(filepath.Join(file, "data"), nil); err == nil || errors.As(err, &locked) {
		t.Errorf("error %v", err)
	}
	if _, err := Announced(file); err == nil {
		t.Error("no error")
	}
}
