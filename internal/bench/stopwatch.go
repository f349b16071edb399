package bench

import "time"

// A Stopwatch measures work that is done in parts. The zero Stopwatch stands at zero.
type Stopwatch struct {
	elapsed, cpu time.Duration // of the parts that are over

	begun  time.Time
	before time.Duration // CPU time
}

// Start begins a part.
func (w *Stopwatch) Start() { w.begun, w.before = time.Now(), CPUTime() }

// Stop ends a part.
func (w *Stopwatch) Stop() {
	w.elapsed += time.Since(w.begun)
	w.cpu += CPUTime() - w.before
}

// Run returns what was measured, for so many operations.
func (w *Stopwatch) Run(ops int) Run {
	return Run{Ops: ops, Elapsed: w.elapsed, CPU: w.cpu, Latency: new(Histogram)}
}
