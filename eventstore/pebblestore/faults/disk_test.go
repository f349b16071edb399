package faults

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A disk is a file system in memory that knows what was synced. Every operation that changes it can be seen, refused
// or held up before it happens, and between any two of them the power can fail.
type disk struct {
	*vfs.MemFS
	// before is asked before each change; an error that it returns is the operation's. It is set before the disk is used.
	before func(change) error
	off    atomic.Bool // the power is gone: no change happens any more

	mu    sync.RWMutex        // held for reading by each change, for writing while the power fails
	fresh map[string]struct{} // names given since their directory was synced: behind them is not the file that a crash may bring back
	names sync.Mutex          // protects fresh and lost among changes
	lost  map[string]*pages   // what a failed sync has not written, by file
}

// pages are those of a file that hold what the disk does not have, though no sync will write them any more: a sync that
// fails takes them for clean. Only writing them again helps.
type pages struct {
	were    []byte // what the disk has
	numbers map[int64]struct{}
}

const pageSize = 4096

// A change is an operation that is about to happen.
type change struct {
	op   string // create, link, remove, rename, mkdir, write, sync or sync directory
	path string
}

func newDisk() *disk { return diskOf(vfs.NewCrashableMem()) }

func diskOf(mem *vfs.MemFS) *disk {
	return &disk{MemFS: mem, fresh: make(map[string]struct{}), lost: make(map[string]*pages)}
}

// change makes a change, unless it is refused.
func (d *disk) change(op, name string, f func() error) error {
	if d.before != nil {
		if err := d.before(change{op, name}); err != nil {
			return err
		}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.off.Load() {
		return errOff
	}
	return f()
}

var errOff = errors.New("the power is gone")

// rename notes that a name stands for another file than before.
func (d *disk) rename(name string) {
	d.names.Lock()
	defer d.names.Unlock()
	d.fresh[path.Join("/", name)] = struct{}{}
}

// settle notes that the names in a directory are durable.
func (d *disk) settle(dir string) {
	d.names.Lock()
	defer d.names.Unlock()
	maps.DeleteFunc(d.fresh, func(name string, _ struct{}) bool { return path.Dir(name) == path.Join("/", dir) })
}

// lose makes a sync of a file fail as it does on real disks.
func (d *disk) lose(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = path.Join("/", name)
	p := &pages{were: contents(d.CrashClone(vfs.CrashCloneCfg{}))[name], numbers: make(map[int64]struct{})}
	now, err := readAll(d.MemFS, name)
	if err != nil {
		panic(err) // it is open
	}
	for at := 0; at < len(now); at += pageSize {
		to := min(at+pageSize, len(now))
		if to > len(p.were) || !bytes.Equal(now[at:to], p.were[at:to]) {
			p.numbers[int64(at/pageSize)] = struct{}{}
		}
	}
	d.lost[name] = p
}

// rewrite notes that pages will be written by the next sync.
func (d *disk) rewrite(name string, from int64, n int) {
	d.names.Lock()
	defer d.names.Unlock()
	if p := d.lost[path.Join("/", name)]; p != nil && n > 0 {
		for page := from / pageSize; page <= (from+int64(n)-1)/pageSize; page++ {
			delete(p.numbers, page)
		}
	}
}

// forget puts what the disk has in place of what it has lost.
func (p *pages) forget(file []byte) []byte {
	file = slices.Clone(file)
	for page := range p.numbers {
		at := min(int(page*pageSize), len(file))
		to := min(at+pageSize, len(file))
		clear(file[at:to])
		if at < len(p.were) {
			copy(file[at:to], p.were[at:])
		}
	}
	return file
}

// evict makes files be read from the disk again: what a failed sync has lost is seen to be lost.
func (d *disk) evict() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, p := range d.lost {
		b, err := readAll(d.MemFS, name)
		if err != nil {
			continue // it was removed
		}
		f, err := d.MemFS.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.WriteAt(p.forget(b), 0)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			panic(err)
		}
	}
	clear(d.lost)
}

// open makes a file a diskFile after a change that makes or names it.
func (d *disk) open(op, name string, f func() (vfs.File, error)) (file vfs.File, err error) {
	err = d.change(op, name, func() error {
		file, err = f()
		if err == nil {
			d.rename(name)
			d.names.Lock()
			delete(d.lost, path.Join("/", name))
			d.names.Unlock()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &diskFile{File: file, disk: d, name: name}, nil
}

func (d *disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.open("create", name, func() (vfs.File, error) { return d.MemFS.Create(name, c) })
}

func (d *disk) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.open("rename", name, func() (vfs.File, error) { return d.MemFS.ReuseForWrite(old, name, c) })
}

func (d *disk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if _, err := d.Stat(name); err != nil {
		return d.Create(name, c)
	}
	f, err := d.MemFS.OpenReadWrite(name, c, opts...)
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, disk: d, name: name}, nil
}

func (d *disk) OpenDir(name string) (vfs.File, error) {
	f, err := d.MemFS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, disk: d, name: name, dir: true}, nil
}

func (d *disk) Link(old, name string) error {
	return d.change("link", name, func() error {
		d.rename(name)
		return d.MemFS.Link(old, name)
	})
}

func (d *disk) Remove(name string) error {
	return d.change("remove", name, func() error { return d.MemFS.Remove(name) })
}

func (d *disk) RemoveAll(name string) error {
	return d.change("remove", name, func() error { return d.MemFS.RemoveAll(name) })
}

func (d *disk) Rename(old, name string) error {
	return d.change("rename", name, func() error {
		d.rename(name)
		d.names.Lock()
		if p := d.lost[path.Join("/", old)]; p != nil {
			d.lost[path.Join("/", name)] = p
		} else {
			delete(d.lost, path.Join("/", name))
		}
		delete(d.lost, path.Join("/", old))
		d.names.Unlock()
		return d.MemFS.Rename(old, name)
	})
}

func (d *disk) MkdirAll(name string, mode os.FileMode) error {
	return d.change("mkdir", name, func() error { return d.MemFS.MkdirAll(name, mode) })
}

type diskFile struct {
	vfs.File
	disk *disk
	name string
	dir  bool
	at   int64 // where Write writes
}

func (f *diskFile) Write(b []byte) (n int, err error) {
	err = f.disk.change("write", f.name, func() error {
		n, err = f.File.Write(b)
		f.disk.rewrite(f.name, f.at, n)
		f.at += int64(n)
		return err
	})
	return n, err
}

func (f *diskFile) WriteAt(b []byte, at int64) (n int, err error) {
	err = f.disk.change("write", f.name, func() error {
		n, err = f.File.WriteAt(b, at)
		f.disk.rewrite(f.name, at, n)
		return err
	})
	return n, err
}

// errNoSync makes a sync return nil without having happened.
var errNoSync = errors.New("the sync is left out")

func (f *diskFile) Sync() error {
	op := "sync"
	if f.dir {
		op = "sync directory"
	}
	err := f.disk.change(op, f.name, func() error {
		if f.dir {
			f.disk.settle(f.name)
		}
		return f.File.Sync()
	})
	if errors.Is(err, errNoSync) {
		return nil
	}
	return err
}

func (f *diskFile) SyncData() error { return f.Sync() }

func (f *diskFile) SyncTo(int64) (bool, error) { return true, f.Sync() }

// A crash is a way in which a disk ends when the power fails.
type crash int

const (
	dropped crash = iota // of what was not synced nothing is left
	kept                 // all is left
	blocks               // of each block of 4 KiB, and each new name, chance decides
	sectors              // of each sector of 512 bytes, too
	cut                  // files end somewhere in what was written last
	crashes
)

func (c crash) String() string {
	return [...]string{"dropped", "kept", "blocks", "sectors", "cut"}[c]
}

// fail returns what a disk may hold after the power has failed now. It calls look at that very moment; the disk itself goes on.
func (d *disk) fail(c crash, rng *rand.Rand, look func()) *vfs.MemFS {
	d.mu.Lock()
	defer d.mu.Unlock()
	look()
	mem := d.crash(c, rng)
	if len(d.lost) == 0 {
		return mem
	}
	left := contents(mem)
	for name, p := range d.lost {
		if b, ok := left[name]; ok {
			left[name] = p.forget(b)
		}
	}
	return write(left)
}

func (d *disk) crash(c crash, rng *rand.Rand) *vfs.MemFS {
	some := vfs.CrashCloneCfg{UnsyncedDataPercent: 1 + rng.IntN(99), RNG: rng}
	switch c {
	case dropped:
		return d.CrashClone(vfs.CrashCloneCfg{})
	case kept:
		return d.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
	case blocks:
		return d.CrashClone(some)
	}
	synced, written := contents(d.CrashClone(vfs.CrashCloneCfg{})), contents(d.MemFS)
	left := contents(d.CrashClone(some))
	for name, now := range written {
		was, ok := synced[name]
		if _, other := d.fresh[name]; other || !ok || bytes.Equal(was, now) {
			continue // there, or not, as the clone has it
		}
		if c == cut {
			left[name] = overlay(was, 0, now[:rng.IntN(len(now)+1)])
			continue
		}
		torn := was
		for at := 0; at < len(now); at += 512 {
			if rng.IntN(2) == 0 {
				torn = overlay(torn, at, now[at:min(at+512, len(now))])
			}
		}
		left[name] = torn
	}
	for name := range left {
		if _, ok := written[name]; !ok && rng.IntN(2) == 0 {
			delete(left, name) // it was removed, and that is durable by chance
		}
	}
	return write(left)
}

// overlay returns a copy of a file with bytes written over it from a place on; a hole is filled with zeros.
func overlay(file []byte, at int, b []byte) []byte {
	file = append(slices.Clone(file), make([]byte, max(0, at+len(b)-len(file)))...)
	copy(file[at:], b)
	return file
}

// contents returns all files by their names.
func contents(fsys vfs.FS) map[string][]byte {
	files := make(map[string][]byte)
	var walk func(dir string)
	walk = func(dir string) {
		names, err := fsys.List(dir)
		if err != nil {
			panic(err) // a directory that was just listed
		}
		for _, name := range names {
			name = path.Join(dir, name)
			info, err := fsys.Stat(name)
			switch {
			case err != nil: // it was removed meanwhile
			case info.IsDir():
				walk(name)
			default:
				if b, err := readAll(fsys, name); err == nil {
					files[name] = b
				}
			}
		}
	}
	walk("/")
	return files
}

func readAll(fsys vfs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// write returns a disk with files, all synced.
func write(files map[string][]byte) *vfs.MemFS {
	mem := vfs.NewCrashableMem()
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	for name, b := range files {
		must(mem.MkdirAll(path.Dir(name), 0o755))
		f, err := mem.Create(name, vfs.WriteCategoryUnspecified)
		must(err)
		_, err = f.WriteAt(b, 0) // under the race detector, Write spoils its argument
		must(errors.Join(err, f.Sync(), f.Close()))
		for dir := path.Dir(name); ; dir = path.Dir(dir) {
			d, err := mem.OpenDir(dir)
			must(err)
			must(errors.Join(d.Sync(), d.Close()))
			if dir == "/" {
				break
			}
		}
	}
	return mem
}

// TestDiskFails holds that the disk forgets what a disk may forget, and nothing else.
func TestDiskFails(t *testing.T) {
	rng := seeded(t)
	for c := range crashes {
		for range 200 {
			d := newDisk()
			f, err := d.Create("a", vfs.WriteCategoryUnspecified)
			check(t, err)
			root, err := d.OpenDir("/")
			check(t, err)
			_, err = f.Write([]byte(strings.Repeat("s", 700)))
			check(t, errors.Join(err, f.Sync(), root.Sync()))
			_, err = f.Write([]byte(strings.Repeat("u", 9_000)))
			check(t, err)
			_, err = d.Create("b", vfs.WriteCategoryUnspecified)
			check(t, err)
			left := contents(d.fail(c, rng, func() {}))
			a, n := left["/a"], strings.Count(string(left["/a"]), "u")
			if !strings.HasPrefix(string(a), strings.Repeat("s", 700)) {
				t.Fatalf("%v: a synced byte is lost: %q", c, a)
			}
			if c == dropped && (n > 0 || left["/b"] != nil) || c == kept && (n != 9_000 || left["/b"] == nil) {
				t.Fatalf("%v: %d unsynced bytes are left, files %d", c, n, len(left))
			}
			check(t, errors.Join(f.Close(), root.Close()))
		}
	}
}
