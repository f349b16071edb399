package pebblestore

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// A filter remembers names and answers whether it may have seen one: never no for one that it has, and yes for about one
// in a hundred that it has not. It takes about 12 bits for each name (Bloom, 1970; in blocks of a cache line, as by
// Putze, Sanders and Singler, 2007), in layers that grow as names come.
//
// Any number may ask, without a lock.
type filter struct {
	seed   maphash.Seed
	layers atomic.Pointer[[]*layer]

	mu    sync.Mutex // held to add
	count int        // names in the newest layer
}

type layer struct {
	blocks []block
	size   int // names that it is made for
}

type block [8]atomic.Uint64

const (
	firstLayer    = 1 << 14 // names
	namesPerBlock = 512 / 12
	filterProbes  = 6
)

func newFilter() *filter {
	f := &filter{seed: maphash.MakeSeed()}
	f.layers.Store(&[]*layer{newLayer(firstLayer)})
	return f
}

func newLayer(size int) *layer { return &layer{make([]block, size/namesPerBlock+1), size} }

// find returns the block for a hash, and the bits to look at, nine of them for each probe.
func (l *layer) find(h uint64) (*block, uint64) {
	return &l.blocks[(h>>32)*uint64(len(l.blocks))>>32], (h*0x9e3779b97f4a7c15 | 1) >> 8
}

// add remembers a name.
func (f *filter) add(name string) {
	h := maphash.String(f.seed, name)
	f.mu.Lock()
	defer f.mu.Unlock()
	layers := *f.layers.Load()
	newest := layers[len(layers)-1]
	if f.count >= newest.size {
		newest = newLayer(4 * newest.size)
		grown := append(append([]*layer(nil), layers...), newest)
		f.layers.Store(&grown)
		f.count = 0
	}
	f.count++
	b, bits := newest.find(h)
	for range filterProbes {
		b[bits>>6&7].Or(1 << (bits & 63))
		bits >>= 9
	}
}

// mayHave reports whether a name may have been added.
func (f *filter) mayHave(name string) bool {
	h := maphash.String(f.seed, name)
	for _, l := range *f.layers.Load() {
		if l.mayHave(h) {
			return true
		}
	}
	return false
}

func (l *layer) mayHave(h uint64) bool {
	b, bits := l.find(h)
	for range filterProbes {
		if b[bits>>6&7].Load()&(1<<(bits&63)) == 0 {
			return false
		}
		bits >>= 9
	}
	return true
}
