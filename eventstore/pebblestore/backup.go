package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore"
)

// Backup copies the ledger in one directory, which this or another process may have open and write to, to another
// directory that has none, and returns how far the copy goes: to where the ledger was known to be durable. The chain is
// checked while the copy is made, and in the copy. It calls progress, if that is not nil, now and then.
//
// The copy opens for reading only, because the ledger may go on: see [BeginIncarnation].
func Backup(ctx context.Context, from, to string, cfg *Config, progress func(done, total int64)) (eventstore.Anchor, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	b := backup{stopped: ctx.Err, fs: cfg.FS, progress: progress}
	if b.fs == nil {
		b.fs = vfs.Default
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	head, err := b.run(ctx, from, to)
	anchor := anchorFile{Time: now().UTC(), Backup: true}
	if err == nil {
		err = anchor.write(b.fs, to, head)
	}
	if err != nil {
		return eventstore.Anchor{}, fmt.Errorf("backing up the ledger in %s to %s: %w", from, to, err)
	}
	return eventstore.Anchor{Head: head, Time: anchor.Time}, nil
}

// maxAttempts bounds how often a log is read that seems to be damaged.
const maxAttempts = 5

type backup struct {
	stopped     func() error // why to go no further; nil: nothing
	fs          vfs.FS
	progress    func(done, total int64)
	done, total int64 // bytes, of reading twice and writing once
}

func (b *backup) run(ctx context.Context, from, to string) (head eventstore.Head, err error) {
	anchor, err := readAnchor(b.fs, from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return head, err
	}
	source, err := openLog(b.fs, b.fs.PathJoin(from, "ledger"), maxSegment)
	if err != nil {
		return head, err
	}
	defer func() { err = errors.Join(err, source.close()) }()
	if source.newest() == nil {
		return head, fmt.Errorf("there is no ledger yet: %w", fs.ErrNotExist)
	}
	for _, s := range *source.segments.Load() {
		b.total += 3 * s.size
	}
	dir := b.fs.PathJoin(to, "ledger")
	if err := makeDir(b.fs, dir); err != nil {
		return head, err
	}
	switch numbers, err := segmentNumbers(b.fs, dir); {
	case err != nil:
		return head, err
	case len(numbers) > 0:
		return head, errors.New("there is a ledger already")
	}
	end, err := b.end(ctx, source, from, anchor.Position)
	if err != nil {
		return head, err
	}
	if err := b.copy(source, dir, end.next); err != nil {
		return head, err
	}
	return b.check(dir, end)
}

// end returns how far a log is certainly durable. If that is not its end, it gives who writes to it the time to say so.
func (b *backup) end(ctx context.Context, l *log, dir string, anchored eventstore.Position) (place, error) {
	known, last, err := b.durable(l, l.origin(), anchored)
	for attempt := 1; attempt < maxAttempts && (errors.Is(err, eventstore.ErrCorrupt) || err == nil && known.position < last.position); attempt++ {
		select {
		case <-ctx.Done():
			return known, ctx.Err()
		case <-time.After(anchorInterval / 2):
		}
		f, failed := readAnchor(b.fs, dir)
		if failed != nil && !errors.Is(failed, fs.ErrNotExist) {
			return known, failed
		}
		// Who reads while others write may see a part of what is written, and what comes behind it a moment later: that
		// looks like damage, once.
		known, _, err = b.durable(l, known, f.Position)
	}
	return known, err
}

// durable reads a log from a place on and returns how far it was certainly durable, as an anchor says or what was
// written later, and where it ends.
func (b *backup) durable(l *log, known place, anchored eventstore.Position) (_, last place, err error) {
	var later []place
	last, err = l.replay(known, func(at address, f frame) error {
		n := 0
		for n < len(later) && later[n].next <= f.durable() {
			n++
		}
		if n > 0 {
			known = later[n-1]
			later = append(later[:0], later[n:]...)
		}
		here := place{l.next(at + address(len(f))), f.position(), f.chain()}
		if f.left() == 0 {
			later = append(later, here)
		}
		if here.position == anchored {
			known, later = here, later[:0]
		}
		return b.read(len(f))
	})
	return known, last, err
}

func (b *backup) read(n int) error {
	if b.done>>20 != (b.done+int64(n))>>20 {
		b.progress(min(b.done, b.total), b.total)
	}
	b.done += int64(n)
	return b.stopped()
}

// copy copies the segments of a log up to an address.
func (b *backup) copy(l *log, dir string, end address) error {
	for _, s := range *l.segments.Load() {
		if s.number > end.segment() {
			break
		}
		size := l.limit(s.number, end)
		if s.number == end.segment() {
			size = end.offset()
		}
		if err := b.copySegment(s, dir, size); err != nil {
			return err
		}
	}
	return syncDir(b.fs, dir)
}

func (b *backup) copySegment(s *segment, dir string, size int64) error {
	f, err := b.fs.Create(b.fs.PathJoin(dir, segmentName(s.number)), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.Copy(copied{f, b}, io.NewSectionReader(s.file, 0, size))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// copied counts what is written.
type copied struct {
	file vfs.File
	b    *backup
}

func (c copied) Write(p []byte) (int, error) {
	n, err := c.file.Write(p)
	return n, errors.Join(err, c.b.read(n))
}

// check reads the copy and compares where it ends.
func (b *backup) check(dir string, end place) (head eventstore.Head, err error) {
	l, err := openLog(b.fs, dir, maxSegment)
	if err != nil {
		return head, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	got, err := l.replay(l.origin(), func(_ address, f frame) error { return b.read(len(f)) })
	if err == nil && (got.position != end.position || got.chain != end.chain) {
		err = fmt.Errorf("%w: the copy ends at position %d, and not at %d", eventstore.ErrCorrupt, got.position, end.position)
	}
	b.progress(b.total, b.total)
	return eventstore.Head{Identity: l.newest().identity, Position: end.position, Chain: end.chain}, err
}
