package topology

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// watchInterval is how often the file is looked at.
const watchInterval = 2 * time.Second

// Watch reads the file again when it has changed, until ctx is done, and calls changed with each new topology, one after
// the other. What cannot be used is logged, and leaves in force what was: a file that cannot be read, and one in which a
// ledger has moved to another name, or a name to another ledger, even if the name was absent for a while. That takes a
// restart, because everything that was read under the name belongs to the ledger.
//
// A Topology that was not read from a file does not change.
func (t *Topology) Watch(ctx context.Context, log *slog.Logger, changed func(*Topology)) {
	if t.path == "" {
		<-ctx.Done()
		return
	}
	known := make(identities)
	_ = known.add(t) // nothing is known yet
	seen := t.text
	missing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchInterval):
		}
		text, err := read(t.path)
		switch {
		case err != nil && !missing:
			log.WarnContext(ctx, "the topology is as before", slog.Any("error", err))
		case err == nil && !bytes.Equal(text, seen):
			seen = text
			next, err := load(t.path, text)
			if err == nil {
				err = known.add(next)
			}
			if err != nil {
				log.WarnContext(ctx, "the topology is as before", slog.Any("error", err))
				break
			}
			log.InfoContext(ctx, "the topology was read again", slog.Int("regions", len(next.Regions)))
			changed(next)
		}
		missing = err != nil
	}
}

// identities are the ledgers that a process has known, by name of the region.
type identities map[string]uuid.UUID

// add takes note of a topology, or of nothing if it contradicts what is known.
func (known identities) add(t *Topology) error {
	names := make(map[uuid.UUID]string, len(known))
	for name, ledger := range known {
		names[ledger] = name
	}
	for _, r := range t.Regions {
		if ledger, ok := known[r.Name]; ok && ledger != r.Ledger {
			return fmt.Errorf("region %s: its ledger was %s and is now %s: put the old one back, or restart every process of every region", r.Name, ledger, r.Ledger)
		}
		if name, ok := names[r.Ledger]; ok && name != r.Name {
			return fmt.Errorf("region %s: its ledger %s belonged to region %s: give the old name back, or restart every process of every region", r.Name, r.Ledger, name)
		}
	}
	for _, r := range t.Regions {
		known[r.Name] = r.Ledger
	}
	return nil
}
