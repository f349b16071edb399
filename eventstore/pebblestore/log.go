package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore"
)

// A log is the ledger itself: events in the order of their positions, in segments that are written once, each from its
// beginning to its end. Everything else can be made from it.
//
// Any number of goroutines may read up to where the log is durable, without a lock. One writes.
type log struct {
	fs       vfs.FS
	dir      string
	segments atomic.Pointer[[]*segment] // in order; replaced whole

	// What follows belongs to the writer.
	file      vfs.File // of the newest segment; nil if there is none to write to
	end       address  // where the next frame goes
	allocated int64    // how far the file exists
	size      int64    // how large the segment should become
	maxSize   int64    // and how large one may

	spare spare
}

// extent is how much a segment grows at once by zeros, for small groups: within it a sync need not change what the disk
// knows of the file. A large group is not worth writing twice.
const (
	extent     = 256 << 10
	smallGroup = 32 << 10
)

var zeros [extent]byte

// openLog opens the segments in a directory. What stands at the end of the newest one is not looked at. The size is how
// large segments may become.
func openLog(fsys vfs.FS, dir string, size int64) (_ *log, err error) {
	l := &log{fs: fsys, dir: dir, maxSize: size, spare: spare{hungry: make(chan int)}}
	l.segments.Store(new([]*segment))
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	numbers, err := segmentNumbers(fsys, dir)
	if err != nil {
		return nil, err
	}
	for i, n := range numbers {
		if n != uint32(i+1) {
			return nil, fmt.Errorf("%w: %s is missing", eventstore.ErrCorrupt, segmentName(uint32(i+1)))
		}
		s, err := openSegment(fsys, dir, n)
		if head := (*headerError)(nil); errors.As(err, &head) && i == len(numbers)-1 && head.size <= headerSize {
			break // a crash came while it was begun: nothing was written to it
		}
		if err != nil {
			return nil, err
		}
		if err := l.follows(s); err != nil {
			return nil, errors.Join(err, s.file.Close())
		}
		l.add(s)
	}
	return l, nil
}

// follows checks that a segment goes on where the newest one so far can end.
func (l *log) follows(s *segment) error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: "+format, append([]any{eventstore.ErrCorrupt, segmentName(s.number)}, args...)...)
	}
	last := l.newest()
	if last == nil {
		if s.first != 1 || s.chain != (eventstore.Hash{}) || s.before != 0 {
			return wrong("it is not the first segment of a ledger")
		}
		return nil
	}
	id, was := s.identity, last.identity
	switch {
	case id.ID != was.ID || id.Lanes != was.Lanes:
		return wrong("it is of ledger %s, and the segment before it of %s", id.ID, was.ID)
	case id.Incarnation < was.Incarnation:
		return wrong("it is of incarnation %d, and the segment before it of %d", id.Incarnation, was.Incarnation)
	case s.first < last.first || s.before.segment() != last.number || s.before.offset() < headerSize || s.before.offset() > last.size:
		return wrong("it does not follow the segment before it")
	}
	return nil
}

func (l *log) add(s *segment) {
	all := append(slices.Clone(*l.segments.Load()), s)
	l.segments.Store(&all)
}

// newest is the segment that was begun last, or nil.
func (l *log) newest() *segment {
	all := *l.segments.Load()
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1]
}

func (l *log) segment(number uint32) (*segment, error) {
	all := *l.segments.Load()
	if number == 0 || int(number) > len(all) {
		return nil, fmt.Errorf("%w: %s is missing", eventstore.ErrCorrupt, segmentName(number))
	}
	return all[number-1], nil
}

// next is where the frame stands that follows a place in the log: that itself, or the beginning of the next segment.
func (l *log) next(a address) address {
	all := *l.segments.Load()
	if n := int(a.segment()); n < len(all) && all[n].before == a {
		return all[n].start()
	}
	return a
}

// limit is how far the frames of a segment go, by the segment after it or else by the end of the log.
func (l *log) limit(number uint32, end address) int64 {
	all := *l.segments.Load()
	if int(number) < len(all) {
		return all[number].before.offset()
	}
	if end.segment() == number {
		return end.offset()
	}
	return all[number-1].size
}

// firstRead is how much is read at first where one frame is wanted.
const firstRead = 1 << 10

// frame reads the frame at an address that lies before end.
func (l *log) frame(a, end address) (frame, error) {
	s, err := l.segment(a.segment())
	if err != nil {
		return nil, err
	}
	left := l.limit(a.segment(), end) - a.offset()
	size := min(firstRead, left)
	for {
		if size <= 0 || a.offset() < headerSize {
			return nil, fmt.Errorf("%w: %v: no event begins there", eventstore.ErrCorrupt, a)
		}
		b := make([]byte, size)
		if _, err := s.file.ReadAt(b, a.offset()); err != nil {
			return nil, readError(a, err)
		}
		f, need, err := cutFrame(b)
		if errors.Is(err, errCut) && int64(need) <= left {
			size = int64(need)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %v: %w", eventstore.ErrCorrupt, a, err)
		}
		return f, nil
	}
}

// readError tells of a read that failed. A file that ends too early was cut off.
func readError(a address, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %v: the file was cut off", eventstore.ErrCorrupt, a)
	}
	return fmt.Errorf("reading %v: %w", a, err)
}

// A scanner reads frames one after the other.
type scanner struct {
	log  *log
	at   address // of the next frame
	end  address // where to stop; within the newest segment that was there when this began, or at the end of one
	buf  []byte  // what was read ahead, a part of mem
	mem  []byte
	size int // how much to read at once
}

const (
	smallRead = 8 << 10
	largeRead = 256 << 10
)

// scan reads from the frame at an address on.
func (l *log) scan(from, end address) *scanner {
	return &scanner{log: l, at: l.next(from), end: end, size: smallRead}
}

// next returns a frame and its address. The frame is a view that holds until the next call. At the end it returns
// [io.EOF], and an error of cutFrame where no frame begins.
func (s *scanner) next() (address, frame, error) {
	if s.at >= s.end {
		return s.at, nil, io.EOF
	}
	for {
		f, need, err := cutFrame(s.buf)
		if err == nil {
			at := s.at
			s.buf = s.buf[len(f):]
			s.at += address(len(f))
			if next := s.log.next(s.at); next != s.at {
				s.at, s.buf = next, nil
			}
			return at, f, nil
		}
		if !errors.Is(err, errCut) {
			return s.at, nil, err
		}
		if err := s.fill(need); err != nil {
			return s.at, nil, err
		}
	}
}

// fill reads on until there are as many bytes as needed. It returns errCut if the file has not so many.
func (s *scanner) fill(need int) error {
	g, err := s.log.segment(s.at.segment())
	if err != nil {
		return err
	}
	left := s.log.limit(s.at.segment(), s.end) - s.at.offset()
	if int64(need) > left {
		return errCut
	}
	n := min(int64(max(need, s.size)), left)
	s.size = largeRead
	if int64(len(s.mem)) < n {
		s.mem = make([]byte, n)
	}
	s.buf = s.mem[:n]
	if _, err := g.file.ReadAt(s.buf, s.at.offset()); err != nil {
		s.buf = nil
		return readError(s.at, err)
	}
	return nil
}

// begin begins a segment, which should become twice as large as the one before.
func (l *log) begin(h header) error {
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return err
		}
		l.file = nil
	}
	f, allocated, err := l.spare.use(l.fs, l.dir, h)
	if err == nil && f == nil {
		f, err = createSegment(l.fs, l.dir, h)
		allocated = headerSize
	}
	if err != nil {
		return err
	}
	l.file = f
	s, err := openSegment(l.fs, l.dir, h.number)
	if err != nil {
		return err
	}
	l.add(s)
	l.end, l.allocated = s.start(), allocated
	l.grow(max(2*l.size, firstSegment))
	return nil
}

// grow sets how large the newest segment and the next one should become.
func (l *log) grow(size int64) {
	l.size = min(size, l.maxSize)
	l.spare.setTarget(min(2*l.size, l.maxSize))
}

// full reports whether so many more bytes would make the newest segment larger than it should become.
func (l *log) full(more int) bool {
	return l.end.offset() > headerSize && l.end.offset()+int64(more) > l.size
}

// settle makes durable what a killed process may have written without a sync: the newest segment, and its name.
func (l *log) settle() error {
	f, err := l.fs.OpenReadWrite(l.fs.PathJoin(l.dir, segmentName(l.newest().number)), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(l.fs, l.dir)
}

// resume goes on writing to the newest segment, behind its last frame. The group of that is written again: after a sync
// that failed, only the memory of this machine may have it. What stands behind the end is cleared, lest it be taken for
// events once others stand before it.
func (l *log) resume(h *head) error {
	s := l.newest()
	f, err := l.fs.OpenReadWrite(l.fs.PathJoin(l.dir, segmentName(s.number)), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	l.file, l.end, l.allocated = f, h.end, s.size
	l.grow(max(s.size, firstSegment))
	at, end := h.end.offset(), h.end.offset()
	if h.last.segment() == s.number {
		last, err := l.frame(h.last, h.end)
		if err != nil {
			return err
		}
		at = max(min(last.durable(), h.last), s.start()).offset()
	}
	changed := false
	b := make([]byte, largeRead)
	for ; at < s.size; at += int64(len(b)) {
		until := s.size
		if at < end {
			until = end
		}
		b = b[:min(largeRead, until-at)]
		if _, err := f.ReadAt(b, at); err != nil {
			return err
		}
		if at >= end {
			if len(bytes.Trim(b, "\x00")) == 0 {
				continue
			}
			clear(b)
		}
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return f.Sync()
}

// write puts frames at the end of the log and returns when they are durable.
func (l *log) write(b []byte) error {
	at := l.end.offset()
	if end := at + int64(len(b)); end > l.allocated {
		if len(b) < smallGroup {
			if _, err := l.file.WriteAt(zeros[:], l.allocated); err != nil {
				return err
			}
			end = l.allocated + extent
		}
		l.allocated = end
	}
	if _, err := l.file.WriteAt(b, at); err != nil {
		return err
	}
	if err := l.file.SyncData(); err != nil {
		return err
	}
	l.end += address(len(b))
	l.spare.feed(len(b))
	return nil
}

func (l *log) close() error {
	errs := []error{l.spare.drop(l.fs, l.dir)}
	if l.file != nil {
		errs = append(errs, l.file.Close())
	}
	for _, s := range *l.segments.Load() {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(errs...)
}
