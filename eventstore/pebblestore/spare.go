package pebblestore

import (
	"errors"
	"io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Segments grow from the first size to the largest, each twice as large as the one before.
const (
	firstSegment = 1 << 20
	maxSegment   = 256 << 20
)

const spareName = "spare"

// A spare is a file of zeros that will become the next segment. A sync within what exists of a file leaves the file
// system's own books alone, which saves it a write, and a wait for those of others. The spare grows while events are
// written, up to twice as fast as they, and in small steps, because they share a disk. Events do without: where a spare
// cannot be made, a segment begins empty.
type spare struct {
	hungry chan int // bytes of events that were written
	fed    int      // bytes of events that hungry was not told of; belongs to the writer

	mu     sync.Mutex // protects what follows
	file   vfs.File   // nil: there is none
	size   int64      // of the file
	target int64      // how large it should become
}

// feed tells how many bytes of events were written.
func (s *spare) feed(n int) {
	if s.fed += n; s.fed < 1<<20 {
		return
	}
	select {
	case s.hungry <- s.fed:
		s.fed = 0
	default: // it is at work
	}
}

// maxGrowth bounds how much a spare grows at once.
const maxGrowth = 2 << 20

// grow makes the spare larger by twice as much as it was fed. One that cannot grow is given up, and its room given back.
func (s *spare) grow(fsys vfs.FS, dir string, fed int) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove(fsys, dir))
		}
	}()
	if s.file == nil {
		f, err := fsys.Create(fsys.PathJoin(dir, spareName), vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		s.file, s.size = f, 0
	}
	until := min(s.size+min(2*int64(fed), maxGrowth), s.target)
	if s.size >= until {
		return nil
	}
	for s.size < until {
		n := min(int64(len(zeros)), until-s.size)
		if _, err := s.file.WriteAt(zeros[:n], s.size); err != nil {
			return err
		}
		s.size += n
	}
	return s.file.Sync()
}

// setTarget tells how large the spare should become.
func (s *spare) setTarget(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = size
}

// use makes the spare a segment. It returns no file if there is none.
func (s *spare) use(fsys vfs.FS, dir string, h header) (f vfs.File, size int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil || s.size < headerSize {
		return nil, 0, nil
	}
	f, size = s.file, s.size
	s.file, s.size = nil, 0
	_, err = f.WriteAt(h.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, 0, err
	}
	name := fsys.PathJoin(dir, segmentName(h.number))
	if err := fsys.Rename(fsys.PathJoin(dir, spareName), name); err != nil {
		return nil, 0, err
	}
	if err := syncDir(fsys, dir); err != nil {
		return nil, 0, err
	}
	f, err = fsys.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	return f, size, err
}

// drop gives the spare's room back.
func (s *spare) drop(fsys vfs.FS, dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(fsys, dir)
}

// remove is drop for those who hold mu.
func (s *spare) remove(fsys vfs.FS, dir string) error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return errors.Join(err, removeSpare(fsys, dir))
}

// removeSpare removes a spare that a crash left.
func removeSpare(fsys vfs.FS, dir string) error {
	if err := fsys.Remove(fsys.PathJoin(dir, spareName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
