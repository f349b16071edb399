package pebblestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore"
)

const claimName = "server.lock"

// A Claim is a directory of which one process at a time makes use although the ledger is not in it: what stands beside
// a ledger stands there. Others are told of that process as [Open] would tell them.
type Claim struct {
	dir       string
	lock      io.Closer
	announced bool
}

// ClaimDir claims a directory, which must be there. It returns a [*eventstore.LockedError] while another process has it.
func ClaimDir(dir string) (*Claim, error) {
	lock, err := vfs.Default.Lock(vfs.Default.PathJoin(dir, claimName))
	if err == nil {
		return &Claim{dir: dir, lock: lock}, nil
	}
	// A file system that cannot make the lock file says so in a PathError; a lock that is taken never does.
	if broken := (*fs.PathError)(nil); errors.As(err, &broken) {
		return nil, fmt.Errorf("claiming %s: %w", dir, err)
	}
	owner, _ := readAnnouncement(vfs.Default, dir) // without it, the owner is unknown
	return nil, &eventstore.LockedError{Dir: dir, PID: owner.PID, Address: owner.Address}
}

// Announce does what [Store.Announce] does.
func (c *Claim) Announce(address string) error {
	b, err := json.Marshal(Announcement{PID: os.Getpid(), Address: address})
	if err == nil {
		err = writeFile(vfs.Default, c.dir, announcementName, b)
	}
	if err != nil {
		return fmt.Errorf("announcing this process: %w", err)
	}
	c.announced = true
	return nil
}

// Close takes the announcement back and gives the directory free.
func (c *Claim) Close() error {
	var err error
	if c.announced {
		if err = os.Remove(vfs.Default.PathJoin(c.dir, announcementName)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return errors.Join(err, c.lock.Close())
}
