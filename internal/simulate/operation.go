package simulate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A kind is what an operation does.
type kind int

const (
	// Clients.
	submit kind = iota // send a new order
	change             // send a command on an order
	again              // send a request once more
	reuse              // send something else under the key of a request
	look               // read an order, with a mark

	// Processes, one step each.
	publish   // the relay reads the ledger and gives to the bus
	deliver   // the bus gives to a mirror or, in the own region, to the projector
	catchUp   // a mirror reads the ledger that it mirrors
	project   // the projector reads a ledger or a mirror
	reconcile // the reconciler reads a ledger or a mirror
	ask       // a region that has started asks another one how far it is

	// People who run it.
	takeOver
	handOver
	settle

	// What goes wrong, and what ends it.
	crash
	start
	breakAppend // the next append of a region goes wrong
	fillDisk
	emptyDisk
	cut // a link, in one direction
	flap
	mend
	mendAll
	skew // a clock
	wait // for hours
	rest // everything is mended and comes to rest, and is compared
	lose // a region is gone for ever; the others take over from it

	kinds
)

var kindNames = [kinds]string{
	"submit", "change", "again", "reuse", "look", "publish", "deliver", "catch up", "project", "reconcile", "ask", "take over", "hand over", "settle",
	"crash", "start", "break append", "fill disk", "empty disk", "cut", "flap", "mend", "mend all", "skew", "wait", "rest", "lose",
}

func (k kind) String() string { return kindNames[k] }

// An operation is something that happens in a world. All that it leaves to chance follows from its draw, and it names
// what it is about rather than what is there, so that it means the same when others are left out.
type operation struct {
	id     int
	kind   kind
	region int
	other  int           // another region, or the same
	order  int           // which order of the clients
	ref    int           // the operation whose request is repeated
	draw   uint64        // seeds its chance
	after  time.Duration // since the operation before
	inside bool          // it happens within the next append of the operation before it, between reading and writing, or else after it
}

// Faults are what may go wrong in a history.
type Faults uint

// The faults.
const (
	Crashes    Faults = 1 << iota // processes die, also within an append
	Disks                         // are full, fail, or do not answer
	Partitions                    // links are cut in one direction or both, flap, and lose requests and answers
	Delays                        // messages take hours
	Duplicates                    // messages come twice
	Clocks                        // are an hour wrong, and jump
	Races                         // others act between reading and writing
	Takeovers                     // regions take over from one another, and give back

	AllFaults Faults = 1<<iota - 1
)

var faultNames = []string{"crashes", "disks", "partitions", "delays", "duplicates", "clocks", "races", "takeovers"}

// ParseFaults reads the names of faults; "all" and "none" are some too.
func ParseFaults(names ...string) (Faults, error) {
	var f Faults
next:
	for _, name := range names {
		switch name {
		case "all":
			f = AllFaults
			continue
		case "none":
			continue
		}
		for i, known := range faultNames {
			if name == known {
				f |= 1 << i
				continue next
			}
		}
		return 0, fmt.Errorf("there is no fault %q: there are %v, all and none", name, faultNames)
	}
	return f, nil
}

// A weight says how often a kind happens, and which fault it belongs to; 0: to none.
type weight struct {
	share int
	of    Faults
}

// temper is by how many quarters a kind happens more often in one history than its share says, or less. Histories in which
// everything goes wrong all the time hide as much as those in which nothing does.
func (w weight) temper(chance *rand.Rand) int {
	tempers := [4]int{4, 4, 4, 4}
	if w.of != 0 {
		tempers = [4]int{1, 3, 4, 12}
	}
	return tempers[chance.IntN(len(tempers))]
}

var weights = [kinds]weight{
	submit: {90, 0}, change: {330, 0}, again: {70, 0}, reuse: {8, 0}, look: {50, 0},
	publish: {120, 0}, deliver: {150, 0}, catchUp: {40, 0}, project: {60, 0}, reconcile: {80, 0}, ask: {40, 0},
	takeOver: {30, Takeovers}, handOver: {30, Takeovers}, settle: {12, Takeovers},
	crash: {8, Crashes}, start: {100, Crashes | Disks},
	breakAppend: {18, Crashes | Disks}, fillDisk: {2, Disks}, emptyDisk: {25, Disks},
	cut: {12, Partitions}, flap: {3, Partitions}, mend: {60, Partitions}, mendAll: {5, Partitions},
	skew: {4, Clocks}, wait: {8, Delays},
}

// generate makes the operations of a history. It comes to rest in the middle and at the end, or ends with the loss of a
// region.
func generate(c Config) []operation {
	chance := rand.New(rand.NewPCG(c.Seed, 1))
	var drawn []kind
	for k, w := range weights {
		share := w.share * w.temper(chance)
		if w.of == 0 || w.of&c.Faults != 0 {
			drawn = append(drawn, slices.Repeat([]kind{kind(k)}, share/4)...)
		}
	}
	all := make([]operation, 0, c.Operations+2)
	orders := 0
	var requests []int // operations that have sent some
	for i := range c.Operations {
		op := operation{
			id: i, kind: drawn[chance.IntN(len(drawn))], region: chance.IntN(c.Regions), other: chance.IntN(c.Regions),
			draw: chance.Uint64(), after: pause(chance),
		}
		switch op.kind {
		case submit:
			op.order = orders
			orders++
			requests = append(requests, i)
		case again, reuse:
			if len(requests) > 0 {
				op.ref = requests[recent(chance, len(requests))]
			}
		case change, look, settle:
			op.order = recent(chance, orders)
			if op.kind == change {
				requests = append(requests, i)
			}
		}
		op.inside = c.Faults&Races != 0 && chance.IntN(20) == 0
		all = append(all, op)
		if i == c.Operations/2 {
			all = append(all, operation{id: c.Operations, kind: rest})
		}
	}
	last := operation{id: c.Operations + 1, kind: rest}
	if c.Faults&Takeovers != 0 && chance.IntN(4) == 0 {
		last.kind, last.region, last.draw = lose, chance.IntN(c.Regions), chance.Uint64()
	}
	return append(all, last)
}

// recent chooses one of n, mostly of the last ones, so that much happens to the same orders.
func recent(chance *rand.Rand, n int) int {
	if n == 0 {
		return 0
	}
	if back := int(chance.ExpFloat64() * 4); back < n && chance.IntN(4) > 0 {
		return n - 1 - back
	}
	return chance.IntN(n)
}

// pause is how much later something happens: milliseconds, sometimes seconds.
func pause(chance *rand.Rand) time.Duration {
	d := time.Duration(chance.Int64N(int64(200 * time.Millisecond)))
	if chance.IntN(8) == 0 {
		d = time.Duration(chance.Int64N(int64(20 * time.Second)))
	}
	return d
}
