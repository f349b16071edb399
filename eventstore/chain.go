package eventstore

import (
	"crypto/sha256"
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

// Chain links a record to the chain that ends in prev: SHA-256(prev ‖ record), where the record is what [AppendRecord]
// makes of it.
//
// It must not be called for streams for which [Internal] is true.
func Chain(prev Hash, r *Recorded) Hash {
	b := make([]byte, 0, len(prev)+RecordSize(r))
	b = append(b, prev[:]...)
	return ChainRecord(AppendRecord(b, r))
}

// ChainRecord is [Chain] of bytes that hold prev and the canonical form of the event behind it.
func ChainRecord(b []byte) Hash { return sha256.Sum256(b) }

// An Anchor is the head of a ledger as it was written down outside the ledger's own files. A ledger whose head
// stands behind its anchor has lost its tail, or is an older copy.
type Anchor struct {
	Head
	Time time.Time // when it was written
}
