package edge

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/orderledger/orderledger/internal/topology"
)

// A Class is what may be done with a request.
type Class int

// The classes.
const (
	Read   Class = iota // asks: it may be sent again
	Keyed               // a write with an idempotency key and a body at hand: it may be sent again
	Once                // any other write
	Long                // a stream or a long poll: it may be sent again
	Resume              // a stream that goes on elsewhere; [Policy.Pace] spaces these, not the retry budget
)

// An Outcome is what a region made of a request.
type Outcome int

// The outcomes.
const (
	Answered Outcome = iota // whatever it said, it is fit to be asked
	Failed                  // it did not answer, or said that it cannot
	Unknown                 // the client went away first
)

// A Health is what a probe found.
type Health int

// What a probe may find.
const (
	Ready   Health = iota
	Unready        // it answers, and asks not to be sent anything
	Silent         // it does not answer
)

// The policy's figures.
const (
	retryPrice = 5   // requests that earn a retry
	retryBurst = 100 // retries that may be saved up, and that there are at the start

	failureLimit  = 3 // failed requests in a row that open the breaker
	silenceLimit  = 2 // unanswered probes in a row that do
	firstPause    = time.Second
	longestPause  = 10 * time.Second
	longestRest   = 30 * time.Second // that a region may ask for with Retry-After
	steadyAfter   = 30 * time.Second // a region that held so long begins again with the first pause
	slowStart     = 10 * time.Second // until a region that has come back gets its full share
	smallestShare = 0.1

	probeInterval = time.Second
	probeAgain    = 200 * time.Millisecond // after a first silence

	latencyWeight = 0.3  // of the newest probe
	clearlyFaster = 0.75 // a region takes the first place by latency from one that is slower than this makes up for

	resumeGap   = 5 * time.Millisecond // between streams that go on elsewhere
	resumeBurst = 50                   // of them at once
)

// A Policy decides which region gets a request. It is a step: it starts nothing, has no clock, and all chance comes from
// the source that it was given, so the same calls give the same answers. It is not safe for concurrent use.
//
// Each region has a breaker. Failed requests or silent probes in a row open it, and the region gets nothing for a pause
// that doubles with each time, with jitter; then a probe must find it, then one request at a time tries it, and after a
// success its share grows from a tenth to all within ten seconds. A region that answers but says that it is not ready is
// asked only when nobody else is left: if all are behind, behind is better than nothing.
type Policy struct {
	rand      *rand.Rand
	topology  *topology.Topology
	regions   map[string]*breaker
	byLatency []topology.Region
	earned    int       // by requests for retries; each costs retryPrice
	pace      time.Time // when the next stream may go on, if none had been saved up
}

// NewPolicy returns a Policy that knows no region yet, see [Policy.Use].
func NewPolicy(chance *rand.Rand) *Policy {
	return &Policy{rand: chance, regions: make(map[string]*breaker), earned: retryBurst * retryPrice}
}

// Use makes a topology the one in force. What is known of regions that stay is kept; new ones count as healthy until
// they turn out not to be.
func (p *Policy) Use(t *topology.Topology) {
	if t == p.topology {
		return
	}
	p.topology = t
	before := p.regions
	p.regions = make(map[string]*breaker, len(t.Regions))
	for _, r := range t.Regions {
		if p.regions[r.Name] = before[r.Name]; before[r.Name] == nil {
			p.regions[r.Name] = &breaker{ready: true}
		}
	}
	p.byLatency = slices.Clone(t.Regions)
	p.sortByLatency()
}

// A Choice is a region that a request is sent to.
type Choice struct {
	Region topology.Region
	trial  bool
}

// ErrRetryBudget is the error of [Policy.Choose] when so much has been sent again that more would make things worse.
var ErrRetryBudget = errors.New("too many requests have been sent again")

// A NoRegionError is the error of [Policy.Choose] when no region is left to be asked.
type NoRegionError struct {
	RetryAfter time.Duration // when one may be
}

func (e *NoRegionError) Error() string {
	return fmt.Sprintf("no region can be asked for %v", e.RetryAfter)
}

// Choose decides to which region a request from a country (empty: not known) goes. Tried are the regions that it was
// sent to before: they do not get it again, and unless the class is Resume, sending it again takes from the retry budget.
// Each choice must be followed by a [Policy.Report].
func (p *Policy) Choose(now time.Time, class Class, country string, tried []string) (Choice, error) {
	again := len(tried) > 0
	if !again && class != Resume {
		p.earned = min(p.earned+1, retryBurst*retryPrice)
	}
	choice, ok := p.find(now, p.order(country), class, tried)
	switch {
	case !ok:
		return Choice{}, &NoRegionError{p.untilOneMayBe(now)}
	case again && class != Resume && p.earned < retryPrice:
		return Choice{}, ErrRetryBudget
	case again && class != Resume:
		p.earned -= retryPrice
	}
	b := p.regions[choice.Region.Name]
	if choice.trial = b.state == halfOpen; choice.trial {
		b.trying = true
	}
	return choice, nil
}

// order are the regions that may get a request, the nearest first.
func (p *Policy) order(country string) []topology.Region {
	if first, ok := p.topology.ForCountry(country); ok {
		return append([]topology.Region{first}, p.topology.Next(first.Name)...)
	}
	return p.byLatency
}

func (p *Policy) find(now time.Time, order []topology.Region, class Class, tried []string) (Choice, bool) {
	var warming, resting, unready *topology.Region // the first of each kind
	keep := func(kind **topology.Region, r *topology.Region) {
		if *kind == nil {
			*kind = r
		}
	}
	for i := range order {
		r := &order[i]
		if slices.Contains(tried, r.Name) {
			continue
		}
		switch b := p.regions[r.Name]; {
		case b.state == open, b.state == halfOpen && b.trying:
		case b.state == halfOpen:
			if len(tried) == 0 && b.ready && (class == Read || class == Keyed) {
				return Choice{Region: *r}, true
			}
			keep(&resting, r)
		case !b.ready:
			keep(&unready, r)
		case p.rand.Float64() >= b.share(now):
			keep(&warming, r)
		default:
			return Choice{Region: *r}, true
		}
	}
	if r := cmp.Or(warming, resting, unready); r != nil {
		return Choice{Region: *r}, true
	}
	return Choice{}, false
}

func (p *Policy) untilOneMayBe(now time.Time) time.Duration {
	soonest := longestRest
	for _, b := range p.regions {
		if b.state == open {
			soonest = min(soonest, b.until.Sub(now))
		} else {
			soonest = 0
		}
	}
	return max(soonest, time.Second)
}

// Report tells what a region made of a request. It may be called again for the same choice when an answer breaks off
// later. RetryAfter is what the region asked for, if it did.
func (p *Policy) Report(now time.Time, c Choice, o Outcome, retryAfter time.Duration) {
	b := p.regions[c.Region.Name]
	if b == nil { // it has left the topology
		return
	}
	switch {
	case c.trial && b.state == halfOpen:
		b.trying = false
		switch o {
		case Answered:
			b.close(now)
		case Failed:
			b.open(now, p.rand, retryAfter)
		case Unknown:
		}
	case b.state != closed:
		// It was sent before the breaker opened, and tells nothing of now.
	case o == Answered:
		b.failures = 0
	case o == Failed:
		if b.failures++; b.failures >= failureLimit {
			b.open(now, p.rand, retryAfter)
		}
	}
}

// Probes returns the regions to probe now, and when to ask again. Each must be followed by a [Policy.Probed].
func (p *Policy) Probes(now time.Time) (due []topology.Region, wait time.Duration) {
	wait = probeInterval
	for _, r := range p.topology.Regions {
		b := p.regions[r.Name]
		switch left := b.probeAt.Sub(now); {
		case b.probing:
		case left > 0:
			wait = min(wait, left)
		default:
			b.probing = true
			due = append(due, r)
		}
	}
	return due, max(wait, time.Millisecond)
}

// Probed tells what a probe found, and how long the answer took. It reports whether the region is lost by that: what it
// is still asked will probably not be answered.
func (p *Policy) Probed(now time.Time, region string, h Health, latency time.Duration) (lost bool) {
	b := p.regions[region]
	if b == nil {
		return false
	}
	b.probing = false
	if h != Silent {
		b.measured(latency)
		p.sortByLatency()
	}
	lost = b.probed(now, p.rand, h)
	if b.state == open {
		b.probeAt = b.until
	} else {
		interval := probeInterval
		if b.silences > 0 {
			interval = probeAgain
		}
		b.probeAt = now.Add(interval*9/10 + upTo(p.rand, interval/5))
	}
	return lost
}

// condition is what is logged of a region when it changes.
type condition struct {
	state state
	ready bool
}

func (c condition) up() bool { return c.state == closed && c.ready }

func (p *Policy) look(region string) (condition, bool) {
	b, known := p.regions[region]
	if !known {
		return condition{}, false
	}
	return condition{b.state, b.ready}, true
}

// sortByLatency puts the nearest regions first. The first place changes hands only for one that is clearly faster, so
// that two that are equally near do not take turns.
func (p *Policy) sortByLatency() {
	first := ""
	if len(p.byLatency) > 0 {
		first = p.byLatency[0].Name
	}
	latency := func(r topology.Region) time.Duration {
		if l := p.regions[r.Name].latency; l > 0 {
			return l
		}
		return time.Hour // not known yet
	}
	slices.SortStableFunc(p.byLatency, func(a, b topology.Region) int { return cmp.Compare(latency(a), latency(b)) })
	i := slices.IndexFunc(p.byLatency, func(r topology.Region) bool { return r.Name == first })
	if i > 0 && float64(latency(p.byLatency[0])) > clearlyFaster*float64(latency(p.byLatency[i])) {
		was := p.byLatency[i]
		p.byLatency = slices.Insert(slices.Delete(p.byLatency, i, i+1), 0, was)
	}
}

// Pace returns how long a stream that has broken off waits before it goes on elsewhere, so that all those that break
// with one region do not come upon the next one at once.
func (p *Policy) Pace(now time.Time) time.Duration {
	if earliest := now.Add(-resumeBurst * resumeGap); p.pace.Before(earliest) {
		p.pace = earliest
	}
	p.pace = p.pace.Add(resumeGap)
	return max(p.pace.Sub(now), 0)
}
