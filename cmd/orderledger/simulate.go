package main

import (
	"context"
	"errors"

	"github.com/orderledger/orderledger/internal/simulate"
)

// simulateCommand runs simulated histories.
type simulateCommand struct {
	Seed    uint64   `default:"1" help:"Which history. The same seed, with the same other flags, tells the same story."`
	Seeds   uint64   `default:"1" help:"How many histories: those of this seed and of the ones behind it."`
	Ops     int      `default:"500" help:"How many operations each has."`
	Regions int      `default:"3" help:"How many regions each has, 2 to 6."`
	Faults  []string `default:"all" placeholder:"FAULT,…" help:"What may go wrong: crashes, disks, partitions, delays, duplicates, clocks, races, takeovers, all or none."`
}

// A simulation is what many histories have come to.
type simulation struct {
	Histories  int              `json:"histories"`
	Operations int              `json:"operations"`
	Orders     int              `json:"orders"`
	Done       int              `json:"done"`
	Events     int              `json:"events"`
	Broken     *simulate.Report `json:"broken"` // the history in which a promise was broken; null: none was
}

// errBroken is why a simulation fails.
var errBroken = errors.New("a promise was broken")

// Run fails with errBroken where a promise was.
func (s simulateCommand) Run(ctx context.Context, e *environment) error {
	faults, err := simulate.ParseFaults(s.Faults...)
	switch {
	case err != nil:
		return usage("%w", err)
	case s.Seeds == 0 || s.Ops < 1 || s.Ops > 1_000_000:
		return usage("at least one history of 1 to 1000000 operations")
	case s.Regions < 2 || s.Regions > simulate.MaxRegions:
		return usage("there are 2 to %d regions", simulate.MaxRegions)
	}
	var all simulation
	bar := e.progress("simulating", "operations")
	err = simulate.RunMany(ctx, simulate.Config{Seed: s.Seed, Operations: s.Ops, Regions: s.Regions, Faults: faults}, s.Seeds, func(r simulate.Report) {
		all.add(r)
		bar.set(int64(all.Operations), float64(all.Histories)/float64(s.Seeds))
	})
	bar.done()
	if err != nil {
		return err
	}
	if e.JSON {
		err = e.printJSON(all)
	} else {
		all.print(e)
	}
	if all.Broken != nil {
		err = errors.Join(err, errBroken)
	}
	return err
}

func (s *simulation) add(r simulate.Report) {
	s.Histories++
	s.Operations += r.Operations
	s.Orders += r.Orders
	s.Done += r.Done
	s.Events += r.Events
	if r.Broken != "" && (s.Broken == nil || r.Seed < s.Broken.Seed) {
		s.Broken = &r
	}
}

func (s *simulation) print(e *environment) {
	e.printf("%d histories, %d operations, %d orders, %d commands done, %d events\n", s.Histories, s.Operations, s.Orders, s.Done, s.Events)
	if s.Broken == nil {
		e.printf("no promise was broken\n")
		return
	}
	e.printf("\nseed %d: %s\n\nthe shortest history found in which a promise is broken, after %d tries:\n\n", s.Broken.Seed, s.Broken.Broken, s.Broken.Tried)
	for _, line := range s.Broken.Shortest {
		e.printf("%s\n", line)
	}
}
