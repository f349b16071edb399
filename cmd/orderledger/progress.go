package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// A progressBar shows on a terminal how far a long piece of work is, how fast it goes and how long it will take.
// Elsewhere it shows nothing. Its methods are safe for concurrent use.
type progressBar struct {
	bars  *mpb.Progress
	bar   *mpb.Bar
	count atomic.Int64
}

// barSteps is how finely a bar moves.
const barSteps = 10_000

// progress begins a bar for work of which the given unit is counted.
func (e *environment) progress(what, unit string) *progressBar {
	out := io.Discard
	if isTerminal(e.err) && !e.JSON {
		out = e.err
	}
	p := &progressBar{bars: mpb.New(mpb.WithOutput(out), mpb.WithWidth(40), mpb.WithRefreshRate(150*time.Millisecond))}
	begun := time.Now()
	p.bar = p.bars.AddBar(barSteps,
		mpb.PrependDecorators(decor.Name(what+" ")),
		mpb.AppendDecorators(
			decor.NewPercentage("%d"),
			decor.Any(func(s decor.Statistics) string {
				elapsed := time.Since(begun)
				n := p.count.Load()
				return fmt.Sprintf("  %d %s  %.0f/s%s", n, unit, float64(n)/elapsed.Seconds(), timeLeft(s, elapsed))
			}),
		),
	)
	return p
}

// timeLeft estimates from what has been done in which time.
func timeLeft(s decor.Statistics, elapsed time.Duration) string {
	if s.Current == 0 || s.Current >= s.Total || elapsed < time.Second {
		return ""
	}
	left := time.Duration(float64(elapsed) * float64(s.Total-s.Current) / float64(s.Current))
	return "  " + left.Round(time.Second).String() + " left"
}

// set tells how much has been counted, and which part of the whole (0 to 1) that is.
func (p *progressBar) set(count int64, fraction float64) {
	p.count.Store(count)
	p.bar.SetCurrent(min(int64(fraction*barSteps), barSteps-1))
}

// done ends the bar.
func (p *progressBar) done() {
	p.bar.SetCurrent(barSteps)
	p.bars.Wait()
}

// isTerminal reports whether somebody looks at what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
