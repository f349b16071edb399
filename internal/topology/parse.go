package topology

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"gopkg.in/yaml.v3"

	"github.com/orderledger/orderledger/domain"
)

const (
	maxText    = 256 << 10 // bytes of the file
	maxRegions = 16        // as many ledgers as the id of a stream's event may name
)

// file is the file as it is written.
type file struct {
	Regions []entry `yaml:"regions"`
}

// entry is a region as it is written. Pointers and nil slices tell what was left out.
type entry struct {
	Name      string   `yaml:"name"`
	Continent string   `yaml:"continent"`
	Latitude  *float64 `yaml:"latitude"`
	Longitude *float64 `yaml:"longitude"`
	API       string   `yaml:"api"`
	Ledger    string   `yaml:"ledger"`
	Bus       string   `yaml:"bus"`
	Views     string   `yaml:"views"`
	Follows   []string `yaml:"follows"`
	Countries []string `yaml:"countries"`
	Next      []string `yaml:"next"`
}

// Load reads a file. Its error tells everything that is wrong, a sentence a line.
func Load(path string) (*Topology, error) {
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	return load(path, text)
}

func load(path string, text []byte) (*Topology, error) {
	t, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("reading the topology in %s: %w", path, err)
	}
	t.path, t.text = path, text
	return t, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the topology: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxText+1)) // Parse refuses what is larger
	if err != nil {
		return nil, fmt.Errorf("reading the topology: %w", err)
	}
	return text, nil
}

// Parse reads a topology from the text of a file. Its error tells everything that is wrong, a sentence a line.
func Parse(text []byte) (*Topology, error) {
	f, err := decode(text)
	if err != nil {
		return nil, err
	}
	c := checker{file: f, t: &Topology{byName: make(map[string]int), byCountry: make(map[string]int)}}
	c.names()
	for i, e := range f.Regions {
		c.t.Regions = append(c.t.Regions, c.region(i, e))
	}
	c.clashes()
	for _, e := range f.Regions {
		c.t.next = append(c.t.next, c.next(e))
	}
	if len(c.problems) > 0 {
		return nil, errors.Join(c.problems...)
	}
	return c.t, nil
}

func decode(text []byte) (file, error) {
	var f file
	if len(text) > maxText {
		return f, fmt.Errorf("the file is larger than %d bytes", maxText)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return f, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return f, errors.New("the file holds more than one document: remove the lines ---")
	}
	switch {
	case len(f.Regions) == 0:
		return f, errors.New("the file names no region: list them under regions")
	case len(f.Regions) > maxRegions:
		return f, fmt.Errorf("the file names %d regions: %d are the most", len(f.Regions), maxRegions)
	}
	return f, nil
}

// checker makes a Topology of a file, and collects what is wrong with it.
type checker struct {
	file     file
	t        *Topology
	problems []error
}

func (c *checker) fail(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// names gives each name its region, so that others may refer to it.
func (c *checker) names() {
	for i, e := range c.file.Regions {
		first, taken := c.t.byName[e.Name]
		switch {
		case !namePattern.MatchString(e.Name):
			c.fail("entry %d: a region's name is 1 to 32 of a-z, 0-9 and '-' and does not begin with '-': give it one instead of %.40q", i+1, e.Name)
		case taken:
			c.fail("region %s: entries %d and %d have this name: rename one of them", e.Name, first+1, i+1)
		default:
			c.t.byName[e.Name] = i
		}
	}
}

func (c *checker) region(i int, e entry) Region {
	r := Region{Name: e.Name, Continent: e.Continent, Bus: e.Bus, Views: e.Views, Countries: e.Countries}
	r.Latitude = c.degrees(e.Name, "latitude", e.Latitude, 90)
	r.Longitude = c.degrees(e.Name, "longitude", e.Longitude, 180)
	r.API = c.address(e)
	var err error
	if r.Ledger, err = uuid.Parse(e.Ledger); err != nil || r.Ledger == uuid.Nil || !strings.EqualFold(r.Ledger.String(), e.Ledger) {
		c.fail("region %s: ledger %.50q is no UUID: give the identity that 'orderledger ledger' shows, or a new one for a new ledger", e.Name, e.Ledger)
	}
	if _, err := url.Parse(e.Bus); err != nil {
		c.fail("region %s: its bus is no address: write it as --bus takes it, or leave it out", e.Name) // it may hold a secret
	}
	for _, code := range e.Countries {
		switch other, taken := c.t.byCountry[code]; {
		case !domain.ValidCountry(code):
			c.fail("region %s: %.10q is no country of ISO 3166-1 alpha-2: write two capital letters such as DE", e.Name, code)
		case taken:
			c.fail("region %s: country %s belongs to region %s already: leave it in one of them", e.Name, code, c.file.Regions[other].Name)
		default:
			c.t.byCountry[code] = i
		}
	}
	if r.Follows = e.Follows; e.Follows == nil {
		for _, other := range c.file.Regions {
			if other.Name != e.Name {
				r.Follows = append(r.Follows, other.Name)
			}
		}
	}
	c.references(e.Name, "follows", e.Follows)
	return r
}

func (c *checker) degrees(region, name string, value *float64, limit float64) float64 {
	switch {
	case value == nil:
		c.fail("region %s: it has no %s: give it in degrees", region, name)
		return 0
	case math.IsNaN(*value) || math.Abs(*value) > limit:
		c.fail("region %s: %s %v is out of range: give degrees from -%v to %v", region, name, *value, limit, limit)
	}
	return *value
}

// address reads the base address of a region's API.
func (c *checker) address(e entry) string {
	if e.API == "" {
		c.fail("region %s: it has no api: give its base address, such as https://%s.orders.example", e.Name, e.Name)
		return ""
	}
	u, err := url.Parse(e.API)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		c.fail("region %s: its api is no base address: write http or https, a host, and a port if it needs one, and nothing more", e.Name)
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}

// references checks the names that a region refers to.
func (c *checker) references(region, member string, names []string) {
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		_, known := c.t.byName[name]
		switch {
		case name == region:
			c.fail("region %s: %s names the region itself: remove it there", region, member)
		case !known:
			c.fail("region %s: %s names %.40q, and there is no such region: correct the name, or add the region; there are %s",
				region, member, name, strings.Join(slices.Sorted(maps.Keys(c.t.byName)), ", "))
		case seen[name]:
			c.fail("region %s: %s names %s twice: remove one of them", region, member, name)
		}
		seen[name] = true
	}
}

// clashes looks for what two regions may not share.
func (c *checker) clashes() {
	ledgers := make(map[uuid.UUID]string)
	addresses := make(map[string]string)
	for _, r := range c.t.Regions {
		if other, taken := ledgers[r.Ledger]; taken && r.Ledger != uuid.Nil {
			c.fail("regions %s and %s have one ledger, %s: each needs a ledger of its own", other, r.Name, r.Ledger)
		}
		ledgers[r.Ledger] = r.Name
		if r.API == "" {
			continue
		}
		host := hostPort(r.API)
		if other, taken := addresses[host]; taken {
			c.fail("regions %s and %s have one api, %s: each needs an address of its own", other, r.Name, r.API)
		}
		addresses[host] = r.Name
	}
}

// hostPort is what an address connects to.
func hostPort(address string) string {
	u, err := url.Parse(address)
	if err != nil { // it has been parsed before
		return address
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// next are the regions that stand in for one.
func (c *checker) next(e entry) []Region {
	c.references(e.Name, "next", e.Next)
	i, known := c.t.byName[e.Name]
	if len(c.problems) > 0 || !known {
		return nil
	}
	if e.Next == nil {
		return c.t.byDistance(c.t.Regions[i])
	}
	next := make([]Region, 0, len(e.Next))
	for _, name := range e.Next {
		next = append(next, c.t.Regions[c.t.byName[name]])
	}
	return next
}
