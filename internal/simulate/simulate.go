package simulate

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// A Config says what happens in a history.
type Config struct {
	Seed       uint64
	Operations int    // 0: 500
	Regions    int    // 2 to 6; 0: 3
	Faults     Faults // what may go wrong; 0: nothing

	// Dir is where the files of worlds are made, in directories of their own that are removed again; empty: in memory
	// where the system has such a place, or else where it keeps temporary files.
	Dir string

	defect defect // planted by tests
}

// A defect is a bug of the simulated surroundings that some promise cannot survive.
type defect int

const (
	sound     defect = iota
	forgetful        // a disk loses the last event that it has acknowledged when its process dies
)

// A Report tells how a history went.
type Report struct {
	Seed       uint64   `json:"seed"`
	Operations int      `json:"operations"`         // that happened
	Orders     int      `json:"orders"`             // that clients have submitted
	Done       int      `json:"done"`               // requests that were answered as done
	Events     int      `json:"events"`             // in all ledgers
	Hash       string   `json:"hash"`               // SHA-256 of all that happened
	Broken     string   `json:"broken,omitempty"`   // the promise that was broken; empty: none
	Shortest   []string `json:"shortest,omitempty"` // the lines of the shortest history found in which one is
	Tried      int      `json:"tried,omitempty"`    // histories that were tried to find it
}

// Run makes the history of a seed happen. If it breaks a promise, Run looks for the shortest part of it that breaks one.
// It returns an error where the simulation itself cannot go on, and when ctx is done.
func Run(ctx context.Context, c Config) (Report, error) {
	if c.Operations == 0 {
		c.Operations = 500
	}
	if c.Regions == 0 {
		c.Regions = 3
	}
	if c.Regions < 2 || c.Regions > MaxRegions {
		return Report{}, fmt.Errorf("there are 2 to %d regions, not %d", MaxRegions, c.Regions)
	}
	if c.Dir == "" {
		c.Dir = memoryDir()
	}
	operations := generate(c)
	w, err := play(ctx, c, operations)
	if err != nil {
		return Report{}, err
	}
	report := w.report()
	if w.broken == "" {
		return report, nil
	}
	shortest, tried, err := shrink(operations[:min(w.done, len(operations))], func(part []operation) (bool, error) {
		w, err := play(ctx, c, part)
		return err == nil && w.broken != "", err
	})
	if err != nil {
		return report, err
	}
	if w, err = play(ctx, c, shortest); err != nil {
		return report, err
	}
	report.Shortest, report.Tried = w.lines, tried
	return report, nil
}

// RunMany runs the histories of so many seeds, from that of c on, as many at once as there are processors. It calls tell
// with each report, one after the other in the order in which they are ready, and begins no more histories after one
// that has broken a promise.
func RunMany(ctx context.Context, c Config, seeds uint64, tell func(Report)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var telling sync.Mutex
	var begun atomic.Uint64
	var broken atomic.Bool
	var working sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		working.Go(func() {
			for n := begun.Add(1); n <= seeds && !broken.Load(); n = begun.Add(1) {
				mine := c
				mine.Seed += n - 1
				report, err := Run(ctx, mine)
				if err != nil {
					stop(fmt.Errorf("seed %d: %w", mine.Seed, err))
					return
				}
				if report.Broken != "" {
					broken.Store(true)
				}
				telling.Lock()
				tell(report)
				telling.Unlock()
			}
		})
	}
	working.Wait()
	return context.Cause(ctx)
}

// play makes operations happen in a new world.
func play(ctx context.Context, c Config, operations []operation) (*world, error) {
	dir, err := os.MkdirTemp(c.Dir, "simulate-")
	if err != nil {
		return nil, err
	}
	w, err := newWorld(ctx, c, dir)
	if err != nil {
		return nil, fmt.Errorf("making a world: %w", err)
	}
	defer w.close()
	func() {
		defer func() {
			if v := recover(); v != nil {
				w.violated("there was a panic: %v, in %s", v, panicking())
			}
		}()
		w.run(operations)
	}()
	return w, ctx.Err()
}

// panicking names the functions under way when a panic began, the innermost first.
func panicking() string {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	var names []string
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") {
			names = append(names, fmt.Sprintf("%s:%d", f.Function, f.Line))
		}
		if !more || len(names) == 8 {
			return strings.Join(names, " < ")
		}
	}
}

func (w *world) report() Report {
	r := Report{
		Seed: w.config.Seed, Operations: w.done, Orders: len(w.clients.orders), Hash: hex.EncodeToString(w.history.Sum(nil)), Broken: w.broken,
	}
	for _, q := range w.clients.sent {
		if q.first != nil {
			r.Done++
		}
	}
	for _, region := range w.regions {
		r.Events += len(region.disk.events)
	}
	return r
}

// memoryDir is a directory in memory, where there is one.
func memoryDir() string {
	const shared = "/dev/shm"
	if info, err := os.Stat(shared); err == nil && info.IsDir() {
		if f, err := os.CreateTemp(shared, "simulate-"); err == nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			return shared
		}
	}
	return os.TempDir()
}
