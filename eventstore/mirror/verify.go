package mirror

import (
	"bytes"
	"context"
	"fmt"

	"github.com/orderledger/orderledger/eventstore"
)

// Verify computes the chain of the verified events in the file again, from the first to the last at the time of the call.
// It returns an error for which errors.Is with [eventstore.ErrCorrupt] is true and that names the first position at which
// the file is not what was written.
func (m *Mirror) Verify(ctx context.Context) error {
	s, _ := m.snapshot()
	var chain eventstore.Hash
	var at eventstore.Position
	var events uint64
	var buffer []byte
	for at < s.end {
		chunk, err := m.verifiable(ctx, at, s.end)
		if err != nil {
			return m.readError(ctx, err)
		}
		if now, _ := m.snapshot(); now.identity.Incarnation != s.identity.Incarnation {
			return ErrBranched
		}
		for i := range chunk {
			e := &chunk[i]
			buffer = append(append(buffer[:0], chain[:]...), e.record...)
			chain = eventstore.ChainRecord(buffer)
			if e.fault == "" && chain != e.chain {
				e.fault = "the hash of the event is not the one that was stored, or the event before it is missing"
			}
			if e.fault != "" {
				return fmt.Errorf("%w: position %d of the mirror in %s: %s", eventstore.ErrCorrupt, e.position, m.path, e.fault)
			}
			at = e.position
			events++
		}
		if len(chunk) == 0 {
			break
		}
	}
	if at != s.end || chain != s.chain || events != s.events {
		return fmt.Errorf("%w: the mirror in %s ends at position %d with %d events, and should at %d with %d",
			eventstore.ErrCorrupt, m.path, at, events, s.end, s.events)
	}
	return nil
}

// checked is an entry and what is wrong with its row.
type checked struct {
	entry
	fault string
}

// verifiable reads the next rows behind a position.
func (m *Mirror) verifiable(ctx context.Context, after, end eventstore.Position) (rows []checked, err error) {
	if err := m.alive(ctx); err != nil {
		return nil, err
	}
	found, err := m.reader.QueryContext(ctx, `SELECT position, chain, record, stream, revision FROM events
		WHERE position > ? AND position <= ? ORDER BY position LIMIT ?`, int64(after), int64(end), m.limits.chunk)
	if err != nil {
		return nil, err
	}
	defer func() { _ = found.Close() }() // its error is read below
	size := 0
	for found.Next() && size < m.limits.chunkBytes {
		var c checked
		var position, revision int64
		var chain, stream []byte
		if err := found.Scan(&position, &chain, &c.record, &stream, &revision); err != nil {
			return nil, err
		}
		c.position = eventstore.Position(position)
		r, err := eventstore.ParseRecord(c.record)
		switch {
		case err != nil:
			c.fault = "the record cannot be read"
		case len(chain) != len(c.chain):
			c.fault = "the hash has a wrong length"
		case !bytes.Equal(stream, []byte(r.Stream)) || uint64(revision) != r.Revision:
			c.fault = "it is listed in another place of a stream than the event says"
		default:
			c.chain = eventstore.Hash(chain)
		}
		rows = append(rows, c)
		size += len(c.record)
	}
	return rows, found.Err()
}
