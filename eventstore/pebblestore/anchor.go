package pebblestore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	anchorName     = "anchor.json"
	anchorInterval = time.Second
)

// anchorFile is the stored form of an anchor.
type anchorFile struct {
	Ledger      uuid.UUID           `json:"ledger"`
	Incarnation uint32              `json:"incarnation"`
	Lanes       int                 `json:"lanes"`
	Format      int                 `json:"format"`
	Position    eventstore.Position `json:"position"`
	Chain       eventstore.Hash     `json:"chain"`
	Time        time.Time           `json:"time"`
	Backup      bool                `json:"backup,omitempty"` // the ledger beside it is a copy, which others may have outrun
}

// anchorEachSecond writes the anchor while the head moves.
func (s *Store) anchorEachSecond() {
	tick := time.NewTicker(anchorInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-tick.C:
		}
		if err := s.writeAnchor(); err != nil {
			s.logger.Warn("the anchor is behind", "dir", s.dir, "error", err)
		}
	}
}

// writeAnchor writes the anchor if the head has moved.
func (s *Store) writeAnchor() error {
	h := s.durable()
	if s.anchored != nil && *s.anchored == h.Position {
		return nil
	}
	if err := (anchorFile{Time: s.now().UTC()}).write(s.fs, s.dir, h); err != nil {
		return err
	}
	s.anchored = &h.Position
	return nil
}

// write makes a head the anchor of a directory.
func (f anchorFile) write(fsys vfs.FS, dir string, h eventstore.Head) error {
	f.Ledger, f.Incarnation, f.Lanes, f.Format = h.ID, h.Incarnation, h.Lanes, h.Format
	f.Position, f.Chain = h.Position, h.Chain
	b, err := json.Marshal(f)
	if err == nil {
		err = writeFile(fsys, dir, anchorName, b)
	}
	if err != nil {
		return fmt.Errorf("writing the anchor: %w", err)
	}
	return nil
}

func (s *Store) readAnchor() (eventstore.Anchor, error) {
	f, err := readAnchor(s.fs, s.dir)
	return f.anchor(), err
}

// readAnchor returns fs.ErrNotExist, wrapped, if there is none.
func readAnchor(fsys vfs.FS, dir string) (f anchorFile, err error) {
	b, err := readFile(fsys, dir, anchorName)
	if err != nil {
		return f, err
	}
	// Whoever has changed a byte must be noticed, be it in a name.
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err = d.Decode(&f)
	if err == nil && f.Position == 0 && f.Chain != (eventstore.Hash{}) {
		err = errors.New("nothing has a hash")
	}
	if err != nil {
		return f, fmt.Errorf("%w: %s cannot be read: %w", eventstore.ErrCorrupt, anchorName, err)
	}
	return f, nil
}

func (f anchorFile) anchor() eventstore.Anchor {
	id := eventstore.Identity{ID: f.Ledger, Lanes: f.Lanes, Format: f.Format, Incarnation: f.Incarnation}
	return eventstore.Anchor{Head: eventstore.Head{Identity: id, Position: f.Position, Chain: f.Chain}, Time: f.Time}
}

// checkAnchor compares the ledger with its anchor. It returns why the ledger must not be written to.
func (s *Store) checkAnchor() (disagreement, err error) {
	f, err := readAnchor(s.fs, s.dir)
	a := f.anchor()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if p := s.head.Load().position; p > 0 {
			s.logger.Warn("the ledger had no anchor: that its end is missing would not have been noticed", "dir", s.dir, "position", p)
		}
		return nil, nil
	case errors.Is(err, eventstore.ErrCorrupt):
		return fmt.Errorf("%w: %w: move %s away if the ledger is known to be whole", eventstore.ErrReadOnly, err, anchorName), nil
	case err != nil:
		return nil, fmt.Errorf("reading the anchor: %w", err)
	}
	problem, err := s.disagrees(a)
	if err != nil {
		return nil, err
	}
	switch {
	case problem != "":
		return fmt.Errorf("%w: %s: bring back the newer files; or, if these are all there is, let it begin a new incarnation, and what came later is lost",
			eventstore.ErrReadOnly, problem), nil
	case f.Backup:
		return fmt.Errorf("%w: it is the backup of %s, up to position %d: where the ledger itself is gone, let this begin a new incarnation, and what came later is lost",
			eventstore.ErrReadOnly, a.Time.Format(time.RFC3339), a.Position), nil
	}
	s.anchored = &a.Position
	return nil, nil
}

// disagrees says how the ledger contradicts an anchor; nothing if it does not.
func (s *Store) disagrees(a eventstore.Anchor) (string, error) {
	h := s.durable()
	if a.ID != h.ID || a.Incarnation != h.Incarnation {
		return fmt.Sprintf("the anchor is of ledger %s, incarnation %d, and not of %s, incarnation %d", a.ID, a.Incarnation, h.ID, h.Incarnation), nil
	}
	if h.Position < a.Position {
		return fmt.Sprintf("the ledger ends at position %d, and stood at %d when its anchor was written at %s: it is an older copy, or has lost its end",
			h.Position, a.Position, a.Time.Format(time.RFC3339)), nil
	}
	chain, err := s.chainAt(a.Position)
	if errors.Is(err, eventstore.ErrCorrupt) {
		return err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	if chain != a.Chain {
		return fmt.Sprintf("the chain at position %d is %s, and was %s when the anchor was written at %s: the history is another one",
			a.Position, chain, a.Chain, a.Time.Format(time.RFC3339)), nil
	}
	return "", nil
}

// chainAt is the head of the chain after a position.
func (s *Store) chainAt(p eventstore.Position) (chain eventstore.Hash, err error) {
	h := s.head.Load()
	switch p {
	case 0:
		return chain, nil
	case h.position:
		return h.chain, nil
	}
	err = s.read(func() error {
		scan, err := s.locate(p, h.end)
		if err != nil {
			return err
		}
		at, f, err := scan.next()
		if err != nil {
			return s.brokenAt(at, err)
		}
		chain = f.chain()
		return nil
	})
	return chain, err
}

// makeDir makes a directory and those above it, durably.
func makeDir(fsys vfs.FS, dir string) error {
	parent := fsys.PathDir(dir)
	if _, err := fsys.Stat(dir); err == nil {
		// Who made it may have been killed before this. A parent that must not be read was made by somebody else.
		if err := syncDir(fsys, parent); !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent != dir {
		if err := makeDir(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return syncDir(fsys, parent)
}

func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readFile(fsys vfs.FS, dir, name string) ([]byte, error) {
	f, err := fsys.Open(fsys.PathJoin(dir, name))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return b, errors.Join(err, f.Close())
}

// writeFile replaces a file: a crash leaves the old one or the new one.
func writeFile(fsys vfs.FS, dir, name string, b []byte) error {
	temp := fsys.PathJoin(dir, name+".new")
	f, err := fsys.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temp, fsys.PathJoin(dir, name)); err != nil {
		return err
	}
	return syncDir(fsys, dir)
}
