package esdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	// identityStream holds which ledger this is. Its newest event counts. Being a system stream it is internal for every
	// reader, and protected from users who may only write orders.
	identityStream = "$ledger"
	createdType    = "ledger.created.v1"   // the ledger begins
	copyingType    = "ledger.copying.v1"   // the ledger is being copied here from another server
	continuedType  = "ledger.continued.v1" // a new incarnation begins
	// format is the version of what this package writes, and the only one it reads.
	format = 1
)

var (
	// ErrNoLedger is returned where a server should hold a ledger and does not.
	ErrNoLedger = errors.New("the server holds no ledger")
	// ErrUnfinished is returned by Open for a ledger that is being copied, see [OpenCopy].
	ErrUnfinished = errors.New("the server holds the unfinished copy of a ledger")
)

// An identifier tells which ledger a server holds. The first time it may create one.
type identifier func(ctx context.Context, c *client, first bool) (eventstore.Identity, error)

// An Incarnation is a part of a ledger's history: from its beginning, or from where a copy was told to go on.
type Incarnation struct {
	Number uint32
	After  eventstore.Position // where it branches off
	Chain  eventstore.Hash     // there
	Begun  time.Time
}

type identityData struct {
	Ledger      uuid.UUID           `json:"ledger"`
	Lanes       int                 `json:"lanes"`
	Format      int                 `json:"format"`
	Incarnation uint32              `json:"incarnation,omitempty"`
	After       eventstore.Position `json:"after,omitempty"`
	Chain       eventstore.Hash     `json:"chain,omitzero"`
}

func dataOf(id eventstore.Identity) identityData {
	return identityData{Ledger: id.ID, Lanes: id.Lanes, Format: format, Incarnation: id.Incarnation}
}

func (d identityData) identity() eventstore.Identity {
	return eventstore.Identity{ID: d.Ledger, Lanes: d.Lanes, Format: d.Format, Incarnation: d.Incarnation}
}

// identify reads which ledger a server holds. If it holds none, the fresh one is created, or ErrNoLedger returned if that
// has no lanes. It fails, and is tried again, where another process has just created the ledger.
func identify(ctx context.Context, c *client, fresh eventstore.Identity) (eventstore.Identity, error) {
	last, err := c.collect(ctx, lastOfStream(identityStream))
	switch {
	case err != nil:
		return eventstore.Identity{}, fmt.Errorf("reading which ledger it is: %w", err)
	case len(last) > 0:
		return parseIdentity(&last[0])
	case fresh.Lanes == 0:
		return eventstore.Identity{}, ErrNoLedger
	}
	if err := c.enter(ctx, official.NoStream{}, createdType, dataOf(fresh)); err != nil {
		return eventstore.Identity{}, fmt.Errorf("creating the ledger: %w", err)
	}
	return fresh, nil
}

// enter appends to the stream of the identity.
func (c *client) enter(ctx context.Context, expected official.ExpectedRevision, kind string, d identityData) error {
	data, err := json.Marshal(d)
	if err != nil {
		return final{err}
	}
	_, err = c.append(ctx, identityStream, expected, []official.EventData{{
		EventID: uuid.New(), EventType: kind, ContentType: official.ContentTypeJson, Data: data,
	}})
	return err
}

func parseIdentity(e *eventstore.Recorded) (eventstore.Identity, error) {
	d, err := decodeIdentity(e)
	if err == nil && e.Type == copyingType {
		err = fmt.Errorf("%w: %s", ErrUnfinished, d.Ledger)
	}
	if err != nil {
		return eventstore.Identity{}, final{err}
	}
	return d.identity(), nil
}

// decodeIdentity reads an event of the stream of the identity.
func decodeIdentity(e *eventstore.Recorded) (d identityData, err error) {
	known := e.Type == createdType || e.Type == copyingType || e.Type == continuedType
	if err := json.Unmarshal(e.Data, &d); err != nil || !known || d.Ledger == uuid.Nil || d.Lanes < 1 {
		return d, fmt.Errorf("%w: event %d of stream %s does not tell which ledger this is", eventstore.ErrCorrupt, e.Revision, identityStream)
	}
	if d.Format != format {
		return d, fmt.Errorf("ledger %s has format %d, this version of orderledger knows format %d", d.Ledger, d.Format, format)
	}
	return d, nil
}

// Incarnations lists the incarnations that led to this one, the newest last.
func (s *Store) Incarnations(ctx context.Context) ([]Incarnation, error) {
	var all []Incarnation
	for e, err := range s.ReadStream(ctx, identityStream, 0, eventstore.Forward) {
		if err != nil {
			return nil, err
		}
		d, err := decodeIdentity(&e)
		if err != nil {
			return nil, err
		}
		all = append(all, Incarnation{d.Incarnation, d.After, d.Chain, e.Time})
	}
	return all, nil
}

// BeginIncarnation lets the ledger go on from where it stands, at a position with the chain up to there, after its
// database was restored from a backup. What came after that is lost. Marks and checkpoints of the incarnation before are
// told apart by its number. The store must be opened anew, by everybody.
func (s *Store) BeginIncarnation(ctx context.Context, after eventstore.Position, chain eventstore.Hash) (Incarnation, error) {
	last, err := s.lastIdentity(ctx)
	if err != nil {
		return Incarnation{}, err
	}
	d, err := decodeIdentity(&last)
	if err != nil {
		return Incarnation{}, err
	}
	if d.identity() != s.identity {
		return Incarnation{}, fmt.Errorf("ledger %s is in incarnation %d already", d.Ledger, d.Incarnation)
	}
	d.Incarnation, d.After, d.Chain = d.Incarnation+1, after, chain
	err = s.retry(ctx, s.patience, func() (bool, error) {
		return false, s.with(ctx, func(c *client) error {
			err := c.enter(ctx, official.Revision(last.Revision), continuedType, d)
			if refused(err) {
				return c.entered(ctx, d, err)
			}
			return err
		})
	})
	if err != nil {
		return Incarnation{}, fmt.Errorf("beginning a new incarnation: %w", err)
	}
	if last, err = s.lastIdentity(ctx); err != nil {
		return Incarnation{}, err
	}
	return Incarnation{d.Incarnation, after, chain, last.Time}, nil
}

// entered tells whether an entry that was refused had been made by an attempt before, of which the answer was lost.
func (c *client) entered(ctx context.Context, want identityData, refusal error) error {
	last, err := c.collect(ctx, lastOfStream(identityStream))
	if err != nil {
		return err
	}
	if len(last) == 1 && last[0].Type == continuedType {
		if d, err := decodeIdentity(&last[0]); err == nil && d == want {
			return nil
		}
	}
	return final{refusal}
}

func (s *Store) lastIdentity(ctx context.Context) (eventstore.Recorded, error) {
	for e, err := range s.ReadStream(ctx, identityStream, eventstore.End, eventstore.Backward) {
		return e, err
	}
	return eventstore.Recorded{}, ErrNoLedger
}
