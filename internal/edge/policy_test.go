package edge_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/internal/edge"
	"github.com/orderledger/orderledger/internal/topology"
)

// regions makes a topology: a, b, c … stand in a row, each the first choice of a country of the same order.
func regions(t testing.TB, apis ...string) *topology.Topology {
	t.Helper()
	countries := []string{"DE", "FR", "US", "CA", "JP", "IN"}
	var b strings.Builder
	b.WriteString("regions:\n")
	for i, api := range apis {
		fmt.Fprintf(&b, "  - {name: %c, latitude: 0, longitude: %d, api: %q, ledger: 3f0c6a52-5f0e-4c55-9d0f-00000000000%d, countries: [%s]}\n",
			'a'+i, i*i, api, i+1, countries[i])
	}
	parsed, err := topology.Parse([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func three(t testing.TB) *topology.Topology {
	return regions(t, "http://a", "http://b", "http://c")
}

// A desk drives a policy with a clock of its own.
type desk struct {
	testing.TB
	*edge.Policy
	now time.Time
}

func newDesk(t testing.TB) *desk {
	d := &desk{t, edge.NewPolicy(rand.New(rand.NewPCG(1, 2))), time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}
	d.Use(three(t))
	return d
}

func (d *desk) choose(class edge.Class, country string, tried ...string) edge.Choice {
	d.Helper()
	c, err := d.Choose(d.now, class, country, tried)
	if err != nil {
		d.Fatal(err)
	}
	return c
}

// expect chooses for a request of class Read and reports its outcome.
func (d *desk) expect(region, country string, o edge.Outcome) {
	d.Helper()
	c := d.choose(edge.Read, country)
	if c.Region.Name != region {
		d.Fatalf("region %s is chosen, want %s: %+v", c.Region.Name, region, d.Status(d.now))
	}
	d.Report(d.now, c, o, 0)
}

func (d *desk) state(region string) string {
	for _, r := range d.Status(d.now).Regions {
		if r.Name == region {
			return r.State
		}
	}
	return "unknown"
}

// probe lets a probe of a region find something; other probes find their regions ready.
func (d *desk) probe(region string, h edge.Health) (lost bool) {
	d.Helper()
	for range 1000 {
		due, wait := d.Probes(d.now)
		found := false
		for _, r := range due {
			if r.Name == region {
				lost, found = d.Probed(d.now, r.Name, h, time.Millisecond), true
			} else {
				d.Probed(d.now, r.Name, edge.Ready, time.Millisecond)
			}
		}
		if found {
			return lost
		}
		d.now = d.now.Add(wait)
	}
	d.Fatalf("region %s is not probed", region)
	return false
}

// openOf is for how long a region is left alone.
func (d *desk) openOf(region string) time.Duration {
	for _, r := range d.Status(d.now).Regions {
		if r.Name == region && r.OpenUntil != nil {
			return r.OpenUntil.Sub(d.now)
		}
	}
	return 0
}

func between(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got >= high {
		t.Errorf("%s is %v, want %v to %v", what, got, low, high)
	}
}

func TestNearestByCountry(t *testing.T) {
	d := newDesk(t)
	d.expect("a", "DE", edge.Answered)
	d.expect("c", "US", edge.Answered)
	if c := d.choose(edge.Read, "US", "c"); c.Region.Name != "b" {
		t.Errorf("next to c is %s", c.Region.Name)
	}
	if c := d.choose(edge.Read, "US", "c", "b"); c.Region.Name != "a" {
		t.Errorf("last is %s", c.Region.Name)
	}
	var none *edge.NoRegionError
	if _, err := d.Choose(d.now, edge.Read, "US", []string{"a", "b", "c"}); !errors.As(err, &none) || none.RetryAfter != time.Second {
		t.Errorf("when all were tried: %v", err)
	}
}

func TestNearestByLatency(t *testing.T) {
	d := newDesk(t)
	measure := func(a, b, c time.Duration) {
		for range 30 { // the smoothed values arrive
			d.now = d.now.Add(2 * time.Second)
			due, _ := d.Probes(d.now)
			for _, r := range due {
				d.Probed(d.now, r.Name, edge.Ready, map[string]time.Duration{"a": a, "b": b, "c": c}[r.Name])
			}
		}
	}
	d.expect("a", "", edge.Answered) // nothing is known yet
	measure(80*time.Millisecond, 20*time.Millisecond, 50*time.Millisecond)
	d.expect("b", "", edge.Answered)
	d.expect("b", "ZW", edge.Answered)
	if c := d.choose(edge.Read, "", "b"); c.Region.Name != "c" {
		t.Errorf("second is %s", c.Region.Name)
	}
	measure(80*time.Millisecond, 20*time.Millisecond, 18*time.Millisecond)
	d.expect("b", "", edge.Answered) // a little is no reason to move
	measure(80*time.Millisecond, 20*time.Millisecond, 10*time.Millisecond)
	d.expect("c", "", edge.Answered)
}

func TestBreaker(t *testing.T) {
	d := newDesk(t)
	d.expect("a", "DE", edge.Failed)
	d.expect("a", "DE", edge.Failed)
	d.expect("a", "DE", edge.Unknown)
	d.expect("a", "DE", edge.Answered) // begins to count anew
	d.expect("a", "DE", edge.Failed)
	d.expect("a", "DE", edge.Failed)
	d.expect("a", "DE", edge.Failed)
	d.expect("b", "DE", edge.Answered)
	between(t, "the first pause", d.openOf("a"), time.Second, 3*time.Second/2)

	d.probe("a", edge.Silent)
	between(t, "the second pause", d.openOf("a"), 2*time.Second, 3*time.Second)
	d.probe("a", edge.Ready)
	if got := d.state("a"); got != "half-open" {
		t.Fatalf("after a good probe the breaker is %s", got)
	}
	trial := d.choose(edge.Read, "DE")
	if trial.Region.Name != "a" {
		t.Fatalf("%s is tried", trial.Region.Name)
	}
	d.expect("b", "DE", edge.Answered) // one at a time
	d.Report(d.now, trial, edge.Unknown, 0)
	if c := d.choose(edge.Long, "DE"); c.Region.Name != "b" {
		t.Error("a stream is used for a trial")
	}
	if c := d.choose(edge.Read, "DE", "c"); c.Region.Name != "b" {
		t.Error("a retry is used for a trial")
	}
	d.expect("a", "DE", edge.Failed)
	between(t, "the third pause", d.openOf("a"), 4*time.Second, 6*time.Second)
	for range 5 {
		d.probe("a", edge.Silent)
	}
	between(t, "the longest pause", d.openOf("a"), 10*time.Second, 15*time.Second)
	d.probe("a", edge.Ready)
	d.expect("a", "DE", edge.Answered)
	if got := d.state("a"); got != "closed" {
		t.Fatalf("after a good trial the breaker is %s", got)
	}
}

func TestLateReportsTellNothing(t *testing.T) {
	d := newDesk(t)
	early := d.choose(edge.Read, "DE")
	for range 3 {
		d.expect("a", "DE", edge.Failed)
	}
	until := d.openOf("a")
	d.Report(d.now, early, edge.Failed, 0)
	d.Report(d.now, early, edge.Answered, 0)
	if d.state("a") != "open" || d.openOf("a") != until {
		t.Errorf("a late report has changed it: %+v", d.Status(d.now))
	}
	d.probe("a", edge.Ready)
	d.Report(d.now, early, edge.Answered, 0)
	if d.state("a") != "half-open" {
		t.Error("a late report is taken for a trial")
	}
}

func TestSilentRegionIsLost(t *testing.T) {
	d := newDesk(t)
	if d.probe("b", edge.Silent) {
		t.Error("one silence is enough")
	}
	before := d.now
	if !d.probe("b", edge.Silent) {
		t.Error("two are not")
	}
	between(t, "the time to the second probe", d.now.Sub(before), 0, 250*time.Millisecond)
	if d.probe("b", edge.Silent) {
		t.Error("it is lost twice")
	}
	if got := d.state("b"); got != "open" {
		t.Errorf("the breaker is %s", got)
	}
}

func TestRetryAfterIsRespected(t *testing.T) {
	d := newDesk(t)
	for range 3 {
		d.Report(d.now, d.choose(edge.Read, "DE"), edge.Failed, 20*time.Second)
	}
	between(t, "the pause", d.openOf("a"), 20*time.Second, 30*time.Second)
}

func TestSlowStart(t *testing.T) {
	d := newDesk(t)
	for range 3 {
		d.expect("a", "DE", edge.Failed)
	}
	d.probe("a", edge.Ready)
	d.expect("a", "DE", edge.Answered)
	share := func() (n int) {
		for range 1000 {
			if d.choose(edge.Read, "DE").Region.Name == "a" {
				n++
			}
		}
		return n
	}
	last := 0
	for _, step := range []struct{ low, high int }{{60, 140}, {440, 560}, {1000, 1001}} {
		if last = share(); last < step.low || last >= step.high {
			t.Errorf("%d of 1000, want %d to %d", last, step.low, step.high)
		}
		d.now = d.now.Add(5 * time.Second)
	}
	for _, region := range []string{"b", "c"} { // nobody else is left
		for range 3 {
			c := d.choose(edge.Read, map[string]string{"b": "FR", "c": "US"}[region])
			d.Report(d.now, c, edge.Failed, 0)
		}
	}
	d.expect("a", "FR", edge.Answered)
}

func TestUnreadyIsTheLastChoice(t *testing.T) {
	d := newDesk(t)
	d.probe("a", edge.Unready)
	d.expect("b", "DE", edge.Answered)
	d.probe("b", edge.Unready)
	d.probe("a", edge.Unready)
	d.expect("c", "DE", edge.Answered)
	for range 3 {
		d.expect("c", "DE", edge.Failed)
	}
	d.expect("a", "DE", edge.Answered)
}

func TestAllRegionsDown(t *testing.T) {
	d := newDesk(t)
	for _, country := range []string{"DE", "FR", "US"} {
		for range 3 {
			d.Report(d.now, d.choose(edge.Keyed, country), edge.Failed, 10*time.Second)
		}
	}
	var none *edge.NoRegionError
	if _, err := d.Choose(d.now, edge.Read, "DE", nil); !errors.As(err, &none) {
		t.Fatalf("%v", err)
	}
	between(t, "Retry-After", none.RetryAfter, 10*time.Second, 15*time.Second)
}

func TestRetryBudget(t *testing.T) {
	d := newDesk(t)
	sent := 0
	for sent < 1000 {
		if _, err := d.Choose(d.now, edge.Read, "DE", []string{"a"}); errors.Is(err, edge.ErrRetryBudget) {
			break
		}
		sent++
	}
	if sent != 100 {
		t.Errorf("%d retries at once", sent)
	}
	if _, err := d.Choose(d.now, edge.Resume, "DE", []string{"a"}); err != nil {
		t.Errorf("a stream takes from the budget: %v", err)
	}
	for range 10 {
		d.expect("a", "DE", edge.Answered)
	}
	for range 2 {
		d.choose(edge.Read, "DE", "a")
	}
	if _, err := d.Choose(d.now, edge.Read, "DE", []string{"a"}); !errors.Is(err, edge.ErrRetryBudget) {
		t.Errorf("ten requests earn more than two retries: %v", err)
	}
}

func TestPace(t *testing.T) {
	d := newDesk(t)
	var last time.Duration
	for range 1000 {
		last = d.Pace(d.now)
	}
	between(t, "the wait of the thousandth stream", last, 4*time.Second, 6*time.Second)
	d.now = d.now.Add(time.Minute)
	if got := d.Pace(d.now); got != 0 {
		t.Errorf("a single stream waits %v", got)
	}
}

func TestTopologyInForce(t *testing.T) {
	d := newDesk(t)
	for range 3 {
		d.expect("b", "FR", edge.Failed)
	}
	gone := d.choose(edge.Read, "US")
	d.Use(regions(t, "http://a", "http://b"))
	if got := d.state("b"); got != "open" {
		t.Errorf("what was known of b is forgotten: %s", got)
	}
	d.Report(d.now, gone, edge.Failed, 0)
	if d.Probed(d.now, "c", edge.Silent, 0) {
		t.Error("a region that is gone is lost")
	}
	d.expect("a", "US", edge.Answered)
	d.Use(three(t))
	d.expect("c", "US", edge.Answered)
}

// Whatever happens, a choice is one that may be made.
func TestPolicyModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var apis []string
		for i := range rapid.IntRange(1, 5).Draw(t, "regions") {
			apis = append(apis, fmt.Sprintf("http://r%d", i))
		}
		var file strings.Builder
		file.WriteString("regions:\n")
		for i, api := range apis {
			fmt.Fprintf(&file, "  - {name: r%d, latitude: 0, longitude: %d, api: %q, ledger: 3f0c6a52-5f0e-4c55-9d0f-00000000000%d}\n", i, i, api, i+1)
		}
		parsed, err := topology.Parse([]byte(file.String()))
		if err != nil {
			t.Fatal(err)
		}
		p := edge.NewPolicy(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)))
		p.Use(parsed)
		now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
		type sent struct {
			edge.Choice
			trial bool
			tried []string
		}
		var flying []sent
		var probing []string
		requests, retries := 0, 0
		name := func(r topology.Region) string { return r.Name }
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if limit := 100 + float64(requests)/5; float64(retries) > limit {
					t.Fatalf("%d retries of %d requests", retries, requests)
				}
			},
			"choose": func(t *rapid.T) {
				class := rapid.SampledFrom([]edge.Class{edge.Read, edge.Keyed, edge.Once, edge.Long, edge.Resume}).Draw(t, "class")
				var tried []string
				if len(flying) > 0 && rapid.Bool().Draw(t, "again") {
					last := rapid.SampledFrom(flying).Draw(t, "which")
					tried = append(slices.Clone(last.tried), last.Region.Name)
				}
				budget := p.Status(now).Retries
				before := p.Status(now).Regions
				choice, err := p.Choose(now, class, "", tried)
				untried := func(fit func(edge.RegionStatus) bool) bool {
					return slices.ContainsFunc(before, func(r edge.RegionStatus) bool { return !slices.Contains(tried, r.Name) && fit(r) })
				}
				healthy := untried(func(r edge.RegionStatus) bool { return r.State == "closed" && r.Ready })
				counted := len(tried) > 0 && class != edge.Resume
				switch {
				case errors.Is(err, edge.ErrRetryBudget):
					if budget >= 1 || !counted {
						t.Fatalf("refused with a budget of %d", budget)
					}
					return
				case err != nil:
					if untried(func(r edge.RegionStatus) bool { return r.State == "closed" }) {
						t.Fatalf("%v, and there is %+v", err, before)
					}
					return
				}
				got := before[slices.IndexFunc(before, func(r edge.RegionStatus) bool { return r.Name == choice.Region.Name })]
				trial := got.State == "half-open"
				switch {
				case slices.Contains(tried, got.Name):
					t.Fatalf("%s gets a request again", got.Name)
				case got.State == "open":
					t.Fatalf("%s is open", got.Name)
				case trial && slices.ContainsFunc(flying, func(s sent) bool { return s.trial && s.Region.Name == got.Name }):
					t.Fatalf("%s is tried by two", got.Name)
				case healthy && !got.Ready:
					t.Fatalf("%s is not ready: %+v", got.Name, before)
				case healthy && trial && (class == edge.Once || class == edge.Long || counted):
					t.Fatalf("a request of class %d tries %s", class, got.Name)
				}
				if counted {
					retries++
				} else if class != edge.Resume {
					requests++
				}
				flying = append(flying, sent{choice, trial, tried})
			},
			"report": func(t *rapid.T) {
				if len(flying) == 0 {
					t.Skip("nothing is under way")
				}
				i := rapid.IntRange(0, len(flying)-1).Draw(t, "which")
				o := rapid.SampledFrom([]edge.Outcome{edge.Answered, edge.Failed, edge.Failed, edge.Unknown}).Draw(t, "outcome")
				p.Report(now, flying[i].Choice, o, time.Duration(rapid.IntRange(0, 100).Draw(t, "retry after"))*time.Second)
				flying = slices.Delete(flying, i, i+1)
			},
			"probe": func(t *rapid.T) {
				due, wait := p.Probes(now)
				for _, r := range due {
					if slices.Contains(probing, name(r)) {
						t.Fatalf("%s is probed twice at once", name(r))
					}
					probing = append(probing, name(r))
				}
				if wait <= 0 || wait > time.Second {
					t.Fatalf("the next probes come in %v", wait)
				}
			},
			"probed": func(t *rapid.T) {
				if len(probing) == 0 {
					t.Skip("nobody is probed")
				}
				h := rapid.SampledFrom([]edge.Health{edge.Ready, edge.Ready, edge.Unready, edge.Silent}).Draw(t, "health")
				p.Probed(now, probing[0], h, time.Duration(rapid.IntRange(0, 1e9).Draw(t, "latency")))
				probing = probing[1:]
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 20_000).Draw(t, "ms")) * time.Millisecond)
			},
		})
	})
}
