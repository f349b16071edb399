package projections

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// Hash returns one SHA-256 over all rows of the read models, and how many rows there are. It is the same for all who have
// folded the same events of the same ledgers, whether row by row, anew or from mirrors, and another one if any value
// differs. Where rows change meanwhile, it is that of the moment at which it began.
func (v *Views) Hash(ctx context.Context) (sum [sha256.Size]byte, rows int, err error) {
	snapshot, err := v.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return sum, 0, fmt.Errorf("hashing the read models: %w", err)
	}
	defer func() { _ = snapshot.Rollback() }() // it has written nothing
	h := sha256.New()
	for _, t := range tables {
		n, err := t.hash(ctx, snapshot, h)
		if err != nil {
			return sum, 0, fmt.Errorf("hashing table %s: %w", t.name, err)
		}
		rows += n
	}
	return [sha256.Size]byte(h.Sum(nil)), rows, nil
}

// hash adds a table to h: its name and those of its columns, its rows in the order of its key, and how many there were.
func (t table) hash(ctx context.Context, db queryer, h hash.Hash) (rows int, err error) {
	c, err := t.open(ctx, db)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.rows.Close()) }()
	b := appendBytes(nil, 't', t.name)
	for _, column := range c.columns {
		b = appendBytes(b, 'c', column)
	}
	for {
		h.Write(b)
		if err := c.next(); err != nil {
			return 0, err
		}
		if c.row == nil {
			h.Write(binary.BigEndian.AppendUint64([]byte{'n'}, uint64(rows)))
			return rows, nil
		}
		rows++
		b = b[:0]
		for i, value := range c.row {
			if b, err = appendValue(b, value); err != nil {
				return 0, fmt.Errorf("column %s of row %d: %w", c.columns[i], rows, err)
			}
		}
	}
}

// appendValue appends a value in a form in which no two of them, nor rows of them, look alike.
func appendValue(b []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v)), nil
	case string:
		return appendBytes(b, 's', v), nil
	case []byte:
		return appendBytes(b, 'b', v), nil
	}
	return nil, fmt.Errorf("a value is a number, text or bytes, not %T", value)
}

func appendBytes[T string | []byte](b []byte, kind byte, v T) []byte {
	b = binary.BigEndian.AppendUint64(append(b, kind), uint64(len(v)))
	return append(b, v...)
}
