package projections

import "github.com/google/uuid"

// Bounds of a generation of a cache: how many orders it holds, and how many lines these have together.
const (
	cacheOrders = 2_048
	cacheLines  = 16_384
)

// A cache remembers the orders that were used last, in two generations: when the young one is full it becomes the old
// one, and what was not used since is forgotten. It repeats what stands in committed rows, which only the holder of
// the lease changes. The zero cache is empty.
type cache struct {
	young, old map[uuid.UUID]state
	lines      int // of the young generation
}

func (c *cache) get(id uuid.UUID) (state, bool) {
	if s, ok := c.young[id]; ok {
		return s, true
	}
	s, ok := c.old[id]
	if ok {
		c.put(id, s)
	}
	return s, ok
}

func (c *cache) put(id uuid.UUID, s state) {
	if len(c.young) >= cacheOrders || c.lines >= cacheLines || c.young == nil {
		c.young, c.old, c.lines = make(map[uuid.UUID]state), c.young, 0
	}
	if _, again := c.young[id]; !again {
		c.lines += len(s.folded.Lines)
	}
	c.young[id] = s
}
