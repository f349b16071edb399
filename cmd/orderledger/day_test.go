package main

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/eventstore/relay"
	"github.com/orderledger/orderledger/internal/keyring"
	"github.com/orderledger/orderledger/projections"
)

// TestDay takes the orders of a day through their lives twice: once through the steps of which the program is made, in
// this one goroutine and with a courier that loses, doubles and delays, and once through a running node. The ledgers
// are the same then, event by event, and the read models byte for byte.
func TestDay(t *testing.T) {
	day := demoCommand{Orders: 50, Seed: 7, Exit: true}
	if full {
		day.Orders = 500
	}
	var now clock
	now.set(dayBegins)
	start := beginDay(t, &now)

	// The node goes first: where in its ledger its relay keeps notes, nobody can know before.
	run := t.TempDir()
	check(t, os.CopyFS(run, os.DirFS(start)))
	noded := dayOfNode(t, day, run, &now)
	ledger, err := pebblestore.Open(run, &pebblestore.Config{ReadOnly: true, Logger: quiet})
	check(t, err)
	defer func() { check(t, ledger.Close()) }()

	s := newDaySteps(t, start, run, ledger, &now)
	p := beginPlay(s.take, day, dayBegins, 24*time.Hour)
	check(t, p.run(t.Context(), day, s.deliver))
	s.finish()
	if s.lost == 0 || s.doubled == 0 || s.delayed == 0 || s.restarts == 0 {
		t.Errorf("the courier was too good: %d lost, %d doubled, %d delayed, %d restarts", s.lost, s.doubled, s.delayed, s.restarts)
	}

	theirs, err := ledger.Head(t.Context())
	check(t, err)
	ours, err := s.ledger.Head(t.Context())
	check(t, err)
	if ours != theirs {
		t.Errorf("the ledger of the steps ends at %v, that of the node at %v", ours, theirs)
	}
	rows := dump(t, s.path)
	if got := len(rows["orders"]); got != day.Orders {
		t.Errorf("%d orders, want %d", got, day.Orders)
	}
	if len(rows["parked"]) != 0 {
		t.Errorf("parked orders: %v", rows["parked"])
	}
	sameRows(t, "the node", rows, noded)
	for name, ledger := range map[string]eventstore.Reader{"a rebuild from the steps' ledger": s.ledger, "a rebuild from the node's ledger": ledger} {
		path := filepath.Join(t.TempDir(), "views.db")
		check(t, projections.Rebuild(t.Context(), path, []eventstore.Reader{ledger}, nil))
		check(t, projections.Swap(t.Context(), path))
		sameRows(t, name, rows, dump(t, path))
	}
}

var dayBegins = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// A clock stands still until it is set. It is safe for concurrent use.
type clock struct{ nanos atomic.Int64 }

func (c *clock) set(t time.Time) { c.nanos.Store(t.UnixNano()) }
func (c *clock) now() time.Time  { return time.Unix(0, c.nanos.Load()).UTC() }

// beginDay returns the data of a node that has rules and no orders.
func beginDay(t *testing.T, now *clock) string {
	dir := t.TempDir()
	ledger, err := pebblestore.Open(dir, &pebblestore.Config{Now: now.now, Logger: quiet})
	check(t, err)
	active, err := rules.NewActive(t.Context(), ledger, rules.Config{Default: rules.Optics(), Now: now.now, Log: quiet})
	check(t, err)
	_, err = active.Policy(t.Context(), demoUnit)
	check(t, err)
	check(t, ledger.Close())
	return dir
}

// nonces returns a source of the nonces that seal personal data.
func nonces() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

// dayOfNode lets a running node take the commands of a day and returns its rows.
func dayOfNode(t *testing.T, day demoCommand, data string, now *clock) map[string][]string {
	check(t, os.WriteFile(filepath.Join(data, "keys"), nil, 0o600)) // none yet, although the ledger has begun
	n, err := openNode(t.Context(), nodeConfig{globals: globals{Data: data}, Rules: rules.Optics(), Log: quiet, Now: now.now, Random: nonces()})
	check(t, err)
	running, stop := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- n.run(running, nil) }()
	p := beginPlay(func(ctx context.Context, c domain.Command, personal domain.Personal) (commands.Result, error) {
		now.set(c.Occurred)
		return n.handler.Handle(ctx, c, personal)
	}, day, dayBegins, 24*time.Hour)
	check(t, p.run(t.Context(), day, func() {}))
	settled, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	check(t, n.settle(settled))
	stop()
	check(t, <-stopped)
	check(t, n.close())
	return dump(t, filepath.Join(data, "views.db"))
}

// daySteps are the write side, the relay and the projector without anything that drives them, and a courier between
// the last two that cannot be relied on.
type daySteps struct {
	t        *testing.T
	now      *clock
	ledger   *pebblestore.Store
	identity eventstore.Identity
	policy   domain.Policy
	keys     *keyring.Keyring
	nonces   *rand.ChaCha8
	notes    map[eventstore.Position]eventstore.Recorded // of the node's relay; they stand at the same places here

	relay *relay.State
	read  eventstore.Position // as far as the relay has read

	random *rand.Rand
	flying map[int][]eventstore.Delivery // by lane: with the courier
	landed [][]eventstore.Delivery       // what has arrived

	path      string
	views     *projections.Views
	projector *projections.Projector

	lost, doubled, delayed, restarts int
}

// newDaySteps begins where the node of a directory began, with the keys that it has made since.
func newDaySteps(t *testing.T, start, run string, noded eventstore.Reader, now *clock) *daySteps {
	t.Helper()
	s := &daySteps{
		t: t, now: now, policy: rules.Optics(), nonces: nonces(), random: seeded(t),
		notes:  make(map[eventstore.Position]eventstore.Recorded),
		flying: make(map[int][]eventstore.Delivery),
		path:   filepath.Join(t.TempDir(), "views.db"),
	}
	for e, err := range noded.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		check(t, err)
		if eventstore.Internal(e.Stream) {
			s.notes[e.Position] = e
		}
	}
	if len(s.notes) == 0 {
		t.Error("the node's relay has kept no notes")
	}
	fs := vfs.NewMem()
	_, err := vfs.Clone(vfs.Default, fs, start, "ledger")
	check(t, err)
	s.ledger, err = pebblestore.Open("ledger", &pebblestore.Config{FS: fs, Now: now.now, Logger: quiet})
	check(t, err)
	head, err := s.ledger.Head(t.Context())
	check(t, err)
	s.identity = head.Identity

	keys, err := os.ReadFile(filepath.Join(run, "keys"))
	check(t, err)
	path := filepath.Join(t.TempDir(), "keys")
	check(t, os.WriteFile(path, keys, 0o600))
	s.keys, err = keyring.Open(path)
	check(t, err)

	s.relay, err = relay.NewState(s.identity, relay.Checkpoint{}, dayBegins)
	check(t, err)
	s.openViews()
	t.Cleanup(func() { s.closeViews(); check(t, errors.Join(s.keys.Close(), s.ledger.Close())) })
	return s
}

func (s *daySteps) openViews() {
	var err error
	s.views, err = projections.Open(s.t.Context(), s.path, nil)
	check(s.t, err)
	s.projector, err = projections.NewProjector(s.t.Context(), s.views, []eventstore.Reader{s.ledger}, &projections.ProjectorConfig{Now: s.now.now})
	check(s.t, err)
}

func (s *daySteps) closeViews() {
	check(s.t, errors.Join(s.projector.Close(context.Background()), s.views.Close()))
}

// take is the step of the write side.
func (s *daySteps) take(ctx context.Context, c domain.Command, personal domain.Personal) (commands.Result, error) {
	s.now.set(c.Occurred)
	s.note(ctx)
	digest, err := domain.DigestOf(s.keys.Digest(), c, &personal)
	check(s.t, err)
	step := commands.NewStep(s.identity, c, digest)
	for e, err := range s.ledger.ReadStream(ctx, domain.Stream(c.Order), 0, eventstore.Forward) {
		check(s.t, err)
		check(s.t, step.Take(e))
	}
	if _, done, err := step.Answered(); done || err != nil {
		s.t.Fatalf("%s of order %s: was answered before: %v", c.Do.Name(), c.Order, err)
	}
	var sealed domain.Sealed
	if subject := step.Subject(); subject != "" && !personal.IsZero() {
		name, key, err := s.keys.Current(subject)
		check(s.t, err)
		sealed, err = domain.Seal(&personal, c.Order, name, key, s.nonces)
		check(s.t, err)
	}
	decided, err := step.Decide(s.policy, sealed, c.Occurred)
	if err != nil {
		return commands.Result{}, err
	}
	appended, err := s.ledger.Append(ctx, decided.Stream, decided.Expected, decided.Events)
	check(s.t, err)
	s.note(ctx)
	return decided.Result(appended), nil
}

// note appends what the relay of the node has noted at the end of the ledger as it is now.
func (s *daySteps) note(ctx context.Context) {
	for {
		head, err := s.ledger.Head(ctx)
		check(s.t, err)
		e, ok := s.notes[head.Position+1]
		if !ok {
			return
		}
		expected := eventstore.NoStream
		if e.Revision > 0 {
			expected = eventstore.At(e.Revision - 1)
		}
		_, err = s.ledger.Append(ctx, e.Stream, expected, []eventstore.Event{e.Event})
		check(s.t, err)
	}
}

// deliver is what happens between the ledger and the rows after a command: the relay reads what is new, the courier
// takes something in some lanes, and something arrives.
func (s *daySteps) deliver() {
	s.readLedger()
	for range s.random.IntN(20) {
		s.send(s.random.IntN(s.relay.Lanes()), s.now.now())
	}
	for _, lane := range s.lanes() {
		switch s.random.IntN(4) {
		case 0:
			s.delayed++
		case 1:
			s.lost += len(s.flying[lane])
			s.took(lane)
		default:
			s.landed = append(s.landed, s.flying[lane])
			s.took(lane)
		}
	}
	s.land()
	if s.random.IntN(100) == 0 {
		s.restart()
	}
}

func (s *daySteps) readLedger() {
	for e, err := range s.ledger.ReadAll(s.t.Context(), s.read, eventstore.Filter{Public: true}) {
		check(s.t, err)
		s.relay.Add(e)
		s.read = e.Position
	}
}

// send hands the courier what the relay has for a lane.
func (s *daySteps) send(lane int, now time.Time) bool {
	deliveries := s.relay.Next(lane, now)
	if len(deliveries) > 0 {
		s.flying[lane] = deliveries
	}
	return len(deliveries) > 0
}

// lanes lists those in which something is with the courier, in any order but by no other chance than the seed's.
func (s *daySteps) lanes() []int {
	lanes := slices.Sorted(maps.Keys(s.flying))
	s.random.Shuffle(len(lanes), func(i, j int) { lanes[i], lanes[j] = lanes[j], lanes[i] })
	return lanes
}

func (s *daySteps) took(lane int) {
	delete(s.flying, lane)
	s.relay.Taken(lane, s.now.now())
}

// land gives the projector what has arrived since the last time, and something that it has seen before.
func (s *daySteps) land() {
	var batch []eventstore.Delivery
	for _, deliveries := range s.landed {
		batch = append(batch, deliveries...)
		if s.random.IntN(3) == 0 {
			batch = append(batch, deliveries...)
			s.doubled += len(deliveries)
		}
	}
	s.landed = s.landed[:0]
	if len(batch) == 0 {
		return
	}
	check(s.t, s.projector.Apply(s.t.Context(), batch))
	if s.random.IntN(10) == 0 { // much later
		s.landed = append(s.landed, batch)
	}
}

// restart begins the relay anew from a checkpoint, and the projector from its own. What was with the courier is gone.
func (s *daySteps) restart() {
	s.restarts++
	checkpoint := s.relay.Checkpoint(s.now.now())
	var err error
	s.relay, err = relay.NewState(s.identity, checkpoint, s.now.now())
	check(s.t, err)
	s.read = checkpoint.Position
	clear(s.flying)
	s.landed = s.landed[:0]
	s.closeViews()
	s.openViews()
}

// finish lets time pass until every lane has been told how far the ledger has come.
func (s *daySteps) finish() {
	s.note(s.t.Context())
	s.readLedger()
	for busy := true; busy; {
		s.now.set(s.now.now().Add(2 * time.Second))
		busy = false
		for lane := range s.relay.Lanes() {
			busy = s.send(lane, s.now.now()) || busy
		}
		for _, lane := range s.lanes() {
			s.landed = append(s.landed, s.flying[lane])
			s.took(lane)
		}
		s.land()
	}
}

// dump returns all rows of the read models as text, by table and in order.
func dump(t *testing.T, path string) map[string][]string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	check(t, err)
	defer func() { check(t, db.Close()) }()
	names := texts(t, db, `SELECT name FROM sqlite_master WHERE type = 'table'
		AND name NOT LIKE 'sqlite_%' AND name NOT IN ('goose_db_version', 'sources', 'lanes', 'lease')`)
	rows := make(map[string][]string)
	for _, name := range names {
		columns := texts(t, db, `SELECT name FROM pragma_table_info('`+name+`')`)
		list := "quote(" + strings.Join(columns, ") || '|' || quote(") + ")"
		rows[name] = texts(t, db, `SELECT `+list+` FROM `+name+` ORDER BY `+strings.Join(columns, ", "))
	}
	return rows
}

// texts returns the answers of a query with one column.
func texts(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	check(t, err)
	defer rows.Close()
	var list []string
	for rows.Next() {
		var text string
		check(t, rows.Scan(&text))
		list = append(list, text)
	}
	check(t, rows.Err())
	return list
}

// sameRows compares all tables of two read models.
func sameRows(t *testing.T, who string, got, want map[string][]string) {
	t.Helper()
	if len(want) < 6 || len(want["timeline"]) == 0 {
		t.Errorf("%s has only the tables %v", who, slices.Sorted(maps.Keys(want)))
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if slices.Equal(got[name], want[name]) {
			continue
		}
		for i := range max(len(got[name]), len(want[name])) {
			if i >= len(got[name]) || i >= len(want[name]) || got[name][i] != want[name][i] {
				t.Errorf("table %s has %d rows, and with %s %d; the first difference is row %d\n%s",
					name, len(got[name]), who, len(want[name]), i, cmp.Diff(got[name][i:min(i+1, len(got[name]))], want[name][i:min(i+1, len(want[name]))]))
				break
			}
		}
	}
}
