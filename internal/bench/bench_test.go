package bench_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orderledger/orderledger/internal/bench"
)

func wait(_ context.Context, at time.Time) { time.Sleep(time.Until(at)) }

func TestClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy [4]atomic.Bool
		r, err := bench.Closed(t.Context(), 4, time.Second, func(_ context.Context, worker int) error {
			if busy[worker].Swap(true) {
				t.Error("a worker does two operations at once")
			}
			time.Sleep(10 * time.Millisecond)
			busy[worker].Store(false)
			return nil
		})
		if err != nil || r.Ops != 400 || r.Rate() != 400 || r.Elapsed != time.Second || r.Latency.Max() != 10*time.Millisecond {
			t.Errorf("%d operations in %v, at most %v: %v", r.Ops, r.Elapsed, r.Latency.Max(), err)
		}
	})
}

// TestOpenCountsWaiting lets one operation stall: those that were due meanwhile have waited, which a closed loop would
// not have noticed.
func TestOpenCountsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		r, err := bench.OpenWaiting(t.Context(), 1, 100, 10*time.Second, func(context.Context, int) error {
			if n++; n == 300 {
				time.Sleep(time.Second)
			}
			return nil
		}, wait)
		if err != nil || r.Ops != 1000 || r.Unsent != 0 {
			t.Fatalf("%d operations, %d unsent: %v", r.Ops, r.Unsent, err)
		}
		if p := r.Latency.Quantile(0.9); p != 0 {
			t.Errorf("nine tenths took %v", p)
		}
		// A hundred were due during the stall; half of them waited longer than half of it.
		if p := r.Latency.Quantile(0.95); p < 480*time.Millisecond || p > 520*time.Millisecond {
			t.Errorf("the 95th percentile is %v, want half of the stall", p)
		}
		if r.Latency.Max() != time.Second {
			t.Errorf("the longest took %v", r.Latency.Max())
		}
	})
}

func TestOpenGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		r, err := bench.OpenWaiting(t.Context(), 2, 1000, time.Second, func(context.Context, int) error {
			time.Sleep(100 * time.Millisecond)
			return nil
		}, wait)
		if took := time.Since(begun); err != nil || took > 1500*time.Millisecond {
			t.Fatalf("gave up after %v: %v", took, err)
		}
		if r.Ops+r.Unsent < 1000 || r.Unsent < 900 || r.Latency.Count() != 1000 {
			t.Errorf("%d operations, %d unsent, %d latencies", r.Ops, r.Unsent, r.Latency.Count())
		}
		if r.Latency.Quantile(0.5) < 400*time.Millisecond {
			t.Errorf("half of them waited for no longer than %v", r.Latency.Quantile(0.5))
		}
	})
}

// TestOpenKeepsItsRate uses the real clock.
func TestOpenKeepsItsRate(t *testing.T) {
	r, err := bench.Open(t.Context(), 4, 500, 200*time.Millisecond, func(context.Context, int) error { return nil })
	if err != nil || r.Ops+r.Unsent != 100 || r.Elapsed < 190*time.Millisecond {
		t.Errorf("%d operations and %d unsent in %v: %v", r.Ops, r.Unsent, r.Elapsed, err)
	}
}

func TestFailure(t *testing.T) {
	broken := errors.New("broken")
	var n atomic.Int64
	op := func(context.Context, int) error {
		if n.Add(1) == 50 {
			return broken
		}
		return nil
	}
	ctx := t.Context()
	for name, do := range map[string]func() error{
		"closed":  func() error { _, err := bench.Closed(ctx, 8, time.Hour, op); return err },
		"open":    func() error { _, err := bench.Open(ctx, 8, 10_000, time.Hour, op); return err },
		"counted": func() error { _, err := bench.Counted(ctx, 8, 1<<40, op); return err },
		"each":    func() error { return bench.Each(ctx, 8, 1<<40, op) },
	} {
		n.Store(0)
		if err := do(); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	op := func(context.Context, int) error {
		cancel()
		return nil
	}
	if _, err := bench.Closed(ctx, 2, time.Hour, op); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := bench.Open(ctx, 2, 0.001, time.Hour, op); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestCounted(t *testing.T) {
	var done [100]atomic.Int64
	if err := bench.Each(t.Context(), 7, len(done), func(_ context.Context, i int) error { done[i].Add(1); return nil }); err != nil {
		t.Fatal(err)
	}
	for i := range done {
		if n := done[i].Load(); n != 1 {
			t.Errorf("call %d was made %d times", i, n)
		}
	}
	r, err := bench.Counted(t.Context(), 3, 10, func(context.Context, int) error { return nil })
	if err != nil || r.Ops != 10 {
		t.Errorf("%d operations: %v", r.Ops, err)
	}
}

func TestInterleave(t *testing.T) {
	var order strings.Builder
	side := func(name string) func() error {
		return func() error { order.WriteString(name); return nil }
	}
	if err := bench.Interleave(3, side("a"), side("b")); err != nil || order.String() != "abbaab" {
		t.Errorf("%s: %v", &order, err)
	}
	broken := errors.New("broken")
	if err := bench.Interleave(3, side("a"), func() error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestStopwatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w bench.Stopwatch
		for range 2 {
			w.Start()
			time.Sleep(time.Second)
			w.Stop()
			time.Sleep(time.Hour)
		}
		if r := w.Run(10); r.Elapsed != 2*time.Second || r.Rate() != 5 {
			t.Errorf("%v, %v per second", r.Elapsed, r.Rate())
		}
	})
}

func TestSystem(t *testing.T) {
	before := bench.CPUTime()
	for begun := time.Now(); time.Since(begun) < 30*time.Millisecond; {
	}
	if used := bench.CPUTime() - before; used < 5*time.Millisecond {
		t.Errorf("30 ms of work took %v of CPU time", used)
	}
	memory := bench.ResidentMemory()
	ballast := slices.Repeat([]byte{1}, 64<<20)
	if grown := bench.ResidentMemory(); grown < memory+32<<20 {
		t.Errorf("memory has grown from %d to %d with %d bytes", memory, grown, len(ballast))
	}
	m := bench.ThisMachine(t.TempDir())
	if m.Cores < 1 || m.Go == "" || m.System == "" {
		t.Errorf("%+v", m)
	}
}
