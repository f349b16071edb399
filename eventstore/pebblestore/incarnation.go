package pebblestore

import (
	"errors"
	"fmt"
	"time"

	"github.com/orderledger/orderledger/eventstore"
)

// ErrGoesOn is returned by [BeginIncarnation] for a ledger that takes writes as it is.
var ErrGoesOn = errors.New("the ledger agrees with its anchor and takes writes: it needs no new incarnation")

// An Incarnation is a part of a ledger's history: from its beginning, or from where a copy was told to go on.
type Incarnation struct {
	Number uint32
	After  eventstore.Position // where it branches off
	Chain  eventstore.Hash     // there
	Begun  time.Time
}

// Incarnations lists the incarnations that led to this one, the newest last.
func (s *Store) Incarnations() []Incarnation {
	var all []Incarnation
	for _, g := range *s.segments.segments.Load() {
		if n := g.identity.Incarnation; len(all) == 0 || all[len(all)-1].Number != n {
			all = append(all, Incarnation{n, g.first - 1, g.chain, g.begun})
		}
	}
	return all
}

// BeginIncarnation lets a ledger go on from where it stands although it is behind its anchor, or is a backup. What came
// after that is lost, or lives on in another copy, which must never be used again. The log says for ever where the new
// incarnation branched off; marks and checkpoints of the one before are told apart by its number.
//
// It returns [ErrGoesOn] if there is no need.
func BeginIncarnation(dir string, cfg *Config) (Incarnation, error) {
	begun, err := beginIncarnation(dir, cfg)
	if err != nil {
		return begun, fmt.Errorf("beginning a new incarnation of the ledger in %s: %w", dir, err)
	}
	return begun, nil
}

func beginIncarnation(dir string, cfg *Config) (begun Incarnation, err error) {
	s, err := open(dir, cfg)
	if err != nil {
		return begun, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.readOnly == nil {
		return begun, ErrGoesOn
	}
	if cfg != nil && cfg.ReadOnly {
		return begun, s.readOnly
	}
	number := s.identity.Incarnation
	if f, err := readAnchor(s.fs, s.dir); err == nil {
		if f.Ledger != s.identity.ID {
			return begun, s.readOnly // whose files these are is not known
		}
		number = max(number, f.Incarnation)
	}
	h := s.head.Load()
	if err := s.segments.resume(h); err != nil {
		return begun, err
	}
	if err := s.beginSegment(place{h.end, h.position, h.chain}, number+1); err != nil {
		return begun, err
	}
	s.identity.Incarnation = number + 1
	if err := s.writeAnchor(); err != nil {
		return begun, err
	}
	all := s.Incarnations()
	return all[len(all)-1], nil
}
