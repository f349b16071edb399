package pebblestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const announcementName = "server.json"

// An Announcement tells other processes who has a ledger open.
type Announcement struct {
	PID     int    `json:"pid"`
	Address string `json:"address,omitempty"` // where that process serves HTTP; empty: nowhere yet
}

// Announced returns who announced itself last as the process that has the ledger in a directory open. That process may
// have been killed since; only opening the ledger tells. The error wraps [fs.ErrNotExist] if nobody has it open.
func Announced(dir string) (Announcement, error) {
	a, err := readAnnouncement(vfs.Default, dir)
	if err != nil {
		return Announcement{}, fmt.Errorf("looking for the server of %s: %w", dir, err)
	}
	return a, nil
}

// Announce writes down, for [Announced] and for the [*eventstore.LockedError] of others, that this process has the
// ledger open and serves an address. Close takes it back.
func (s *Store) Announce(address string) error {
	b, err := json.Marshal(Announcement{PID: os.Getpid(), Address: address})
	if err == nil {
		err = writeFile(s.fs, s.dir, announcementName, b)
	}
	if err != nil {
		return fmt.Errorf("announcing this process: %w", err)
	}
	s.announced.Store(true)
	return nil
}

func (s *Store) unannounce() error {
	if !s.announced.Load() {
		return nil
	}
	if err := s.fs.Remove(s.fs.PathJoin(s.dir, announcementName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("taking the announcement back: %w", err)
	}
	return nil
}

func readAnnouncement(fsys vfs.FS, dir string) (Announcement, error) {
	b, err := readFile(fsys, dir, announcementName)
	if err != nil {
		return Announcement{}, err
	}
	var a Announcement
	if err := json.Unmarshal(b, &a); err != nil {
		return Announcement{}, err
	}
	return a, nil
}
