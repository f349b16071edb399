package topology_test

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/internal/topology"
)

func names(regions []topology.Region) string {
	var names []string
	for _, r := range regions {
		names = append(names, r.Name)
	}
	return strings.Join(names, " ")
}

func example(t testing.TB) *topology.Topology {
	t.Helper()
	regions, err := topology.Load(filepath.Join("..", "..", "docs", "topology.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return regions
}

func TestExample(t *testing.T) {
	e := example(t)
	const all = "europe-west europe-central america-east america-west asia-south asia-east"
	if got := names(e.Regions); got != all {
		t.Fatalf("the regions are %s", got)
	}
	for region, want := range map[string]string{
		"europe-west":  "europe-central america-east",
		"america-west": "america-east europe-west asia-east europe-central asia-south",
		"asia-south":   "asia-east europe-central europe-west america-west america-east",
		"nowhere":      "",
	} {
		if got := names(e.Next(region)); got != want {
			t.Errorf("next of %s: %s, want %s", region, got, want)
		}
	}
	if got := names(e.Followed("asia-east")); got != "europe-west europe-central america-east america-west asia-south" {
		t.Errorf("asia-east follows %s", got)
	}
	if got := names(e.Followers("america-east")); got != "europe-west europe-central america-west asia-south asia-east" {
		t.Errorf("america-east is followed by %s", got)
	}
	if got := e.Followed("nowhere"); len(got) != 0 {
		t.Errorf("nowhere follows %s", names(got))
	}
	norway, ok := e.ForCountry("NO")
	if !ok || norway.Name != "europe-central" {
		t.Errorf("Norway has %q, %v", norway.Name, ok)
	}
	if r, ok := e.ForCountry("ZW"); ok {
		t.Errorf("Zimbabwe has %q", r.Name)
	}
	if r, ok := e.Region("nowhere"); ok {
		t.Errorf("nowhere is %q", r.Name)
	}
	for _, place := range []struct {
		city      string
		lat, long float64
		want      string
	}{
		{"Zurich", 47.38, 8.54, "europe-central"},
		{"Honolulu", 21.31, -157.86, "america-west"},
		{"Suva, beyond the date line", -18.14, 178.44, "asia-east"},
		{"Perth", -31.95, 115.86, "asia-south"},
		{"the north pole", 90, 0, "europe-west"},
	} {
		if got := e.Nearest(place.lat, place.long).Name; got != place.want {
			t.Errorf("nearest to %s: %s, want %s", place.city, got, place.want)
		}
	}
	if got := e.Nearest(norway.Latitude, norway.Longitude); !cmp.Equal(got, norway) {
		t.Errorf("nearest to itself: %s", got.Name)
	}
}

// A described region, as the file has it.
type described map[string]string

func region(name, ledger string) described {
	return described{
		"name": name, "latitude": "10", "longitude": "20", "api": "http://" + name + ":8080",
		"ledger": "3f0c6a52-5f0e-4c55-9d0f-00000000000" + ledger,
	}
}

func (d described) with(member, value string) described {
	d[member] = value
	return d
}

func (d described) without(member string) described {
	delete(d, member)
	return d
}

func write(regions ...described) string {
	var b strings.Builder
	b.WriteString("regions:\n")
	for _, d := range regions {
		b.WriteString("  - name: " + d["name"] + "\n")
		for _, member := range slices.Sorted(maps.Keys(d)) {
			if member != "name" {
				fmt.Fprintf(&b, "    %s: %s\n", member, d[member])
			}
		}
	}
	return b.String()
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string // part of each line of the error
	}{
		{"empty", "", []string{"the file names no region: list them under regions"}},
		{"no region", "regions: []", []string{"the file names no region"}},
		{"too many", write(many(17)...), []string{"the file names 17 regions: 16 are the most"}},
		{"too large", strings.Repeat("#", 256<<10+1), []string{"larger than 262144 bytes"}},
		{"two documents", write(region("a", "1")) + "---\nregions: []\n", []string{"more than one document"}},
		{"no YAML", "regions: [", []string{"yaml"}},
		{"unknown member", write(region("a", "1").with("colour", "x")), []string{"yaml: unmarshal errors", "field colour not found"}},
		{"repeated member", write(region("a", "1")) + "    api: http://b\n", []string{"yaml: unmarshal errors", `mapping key "api" already defined`}},
		{"name", write(region("Europe", "1")), []string{`entry 1: a region's name is 1 to 32 of a-z, 0-9 and '-' and does not begin with '-': give it one instead of "Europe"`}},
		{"path for a name", write(region("../x", "1").with("api", "http://x")), []string{`instead of "../x"`}},
		{"name twice", write(region("a", "1"), region("a", "2").with("api", "http://b")), []string{"region a: entries 1 and 2 have this name: rename one of them"}},
		{"ledger twice", write(region("a", "1"), region("b", "1")), []string{"regions a and b have one ledger, 3f0c6a52-5f0e-4c55-9d0f-000000000001: each needs a ledger of its own"}},
		{"no ledger", write(region("a", "1").without("ledger")), []string{`region a: ledger "" is no UUID`}},
		{"nil ledger", write(region("a", "1").with("ledger", "00000000-0000-0000-0000-000000000000")), []string{"is no UUID"}},
		{"ledger in another form", write(region("a", "1").with("ledger", "3f0c6a525f0e4c559d0f000000000001")), []string{"is no UUID"}},
		{"no api", write(region("a", "1").without("api")), []string{"region a: it has no api: give its base address, such as https://a.orders.example"}},
		{"api without scheme", write(region("a", "1").with("api", "a:8080")), []string{"region a: its api is no base address"}},
		{"api of another scheme", write(region("a", "1").with("api", "ftp://a")), []string{"no base address"}},
		{"api with a path", write(region("a", "1").with("api", "http://a/v1")), []string{"no base address"}},
		{"api with a query", write(region("a", "1").with("api", "http://a?x")), []string{"no base address"}},
		{"api with a password", write(region("a", "1").with("api", "http://u:p@a")), []string{"no base address"}},
		{"api without host", write(region("a", "1").with("api", "http://:80")), []string{"no base address"}},
		{"api twice", write(region("a", "1").with("api", "http://x"), region("b", "2").with("api", "http://X:80/")), []string{"regions a and b have one api, http://x:80: each needs an address of its own"}},
		{"no latitude", write(region("a", "1").without("latitude")), []string{"region a: it has no latitude: give it in degrees"}},
		{"latitude", write(region("a", "1").with("latitude", "90.1")), []string{"region a: latitude 90.1 is out of range: give degrees from -90 to 90"}},
		{"longitude", write(region("a", "1").with("longitude", "-181")), []string{"region a: longitude -181 is out of range"}},
		{"no number", write(region("a", "1").with("longitude", ".nan")), []string{"region a: longitude NaN is out of range"}},
		{"bus", write(region("a", "1").with("bus", `"servicebus://key:%zz"`)), []string{"region a: its bus is no address"}},
		{"country", write(region("a", "1").with("countries", "[de]")), []string{`region a: "de" is no country of ISO 3166-1 alpha-2: write two capital letters such as DE`}},
		{"country in two", write(region("a", "1").with("countries", "[DE]"), region("b", "2").with("countries", "[AT, DE]")), []string{"region b: country DE belongs to region a already: leave it in one of them"}},
		{"follows itself", write(region("a", "1").with("follows", "[a]"), region("b", "2")), []string{"region a: follows names the region itself: remove it there"}},
		{"follows nobody", write(region("a", "1").with("follows", "[c]"), region("b", "2")), []string{`region a: follows names "c", and there is no such region: correct the name, or add the region; there are a, b`}},
		{"follows twice", write(region("a", "1").with("follows", "[b, b]"), region("b", "2")), []string{"region a: follows names b twice"}},
		{"next itself", write(region("a", "1").with("next", "[a]"), region("b", "2")), []string{"region a: next names the region itself"}},
		{"next nobody", write(region("a", "1").with("next", "[c]"), region("b", "2")), []string{`region a: next names "c", and there is no such region`}},
		{"all at once", write(region("a", "1").with("latitude", "91").with("next", "[c]"), region("b", "1")), []string{"latitude 91", "one ledger", `next names "c"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := topology.Parse([]byte(c.text))
			if err == nil {
				t.Fatal("it was taken")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(c.want) {
				t.Fatalf("the error has %d lines, want %d: %v", len(lines), len(c.want), err)
			}
			for i, line := range lines {
				if !strings.Contains(line, c.want[i]) {
					t.Errorf("line %d is %q, want %q", i+1, line, c.want[i])
				}
			}
		})
	}
}

func many(n int) []described {
	var all []described
	for range n {
		all = append(all, region("a", "1"))
	}
	return all
}

func TestFollowsAndNextMayBeEmpty(t *testing.T) {
	alone, err := topology.Parse([]byte(write(region("a", "1").with("follows", "[]").with("next", "[]"), region("b", "2"))))
	if err != nil {
		t.Fatal(err)
	}
	if got := names(alone.Followed("a")) + names(alone.Next("a")); got != "" {
		t.Errorf("a refers to %s", got)
	}
	if got := names(alone.Followers("b")); got != "" {
		t.Errorf("b is followed by %s", got)
	}
	if got := names(alone.Next("b")); got != "a" {
		t.Errorf("next of b: %s", got)
	}
}

func TestLoadTellsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "regions.yaml")
	if _, err := topology.Load(path); !os.IsNotExist(unwrap(err)) {
		t.Errorf("a missing file: %v", err)
	}
	put(t, path, "regions: {}")
	if _, err := topology.Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a bad file: %v", err)
	}
}

func unwrap(err error) error {
	for {
		inner, ok := err.(interface{ Unwrap() error })
		if !ok || os.IsNotExist(err) {
			return err
		}
		err = inner.Unwrap()
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "regions.yaml")
	a, b := region("a", "1"), region("b", "2")
	put(t, path, write(a, b))
	first, err := topology.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		heard := make(chan string, 10)
		complaints := slog.NewTextHandler(channel(heard), &slog.HandlerOptions{Level: slog.LevelWarn})
		go first.Watch(t.Context(), slog.New(complaints), func(next *topology.Topology) { heard <- names(next.Regions) })
		after := func(text string) string { // what Watch makes of a text: the names, or its complaint
			if text == "" {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				put(t, path, text)
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			switch len(heard) {
			case 0:
				return ""
			case 1:
				return <-heard
			}
			t.Fatalf("%d answers to one change", len(heard))
			return ""
		}
		expect := func(got, want string) {
			t.Helper()
			if !strings.Contains(got, want) || want == "" && got != "" {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		const asBefore = "the topology is as before"
		expect(after(write(a, b)), "")
		expect(after(write(a, b, region("c", "3"))), "a b c")
		expect(after("regions: ["), asBefore)
		expect(after(""), asBefore)
		expect(after(write(a, region("b", "9"))), "region b: its ledger was 3f0c6a52-5f0e-4c55-9d0f-000000000002 and is now")
		expect(after(write(a)), "a")
		expect(after(write(a, region("b", "9"))), "region b: its ledger was")
		expect(after(write(a, region("d", "3"))), "belonged to region c")
		expect(after(write(a.with("next", "[b]"), b)), "a b")
	})
}

// channel is a writer into a channel.
type channel chan<- string

func (c channel) Write(p []byte) (int, error) {
	c <- string(p)
	return len(p), nil
}

func TestWatchOfNoFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parsed, err := topology.Parse([]byte(write(region("a", "1"))))
		if err != nil {
			t.Fatal(err)
		}
		go parsed.Watch(t.Context(), slog.New(slog.DiscardHandler), func(*topology.Topology) { t.Error("it has changed") })
		time.Sleep(time.Minute)
	})
}

// Whatever the text is, Parse returns a topology that holds together, or an error.
func FuzzParse(f *testing.F) {
	f.Add(write(region("a", "1"), region("b", "2").with("follows", "[a]").with("countries", "[DE]")))
	f.Add("regions: [{name: &a x, api: *a}]")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := topology.Parse([]byte(text))
		if err != nil {
			return
		}
		for _, r := range parsed.Regions {
			if got, ok := parsed.Region(r.Name); !ok || !cmp.Equal(got, r) {
				t.Errorf("region %s is %v", r.Name, got)
			}
			for _, others := range [][]topology.Region{parsed.Followed(r.Name), parsed.Next(r.Name)} {
				for _, other := range others {
					if other.Name == r.Name || other.Ledger == r.Ledger || other.API == r.API {
						t.Errorf("region %s refers to %v", r.Name, other)
					}
				}
			}
		}
	})
}

func TestNextIsByDistance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []described
		for i := range rapid.IntRange(1, 9).Draw(t, "regions") {
			d := region(fmt.Sprintf("r%d", i), fmt.Sprint(i))
			d["latitude"] = fmt.Sprint(rapid.IntRange(-90, 90).Draw(t, "latitude"))
			d["longitude"] = fmt.Sprint(rapid.IntRange(-180, 180).Draw(t, "longitude"))
			all = append(all, d)
		}
		all[0]["ledger"] = "3f0c6a52-5f0e-4c55-9d0f-00000000000a"
		parsed, err := topology.Parse([]byte(write(all...)))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range parsed.Regions {
			next := parsed.Next(r.Name)
			if len(next) != len(all)-1 {
				t.Fatalf("%s has %d others", r.Name, len(next))
			}
			for i := range len(next) - 1 { // the mirror image: who stands behind is not nearer
				if got := between(next[i:i+2], r); got != next[i].Name {
					t.Fatalf("%s comes before %s, but is not nearer to %s", next[i].Name, next[i+1].Name, r.Name)
				}
			}
		}
	})
}

// between asks a topology of two regions which is the nearer to a third.
func between(two []topology.Region, place topology.Region) string {
	pair := topology.Topology{Regions: two}
	return pair.Nearest(place.Latitude, place.Longitude).Name
}
