package simulate

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/edge"
	"github.com/orderledger/orderledger/internal/keyring"
	"github.com/orderledger/orderledger/internal/topology"
)

// lanes of each ledger: few, so that orders share them.
const lanes = 8

// A world is some regions and all that is between them and their clients. It belongs to one goroutine.
type world struct {
	config  Config
	ctx     context.Context //nolint:containedctx // of the one run that a world is there for
	dir     string
	keys    *keyring.Keyring
	regions []*region
	lost    *region   // is gone for ever; nil: none is
	links   [][]*link // from, to
	entry   *edge.Policy
	clients clients

	now     time.Time
	chance  *rand.Rand     // of the operation under way
	inside  []operation    // happen within the next append of the operation under way
	healing bool           // nothing goes wrong
	appends map[string]int // by stream, within the operation under way
	meddled bool           // something has happened within the operation under way

	lastError string // that a server has logged

	done    int
	lines   []string
	history hash.Hash // of the lines
	broken  string    // the promise that was broken, as a sentence; empty: none
}

// begin is when all histories begin.
var begin = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// newWorld makes regions that run and have no orders. The files of the world are in dir.
func newWorld(ctx context.Context, c Config, dir string) (_ *world, err error) {
	w := &world{config: c, ctx: ctx, dir: dir, now: begin, chance: rand.New(rand.NewPCG(c.Seed, 2)), history: sha256.New(), clients: newClients()}
	if w.keys, err = keyring.OpenShared(filepath.Join(dir, "keys"), [32]byte{1}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	var text strings.Builder
	text.WriteString("regions:\n")
	for i := range c.Regions {
		r := &region{world: w, name: string(rune('a' + i)), index: i, topic: newTopic(c.Regions, lanes), seen: make([]eventstore.Position, c.Regions)}
		r.disk = newDisk(uuid.NewSHA1(uuid.Nil, []byte(r.name)), lanes, r.wall)
		w.regions = append(w.regions, r)
		w.links = append(w.links, make([]*link, c.Regions))
		for j := range w.links[i] {
			w.links[i][j] = new(link)
		}
		fmt.Fprintf(&text, "  - {name: %s, continent: europe, latitude: %d, longitude: 0, api: \"https://%s.example\", ledger: %s, countries: [%s]}\n",
			r.name, i, r.name, r.disk.identity.ID, countries[i])
	}
	t, err := topology.Parse([]byte(text.String()))
	if err != nil {
		return nil, err
	}
	w.entry = edge.NewPolicy(w.chance)
	w.entry.Use(t)
	for _, r := range w.regions {
		if err := r.start(); err != nil {
			return nil, err
		}
		for i := range r.process.asked { // nobody has anything yet
			r.process.asked[i] = true
		}
	}
	return w, nil
}

// MaxRegions is how many regions a history has at most.
const MaxRegions = 6

// countries are whose clients are sent to each region first.
var countries = [MaxRegions]string{"DE", "US", "JP", "BR", "IN", "ZA"}

func (w *world) close() {
	for _, r := range w.regions {
		if r.process != nil {
			w.fail("closing", r.process.close())
		}
	}
	w.fail("closing", w.keys.Close())
	_ = os.RemoveAll(w.dir) // a test or the system removes what is above
}

// living are the regions that are not lost.
func (w *world) living() []*region {
	return slices.DeleteFunc(slices.Clone(w.regions), func(r *region) bool { return r == w.lost })
}

// clock is the true time.
func (w *world) clock() time.Time { return w.now }

// may reports whether a fault may happen now.
func (w *world) may(f Faults) bool { return w.config.Faults&f != 0 && !w.healing }

// run lets operations happen, one after the other, until a promise is broken.
func (w *world) run(operations []operation) {
	for i := 0; i < len(operations) && w.broken == ""; {
		op := operations[i]
		n := i + 1
		for n < len(operations) && operations[n].inside {
			n++
		}
		w.inside = operations[i+1 : n]
		w.meddled, w.appends = false, make(map[string]int)
		w.perform(op)
		for len(w.inside) > 0 && w.broken == "" { // those that found no append
			w.next()
		}
		i = n
	}
}

// interrupt lets operations happen within an append of a region, before it looks at its stream.
func (w *world) interrupt(r *region) {
	if len(w.inside) == 0 || w.broken != "" || w.healing {
		return
	}
	w.meddled = true
	w.note(r, "meanwhile:")
	w.next()
}

// next performs the first of the operations that happen inside.
func (w *world) next() {
	op := w.inside[0]
	w.inside = w.inside[1:]
	w.perform(op)
}

// perform lets one operation happen.
func (w *world) perform(op operation) {
	outer := w.chance
	w.chance = rand.New(rand.NewPCG(op.draw, uint64(op.id)))
	w.now = w.now.Add(op.after)
	w.done++
	w.do(op)
	w.chance = outer
}

// note adds a line to the history. The region may be nil.
func (w *world) note(r *region, format string, args ...any) {
	name := " "
	if r != nil {
		name = r.name
	}
	line := fmt.Sprintf("%s %s  %s", clockText(w.now.Sub(begin)), name, fmt.Sprintf(format, args...))
	w.lines = append(w.lines, line)
	fmt.Fprintln(w.history, line)
}

// clockText writes how long a history has lasted.
func clockText(d time.Duration) string {
	return fmt.Sprintf("%3d:%02d:%06.3f", int(d.Hours()), int(d.Minutes())%60, (d % time.Minute).Seconds())
}

// violated notes that a promise was broken. The first one counts.
func (w *world) violated(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
		w.note(nil, "BROKEN: %s", w.broken)
	}
}

// fail notes that something failed that may not fail here.
func (w *world) fail(doing string, err error) {
	if err != nil {
		w.violated("%s: %v", doing, err)
	}
}
