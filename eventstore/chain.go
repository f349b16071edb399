package eventstore

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// A Hash is a place in the chain of a ledger. The chain begins with the zero Hash.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the hash in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return fmt.Errorf("a hash has %d hexadecimal digits, not %d", 2*len(h), len(text))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// Chain links a record to the chain that ends in prev: SHA-256(prev ‖ record). The record is stream, revision, event
// id, type, time, metadata and data, each preceded by its length as a big-endian 32-bit number; revision and time
// (Unix nanoseconds) are big-endian 64-bit numbers. The position is left out, so that a ledger keeps its chain when
// it is copied to another store.
//
// It must not be called for streams for which [Internal] is true.
func Chain(prev Hash, r *Recorded) Hash {
	size := len(prev) + 7*4 + len(r.Stream) + 8 + len(r.ID) + len(r.Type) + 8 + len(r.Metadata) + len(r.Data)
	b := make([]byte, 0, size)
	b = append(b, prev[:]...)
	b = appendField(b, r.Stream)
	b = appendNumber(b, r.Revision)
	b = appendField(b, r.ID[:])
	b = appendField(b, r.Type)
	b = appendNumber(b, uint64(r.Time.UnixNano()))
	b = appendField(b, r.Metadata)
	b = appendField(b, r.Data)
	return sha256.Sum256(b)
}

func appendField[T string | []byte](b []byte, field T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
	return append(b, field...)
}

func appendNumber(b []byte, n uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, 8)
	return binary.BigEndian.AppendUint64(b, n)
}

// An Anchor is the head of a ledger as it was written down outside the ledger's own files. A ledger whose head
// stands behind its anchor has lost its tail, or is an older copy.
type Anchor struct {
	Head
	Time time.Time // when it was written
}
