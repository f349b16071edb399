package simulate

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// TestSimulation makes the histories of some seeds happen, each with everything that may go wrong. With ORDERLEDGER_FULL=1
// they are a million operations.
func TestSimulation(t *testing.T) {
	seeds := uint64(200)
	switch {
	case os.Getenv("ORDERLEDGER_FULL") != "":
		seeds = 2000
	case raceEnabled:
		seeds = 10
	case testing.Short():
		seeds = 20
	}
	var operations, events atomic.Int64
	var broken atomic.Bool
	t.Cleanup(func() { t.Logf("%d operations in %d histories, %d events", operations.Load(), seeds, events.Load()) })
	for seed := uint64(1); seed <= seeds; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			if broken.Load() {
				t.Skip("another history has broken a promise")
			}
			r, err := Run(t.Context(), Config{Seed: seed, Faults: AllFaults})
			if err != nil {
				t.Fatal(err)
			}
			operations.Add(int64(r.Operations))
			events.Add(int64(r.Events))
			if r.Broken != "" {
				broken.Store(true)
				t.Errorf("seed %d: %s\nThe shortest history found in which a promise is broken:\n%s", r.Seed, r.Broken, strings.Join(r.Shortest, "\n"))
			}
		})
	}
}

// TestSameSeedSameHistory has a seed tell the same story each time, or no failure could be looked at twice.
func TestSameSeedSameHistory(t *testing.T) {
	for seed := range uint64(3) {
		c := Config{Seed: seed, Faults: AllFaults, Regions: 2 + int(seed), Operations: 250}
		first, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if first.Hash != second.Hash {
			t.Errorf("seed %d: %d operations once, and another history of %d the other time", seed, first.Operations, second.Operations)
		}
		c.Seed += 1000
		if other, err := Run(t.Context(), c); err != nil || other.Hash == first.Hash {
			t.Errorf("seeds %d and %d tell the same story (%v)", seed, c.Seed, err)
		}
	}
}

// TestForgetfulDisk plants a disk that loses what it has acknowledged, and has the simulator find that and tell it in a
// few lines.
func TestForgetfulDisk(t *testing.T) {
	for seed := range uint64(10) {
		r, err := Run(t.Context(), Config{Seed: seed, Faults: Crashes, Operations: 200, Regions: 2, defect: forgetful})
		if err != nil {
			t.Fatal(err)
		}
		if r.Broken == "" { // nothing was lost in a crash
			continue
		}
		if len(r.Shortest) > 40 || !slices.ContainsFunc(r.Shortest, func(line string) bool { return strings.Contains(line, "the process dies") }) {
			t.Errorf("seed %d: %s\n%s", seed, r.Broken, strings.Join(r.Shortest, "\n"))
		}
		return
	}
	t.Error("nobody has noticed")
}

func TestShrink(t *testing.T) {
	var all []operation
	for i := range 300 {
		all = append(all, operation{id: i})
	}
	needed := []int{7, 130, 131, 299}
	got, tried, err := shrink(all, func(part []operation) (bool, error) {
		for _, id := range needed {
			if !slices.ContainsFunc(part, func(op operation) bool { return op.id == id }) {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []int
	for _, op := range got {
		ids = append(ids, op.id)
	}
	if !slices.Equal(ids, needed) {
		t.Errorf("what is left are %d operations after %d tries: %v", len(ids), tried, ids)
	}
}

func TestParseFaults(t *testing.T) {
	for text, want := range map[string]Faults{"all": AllFaults, "none": 0, "": 0, "crashes,clocks": Crashes | Clocks, "all,disks": AllFaults} {
		got, err := ParseFaults(strings.FieldsFunc(text, func(r rune) bool { return r == ',' })...)
		if err != nil || got != want {
			t.Errorf("%q is %b (%v), want %b", text, got, err, want)
		}
	}
	if _, err := ParseFaults("crashes", "meteors"); err == nil {
		t.Error("meteors are a fault")
	}
}
