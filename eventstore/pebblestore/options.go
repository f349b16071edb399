package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	memTableSize = 8 << 20
	cacheSize    = 16 << 20
	// reserve is the room on the disk that appends leave: enough for the index to be written and tidied up, and to
	// start again, so that Pebble never meets a full disk itself.
	reserve = 64 << 20
	// startRoom is what a start needs at least, to bring the index up to date.
	startRoom = 2 * memTableSize
)

func (s *Store) options(fs vfs.FS, readOnly bool, broken *breakdown) *pebble.Options {
	o := &pebble.Options{
		FS:       fs,
		ReadOnly: readOnly,
		Logger:   pebbleLogger{s.logger, s.fail},
		EventListener: &pebble.EventListener{
			// Who reads it is told. It is no failure of the ledger, whose log has everything.
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				s.logger.Warn("the index is damaged", "dir", s.dir, "error", firstLine("%v", info))
			},
			BackgroundError: func(err error) {
				s.logger.Warn("the index is not written", "dir", s.dir, "error", firstLine("%v", err))
				if !pebble.IsCorruptionError(err) {
					broken.tell(err)
				}
			},
		},
		// The ledger's own log has everything.
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatNewest,
		CacheSize:                   cacheSize,
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       64,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = 4 << 10
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most appends ask whether a new stream exists
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	return o
}

// A pebbleLogger passes Pebble's messages on. Pebble expects Fatalf to end the process; it returns here, and what
// Pebble says from then on, a nil error of a commit included, proves nothing.
type pebbleLogger struct {
	log  *slog.Logger
	fail func(error)
}

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("pebble", "message", firstLine(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.fail(errors.New(firstLine(format, args...)))
}

// firstLine formats a message and leaves out the stack that Pebble's errors write below it.
func firstLine(format string, args ...any) string {
	line, _, _ := strings.Cut(fmt.Sprintf(format, args...), "\n")
	return line
}

// checkSpace returns ErrFull while the disk has no more room than the reserve.
func (s *Store) checkSpace() error { return s.checkRoom(reserve) }

func (s *Store) checkRoom(kept uint64) error {
	usage, err := s.fs.GetDiskUsage(s.dir)
	if err != nil || usage.AvailBytes > kept {
		return nil //nolint:nilerr // a file system that cannot tell, as that in memory, is not asked
	}
	return fmt.Errorf("%w: %d MiB are left in %s, and %d MiB are kept free", eventstore.ErrFull, usage.AvailBytes>>20, s.dir, kept>>20)
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// damaged marks what Pebble found corrupt.
func damaged(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", eventstore.ErrCorrupt, err)
	}
	return err
}
