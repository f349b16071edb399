package projections

import "github.com/google/uuid"

// cacheSize is how many orders a generation of a cache holds.
const cacheSize = 2048

// A cache remembers the orders that were used last: at least cacheSize of them, at most twice as many. It repeats
// what stands in committed rows, which only the holder of the lease changes. The zero cache is empty.
type cache struct {
	young, old map[uuid.UUID]state
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
	if len(c.young) >= cacheSize || c.young == nil {
		c.young, c.old = make(map[uuid.UUID]state, cacheSize), c.young
	}
	c.young[id] = s
}
