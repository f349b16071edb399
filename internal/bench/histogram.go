package bench

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// precision is how many bits of a duration are kept: a bucket is at most 1/128 as wide as what it counts.
	precision = 7
	longest   = 42 // bits of a duration: more than an hour
	buckets   = (longest - precision + 1) << precision
)

// A Histogram counts durations in buckets, so that its size does not grow. A quantile is too high by less than 1 %. The
// zero Histogram is empty; all methods are safe for concurrent use.
type Histogram struct {
	counts [buckets]atomic.Uint64
	count  atomic.Uint64
	most   atomic.Int64
}

// Record counts a duration. One below zero counts as zero.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(d)].Add(1)
	h.count.Add(1)
	for most := h.most.Load(); int64(d) > most && !h.most.CompareAndSwap(most, int64(d)); {
		most = h.most.Load()
	}
}

// Count is the number of durations.
func (h *Histogram) Count() uint64 { return h.count.Load() }

// Max is the longest duration; 0 of an empty histogram.
func (h *Histogram) Max() time.Duration { return time.Duration(h.most.Load()) }

// Quantile returns a duration that the given share (0 to 1) of all did not exceed; 0 of an empty histogram.
func (h *Histogram) Quantile(share float64) time.Duration {
	rank := max(uint64(math.Ceil(share*float64(h.Count()))), 1)
	var below uint64
	for i := range h.counts {
		if below += h.counts[i].Load(); below >= rank {
			return min(upper(i), h.Max())
		}
	}
	return h.Max()
}

// bucket is where a duration is counted: by its highest bits and how many lower ones there are.
func bucket(d time.Duration) int {
	v := min(uint64(d), 1<<longest-1)
	shift := max(bits.Len64(v)-precision-1, 0)
	return shift<<precision + int(v>>shift)
}

// upper is the longest duration of a bucket.
func upper(i int) time.Duration {
	shift := max(i>>precision-1, 0)
	return time.Duration(i-shift<<precision+1)<<shift - 1
}
