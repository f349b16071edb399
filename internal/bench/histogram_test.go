package bench_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/internal/bench"
)

// TestQuantile compares a histogram with the sorted durations that it has counted.
func TestQuantile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		duration := rapid.OneOf(rapid.Int64Range(0, 1_000), rapid.Int64Range(0, int64(time.Second)), rapid.Int64Range(0, int64(time.Hour)))
		durations := rapid.SliceOfN(duration, 1, 200).Draw(t, "durations")
		share := rapid.Float64Range(0, 1).Draw(t, "share")
		var h bench.Histogram
		for _, d := range durations {
			h.Record(time.Duration(d))
		}
		slices.Sort(durations)
		rank := max(int(math.Ceil(share*float64(len(durations)))), 1)
		exact, got := durations[rank-1], int64(h.Quantile(share))
		if got < exact || float64(got) > float64(exact)*(1+1.0/128) {
			t.Fatalf("quantile %v of %v is %d, want %d and less than 1%% more", share, durations, got, exact)
		}
		if h.Count() != uint64(len(durations)) || int64(h.Max()) != durations[len(durations)-1] || h.Quantile(1) != h.Max() {
			t.Fatalf("count %d, max %v, quantile 1 %v of %v", h.Count(), h.Max(), h.Quantile(1), durations)
		}
	})
}

func TestExtremes(t *testing.T) {
	var h bench.Histogram
	if h.Quantile(0.5) != 0 || h.Max() != 0 {
		t.Errorf("an empty histogram has quantile %v and maximum %v", h.Quantile(0.5), h.Max())
	}
	h.Record(-time.Second)
	if h.Quantile(1) != 0 || h.Count() != 1 {
		t.Errorf("a duration below zero is counted as %v", h.Quantile(1))
	}
	h.Record(math.MaxInt64)
	if h.Max() != math.MaxInt64 || h.Count() != 2 {
		t.Errorf("the longest duration is counted as %v", h.Max())
	}
}
