package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// A ProjectorConfig changes how a projector works. The zero ProjectorConfig is useful.
type ProjectorConfig struct {
	// Owner names the projector, also after a restart: one that comes under the same name takes over at once, another
	// one only after the lease has expired. Empty: the name of the machine.
	Owner string
	Log   *slog.Logger     // is told about parked orders and what was missed; nil: nobody is
	Now   func() time.Time // the clock for the lease and lag; nil: time.Now
}

// A Projector writes read models: it is the step from deliveries to rows. It starts nothing by itself.
//
// One projector is active in a database, which holds its lease. Every transaction checks and renews it; it expires
// [LeaseTerm] after the last one.
type Projector struct {
	views *Views
	owner string
	log   *slog.Logger
	now   func() time.Time
	batch limits

	commit func(*sql.Tx) error // (*sql.Tx).Commit, but for tests

	mu      sync.Mutex                            // held for a whole step; protects the fields below
	sources atomic.Pointer[map[uuid.UUID]*source] // replaced whole; read without mu too
	lease   lease
	several bool // ledgers have rows, followed or not: an order may stand in more than one
	unsure  bool // a transaction's outcome is unknown: the database must be asked
	writer  *statements
}

// limits bound one transaction while catching up.
type limits struct{ events, bytes int }

// source is a followed ledger and what the projector has made of it. All but the first two fields repeat what stands
// in the database.
type source struct {
	ledger   eventstore.Reader
	identity eventstore.Identity

	lanes   []eventstore.Position
	floor   eventstore.Position // below which no lane is, as it is stored
	chained eventstore.Position
	chain   eventstore.Hash
	parked  map[uuid.UUID]struct{}
	orders  cache
}

// passed is how far every lane has come.
func (s *source) passed() eventstore.Position { return slices.Min(s.lanes) }

var (
	// ErrUnknownSource is returned for a delivery from a ledger that the projector does not follow.
	ErrUnknownSource = errors.New("the delivery comes from a ledger that is not followed")
	// ErrUnreached is returned where the bus has delivered what the ledger cannot give yet. Apply the deliveries again
	// later.
	ErrUnreached = errors.New("the ledger has not come as far as the bus")
	// ErrTailLost is returned for a ledger that ends before events that were already seen, or that has others in their
	// place: its tail was cut off, or it is an older copy.
	ErrTailLost = errors.New("the ledger has lost events that were already applied")
)

// NewProjector returns the projector that feeds views from ledgers. It takes the lease, or returns a [*LeaseError]
// while another projector has it.
//
// Rows of a ledger that were folded by another version of the program, or before the ledger went on from a backup,
// are removed here; CatchUp folds them anew.
func NewProjector(ctx context.Context, views *Views, ledgers []eventstore.Reader, cfg *ProjectorConfig) (*Projector, error) {
	if cfg == nil {
		cfg = &ProjectorConfig{}
	}
	p := &Projector{
		views: views, owner: cfg.Owner, log: cfg.Log, now: cfg.Now, commit: (*sql.Tx).Commit,
		batch: limits{events: 2_000, bytes: 8 << 20},
	}
	p.sources.Store(&map[uuid.UUID]*source{})
	if p.owner == "" {
		p.owner, _ = os.Hostname()
		p.owner = "projector at " + p.owner
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.now == nil {
		p.now = time.Now
	}
	if err := p.begin(ctx, ledgers); err != nil {
		return nil, fmt.Errorf("starting the projector: %w", err)
	}
	return p, nil
}

func (p *Projector) begin(ctx context.Context, ledgers []eventstore.Reader) (err error) {
	if p.writer, err = prepare(ctx, p.views.writer); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.writer.Close())
		}
	}()
	if err := p.acquire(ctx); err != nil {
		return err
	}
	for _, ledger := range ledgers {
		if err := p.follow(ctx, ledger); err != nil {
			return err
		}
	}
	return nil
}

// followed are the ledgers that the projector follows.
func (p *Projector) followed() map[uuid.UUID]*source { return *p.sources.Load() }

// Follow makes the projector follow one more ledger. CatchUpSome brings its rows up.
func (p *Projector) Follow(ctx context.Context, ledger eventstore.Reader) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.reload(ctx)
	if err == nil {
		err = p.follow(ctx, ledger)
	}
	if err != nil {
		return fmt.Errorf("following a ledger: %w", err)
	}
	return nil
}

func (p *Projector) follow(ctx context.Context, ledger eventstore.Reader) error {
	head, err := ledger.Head(ctx)
	if err != nil {
		return err
	}
	sources := maps.Clone(p.followed())
	if _, twice := sources[head.ID]; twice {
		return fmt.Errorf("ledger %s is followed twice", head.ID)
	}
	s := &source{ledger: ledger, identity: head.Identity}
	if err := p.adopt(ctx, s); err != nil {
		return err
	}
	sources[head.ID] = s
	p.sources.Store(&sources)
	return p.views.writer.QueryRowContext(ctx, `SELECT count(*) > 1 FROM sources`).Scan(&p.several)
}

// Close gives the lease back. It may be called twice; Apply, CatchUp and RetryParked fail afterwards.
func (p *Projector) Close(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writer == nil {
		return nil
	}
	err := errors.Join(p.release(ctx), p.writer.Close())
	p.writer = nil
	return err
}

// Apply brings the rows up to deliveries. When it has returned nil, all of them are durable in the rows, or their order
// is parked; they may be acknowledged. After any error they may be applied again, and must be before any later ones
// are acknowledged.
//
// Deliveries that were applied before change nothing. Where something before a delivery is missing, Apply reads the
// ledger up to its head first.
func (p *Projector) Apply(ctx context.Context, deliveries []eventstore.Delivery) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.reload(ctx); err != nil {
		return fmt.Errorf("applying deliveries: %w", err)
	}
	bySource := make(map[*source][]eventstore.Delivery, 1)
	for _, d := range deliveries {
		s, err := p.check(ctx, d)
		if err != nil {
			return fmt.Errorf("applying a delivery at position %d of ledger %s: %w", d.Position, d.Source, err)
		}
		if d.Incarnation == s.identity.Incarnation { // what an earlier incarnation sent may never have happened
			bySource[s] = append(bySource[s], d)
		}
	}
	for s, list := range bySource {
		if err := p.applyFrom(ctx, s, list); err != nil {
			return fmt.Errorf("applying deliveries of ledger %s: %w", s.identity.ID, err)
		}
	}
	return nil
}

// check returns the source of a delivery that makes sense.
func (p *Projector) check(ctx context.Context, d eventstore.Delivery) (*source, error) {
	s := p.followed()[d.Source]
	if s == nil {
		return nil, ErrUnknownSource
	}
	if d.Incarnation > s.identity.Incarnation {
		if err := p.identify(ctx, s); err != nil {
			return nil, err
		}
		if d.Incarnation > s.identity.Incarnation {
			return nil, ErrUnreached
		}
	}
	if d.Lane < 0 || d.Lane >= len(s.lanes) || d.Event != nil && d.Lane != eventstore.Lane(d.Event.Stream, len(s.lanes)) {
		return nil, fmt.Errorf("lane %d of %d is not that of the stream", d.Lane, len(s.lanes))
	}
	return s, nil
}

// identify follows a ledger that went on from a backup while the projector was running.
func (p *Projector) identify(ctx context.Context, s *source) error {
	head, err := s.ledger.Head(ctx)
	if err != nil || head.Incarnation == s.identity.Incarnation {
		return err
	}
	before := s.identity
	s.identity = head.Identity
	if err := p.adopt(ctx, s); err != nil {
		s.identity, p.unsure = before, true
		return err
	}
	return nil
}

func (p *Projector) applyFrom(ctx context.Context, s *source, deliveries []eventstore.Delivery) error {
	news, whole := unseen(s.lanes, deliveries)
	if !whole {
		p.log.WarnContext(ctx, "the bus has lost events: reading the ledger", "source", s.identity.ID, "position", s.passed())
		if _, err := p.catchUp(ctx, s, 0, nil); err != nil {
			return err
		}
		if news, whole = unseen(s.lanes, deliveries); !whole {
			return ErrUnreached
		}
	}
	if len(news) == 0 && !p.lease.due(p.now()) {
		return nil
	}
	return p.transact(ctx, s, func(b *batch) error {
		for _, d := range news {
			if d.Event != nil {
				if err := b.add(ctx, d.Event); err != nil {
					return err
				}
			}
			b.pass(d.Lane, d.Position)
		}
		return nil
	})
}

// unseen returns the deliveries that lanes have not passed, and whether nothing is missing before any of them.
func unseen(lanes []eventstore.Position, deliveries []eventstore.Delivery) (news []eventstore.Delivery, whole bool) {
	lanes = slices.Clone(lanes)
	for _, d := range deliveries {
		if d.Position <= lanes[d.Lane] {
			continue
		}
		if d.Previous > lanes[d.Lane] {
			return nil, false
		}
		lanes[d.Lane] = d.Position
		news = append(news, d)
	}
	return news, true
}

// CatchUp brings the rows up to the heads of the named ledgers, or of all, as they are now, from the ledgers alone.
func (p *Projector) CatchUp(ctx context.Context, ledgers ...uuid.UUID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.reload(ctx); err != nil {
		return fmt.Errorf("catching up: %w", err)
	}
	for id, s := range p.followed() {
		if len(ledgers) > 0 && !slices.Contains(ledgers, id) {
			continue
		}
		if _, err := p.catchUpWith(ctx, s, 0); err != nil {
			return fmt.Errorf("catching up with ledger %s: %w", id, err)
		}
	}
	return nil
}

// CatchUpSome does a part of what CatchUp does, for one ledger that is followed: it applies up to so many events in one
// transaction, and reports whether there are more. Who calls it until there are none lets others have their turn in
// between.
func (p *Projector) CatchUpSome(ctx context.Context, ledger uuid.UUID) (more bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.followed()[ledger]
	if s == nil {
		return false, ErrUnknownSource
	}
	if err = p.reload(ctx); err == nil {
		more, err = p.catchUpWith(ctx, s, 1)
	}
	if err != nil {
		return false, fmt.Errorf("catching up with ledger %s: %w", ledger, err)
	}
	return more, nil
}

func (p *Projector) catchUpWith(ctx context.Context, s *source, transactions int) (more bool, err error) {
	if err := p.identify(ctx, s); err != nil {
		return false, err
	}
	return p.catchUp(ctx, s, transactions, nil)
}

// catchUp reads a ledger from the lane that is behind up to its head, or for so many transactions unless that is 0, and
// reports whether there is more. It tells seen about every transaction.
func (p *Projector) catchUp(ctx context.Context, s *source, transactions int, seen func(events int, at, head eventstore.Position)) (more bool, err error) {
	head, err := s.ledger.Head(ctx)
	if err != nil {
		return false, err
	}
	if err := s.witness(head); err != nil {
		return false, err
	}
	pending := make([]eventstore.Recorded, 0, p.batch.events)
	size := 0
	flush := func(upTo eventstore.Position) error {
		err := p.transact(ctx, s, func(b *batch) error {
			for i := range pending {
				if err := b.add(ctx, &pending[i]); err != nil {
					return err
				}
			}
			b.passAll(upTo)
			if upTo == head.Position {
				b.link(upTo, head.Chain)
			}
			return nil
		})
		if err == nil && seen != nil {
			seen(len(pending), upTo, head.Position)
		}
		pending, size = pending[:0], 0
		return err
	}
	for e, err := range s.ledger.ReadAll(ctx, s.passed(), orderEvents) {
		if err != nil {
			return false, err
		}
		if e.Position > head.Position {
			break // it was not there when catching up began; the bus brings it
		}
		if e.Position <= s.lanes[eventstore.Lane(e.Stream, len(s.lanes))] {
			continue
		}
		pending = append(pending, e)
		size += len(e.Data) + len(e.Metadata)
		if len(pending) >= p.batch.events || size >= p.batch.bytes {
			if err := flush(e.Position); err != nil {
				return false, err
			}
			if transactions--; transactions == 0 {
				return true, nil
			}
		}
	}
	if len(pending) == 0 && s.passed() >= head.Position {
		return false, nil
	}
	return false, flush(head.Position)
}

// witness compares a ledger's head with what was seen of the ledger.
func (s *source) witness(head eventstore.Head) error {
	if newest := slices.Max(s.lanes); head.Position < newest {
		return fmt.Errorf("%w: it ends at position %d, seen was %d", ErrTailLost, head.Position, newest)
	}
	none := eventstore.Hash{}
	if head.Position == s.chained && head.Chain != s.chain && head.Chain != none && s.chain != none {
		return fmt.Errorf("%w: its chain at position %d has another hash", ErrTailLost, head.Position)
	}
	return nil
}

// transact lets change fill a batch and makes it durable together with the checkpoint.
func (p *Projector) transact(ctx context.Context, s *source, change func(*batch) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	// A transaction is short. Letting it end keeps its outcome known.
	tx, err := p.views.writer.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return err
	}
	b := newBatch(s, p.writer.in(tx), p.several)
	committing := false
	defer func() {
		if err != nil {
			p.unsure = p.unsure || committing
			_ = tx.Rollback() // fails after Commit, where nothing is left to roll back
		}
	}()
	now := p.now()
	if err := p.renew(b.write, now); err != nil {
		return err
	}
	if err := change(b); err != nil {
		return err
	}
	if err := b.flush(); err != nil {
		return err
	}
	committing = true
	if err := p.commit(tx); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	p.lease.renewed = now
	b.adopt()
	touched := b.touched()
	for _, parked := range b.parked {
		touched = append(touched, parked.Order) // whoever waits for it waits in vain
		p.log.ErrorContext(ctx, "an event could not be applied: its order is parked", "source", s.identity.ID,
			"order_id", parked.Order, "revision", parked.Revision, "position", uint64(parked.Position), "error", parked.Error)
	}
	p.views.bell.ring(touched)
	return nil
}

// RetryParked applies what parked orders still lack, the named ones or all that were not given up, and returns how many
// are parked no longer. Entries of their feed stand where they belong: those who have passed that place are not told.
func (p *Projector) RetryParked(ctx context.Context, orders ...uuid.UUID) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.reload(ctx); err != nil {
		return 0, fmt.Errorf("retrying parked orders: %w", err)
	}
	resumed := 0
	for _, s := range p.followed() {
		skipped, err := p.skipped(ctx, s)
		if err != nil {
			return resumed, fmt.Errorf("retrying parked orders: %w", err)
		}
		for _, order := range slices.Collect(maps.Keys(s.parked)) {
			if len(orders) > 0 && !slices.Contains(orders, order) || len(orders) == 0 && slices.Contains(skipped, order) {
				continue
			}
			if err := p.transact(ctx, s, func(b *batch) error { return b.retry(ctx, order) }); err != nil {
				return resumed, fmt.Errorf("retrying parked order %s: %w", order, err)
			}
			if _, still := s.parked[order]; !still {
				resumed++
			}
		}
	}
	return resumed, nil
}

// isSkipped is a condition on rows of the table of parked orders.
const isSkipped = `EXISTS (SELECT 1 FROM skipped s WHERE s.source = parked.source AND s.order_id = parked.order_id AND s.revision = parked.revision)`

// skipped returns the parked orders of a source that were given up.
func (p *Projector) skipped(ctx context.Context, s *source) (orders []uuid.UUID, err error) {
	rows, err := p.views.writer.QueryContext(ctx, `SELECT order_id FROM parked WHERE source = $1 AND `+isSkipped, s.identity.ID[:])
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // its error is read below
	for rows.Next() {
		var order uuid.UUID
		if err := rows.Scan(&order); err != nil {
			return nil, err
		}
		orders = append(orders, order)
	}
	return orders, rows.Err()
}

// ErrNotParked is returned for an order that is not parked.
var ErrNotParked = errors.New("the order is not parked")

// SkipParked gives a parked order up: it stays as it was before the event that could not be applied, is not retried
// unless it is named, and nobody is warned of it. Its events stay in the ledger, and a later event that cannot be applied
// either changes nothing of this. It returns [ErrNotParked] for an order that is not parked.
func (p *Projector) SkipParked(ctx context.Context, order uuid.UUID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	result, err := p.views.writer.ExecContext(ctx, `INSERT INTO skipped (source, order_id, revision)
		SELECT source, order_id, revision FROM parked WHERE order_id = $1
		ON CONFLICT (source, order_id) DO UPDATE SET revision = excluded.revision`, order[:])
	if err != nil {
		return fmt.Errorf("skipping parked order %s: %w", order, err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, ErrNotParked)
	}
	return nil
}
