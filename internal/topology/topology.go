// Package topology reads the file that names the regions: where each is, which ledger is its own, whom it follows,
// which countries it serves, and which region stands in for it.
//
//	regions:
//	  - name: eu-west
//	    continent: europe
//	    latitude: 53.35
//	    longitude: -6.26
//	    api: https://eu-west.orders.example
//	    ledger: 1a4b2a0e-8a0c-4f6e-9d6e-5f0d3c1b2a01
//	    bus: servicebus://eu-west.servicebus.windows.net/?topic=events # left out: the others follow its feed alone
//	    views: postgres://eu-west-views/orders                       # for people
//	    follows: [us-east, ap-south] # left out: all others
//	    countries: [GB, IE, FR]      # those that the region is the first choice of
//	    next: [us-east]              # who stands in for it, in this order; left out: all others, the nearest first
//
// The file is read strictly: an unknown or repeated member is an error, and so is whatever would let two ledgers be
// mixed up.
package topology

import (
	"cmp"
	"math"
	"slices"

	"github.com/google/uuid"
)

// A Topology is what a file says. It never changes, and is safe for concurrent use.
type Topology struct {
	// Regions are all regions in the order of the file. They belong to the Topology, with all that they refer to.
	Regions []Region

	path      string // empty: it was not read from a file
	text      []byte // of the file
	byName    map[string]int
	byCountry map[string]int
	next      [][]Region // by index of the region
}

// A Region has its own ledger, bus, read models and processes.
type Region struct {
	Name      string    // 1 to 32 of a-z, 0-9 and '-'
	Continent string    // for people
	Latitude  float64   // degrees, north is positive
	Longitude float64   // degrees, east is positive
	API       string    // base address without a slash at its end, such as https://eu-west.orders.example
	Ledger    uuid.UUID // identity of its ledger, which no other region has
	Bus       string    // address of the bus whose topic has its events; empty: its feed has them. It may hold a secret
	Views     string    // address of its read models, for people. It may hold a secret
	Follows   []string  // names of the regions whose ledgers it mirrors
	Countries []string  // ISO 3166-1 alpha-2
}

// Region returns the region of a name.
func (t *Topology) Region(name string) (Region, bool) {
	i, ok := t.byName[name]
	if !ok {
		return Region{}, false
	}
	return t.Regions[i], true
}

// Followed returns the regions whose ledgers a region mirrors.
func (t *Topology) Followed(name string) []Region {
	r, _ := t.Region(name)
	followed := make([]Region, 0, len(r.Follows))
	for _, other := range r.Follows {
		followed = append(followed, t.Regions[t.byName[other]])
	}
	return followed
}

// Followers returns the regions that mirror the ledger of a region.
func (t *Topology) Followers(name string) []Region {
	var followers []Region
	for _, r := range t.Regions {
		if slices.Contains(r.Follows, name) {
			followers = append(followers, r)
		}
	}
	return followers
}

// Next returns the regions that stand in for a region, in the order in which they are asked. They belong to the
// Topology.
func (t *Topology) Next(name string) []Region {
	i, ok := t.byName[name]
	if !ok {
		return nil
	}
	return t.next[i]
}

// ForCountry returns the region that is the first choice of a country of ISO 3166-1 alpha-2.
func (t *Topology) ForCountry(code string) (Region, bool) {
	i, ok := t.byCountry[code]
	if !ok {
		return Region{}, false
	}
	return t.Regions[i], true
}

// Nearest returns the region that is the nearest to a place on earth.
func (t *Topology) Nearest(latitude, longitude float64) Region {
	return slices.MinFunc(t.Regions, func(a, b Region) int { return nearer(latitude, longitude, a, b) })
}

// byDistance are all regions but one, the nearest to it first.
func (t *Topology) byDistance(from Region) []Region {
	others := slices.DeleteFunc(slices.Clone(t.Regions), func(r Region) bool { return r.Name == from.Name })
	slices.SortFunc(others, func(a, b Region) int { return nearer(from.Latitude, from.Longitude, a, b) })
	return others
}

// nearer compares the distances of two regions from a place. Of two that are equally far the name decides, so that every
// process decides alike.
func nearer(latitude, longitude float64, a, b Region) int {
	return cmp.Or(
		cmp.Compare(distance(latitude, longitude, a.Latitude, a.Longitude), distance(latitude, longitude, b.Latitude, b.Longitude)),
		cmp.Compare(a.Name, b.Name))
}

// distance is the great-circle distance between two places, in radians (haversine formula).
func distance(lat1, lon1, lat2, lon2 float64) float64 {
	const degree = math.Pi / 180
	dLat, dLon := math.Sin((lat2-lat1)*degree/2), math.Sin((lon2-lon1)*degree/2)
	h := dLat*dLat + math.Cos(lat1*degree)*math.Cos(lat2*degree)*dLon*dLon
	return 2 * math.Asin(math.Sqrt(min(h, 1)))
}
