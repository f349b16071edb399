package esdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	// identityStream holds which ledger this is. Its newest event counts. Being a system stream it is internal for every
	// reader, and protected from users who may only write orders.
	identityStream = "$ledger"
	identityType   = "ledger.created.v1"
	// format is the version of what this package writes, and the only one it reads.
	format = 1
)

type identityData struct {
	Ledger      uuid.UUID `json:"ledger"`
	Lanes       int       `json:"lanes"`
	Format      int       `json:"format"`
	Incarnation uint32    `json:"incarnation,omitempty"`
}

// identify reads which ledger a server holds. If it holds none a new one with so many lanes is created, or an error
// returned if lanes is 0. It fails, and is tried again, where another process has just created the ledger.
func identify(ctx context.Context, c *client, lanes int) (eventstore.Identity, error) {
	last, err := c.collect(ctx, lastOfStream(identityStream))
	switch {
	case err != nil:
		return eventstore.Identity{}, fmt.Errorf("reading which ledger it is: %w", err)
	case len(last) > 0:
		return parseIdentity(&last[0])
	case lanes == 0:
		return eventstore.Identity{}, errors.New("the server holds no ledger any more, or not yet")
	}
	created := eventstore.Identity{ID: uuid.New(), Lanes: lanes, Format: format}
	data, err := json.Marshal(identityData{Ledger: created.ID, Lanes: lanes, Format: format})
	if err != nil {
		return eventstore.Identity{}, fmt.Errorf("creating the ledger: %w", err)
	}
	_, err = c.append(ctx, identityStream, official.NoStream{}, []official.EventData{{
		EventID: created.ID, EventType: identityType, ContentType: official.ContentTypeJson, Data: data,
	}})
	if err != nil {
		return eventstore.Identity{}, fmt.Errorf("creating the ledger: %w", err)
	}
	return created, nil
}

func parseIdentity(e *eventstore.Recorded) (eventstore.Identity, error) {
	var d identityData
	if err := json.Unmarshal(e.Data, &d); err != nil || e.Type != identityType || d.Ledger == uuid.Nil || d.Lanes < 1 {
		return eventstore.Identity{}, final{fmt.Errorf("%w: event %d of stream %s does not tell which ledger this is", eventstore.ErrCorrupt, e.Revision, identityStream)}
	}
	if d.Format != format {
		return eventstore.Identity{}, final{fmt.Errorf("ledger %s has format %d, this version of orderledger knows format %d", d.Ledger, d.Format, format)}
	}
	return eventstore.Identity{ID: d.Ledger, Lanes: d.Lanes, Format: d.Format, Incarnation: d.Incarnation}, nil
}
