// Package keyring keeps the keys that seal what a ledger knows about people: one key for each data subject, in one
// file beside the ledger. Erasing a person is destroying their key.
//
// A key is on the disk before it is first handed out. The file names no subject: it holds an HMAC of each, under a
// secret of its own, and a key's name is random. A destroyed key is gone from the file, not only marked; what the disk
// itself keeps of overwritten files is beyond this package.
//
// All methods of a [Keyring] are safe for concurrent use. One process at a time has a file open.
package keyring

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Conditions that callers act on. Each may come wrapped.
var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("the keyring is closed")
	// ErrFailed is returned where the file could not be written: what is sealed under a new key might never be opened
	// again. Keys that stand in the file go on to be found; new ones are made again once the keyring was opened anew.
	ErrFailed = errors.New("the keyring has failed and makes no keys until it is opened again")
	// ErrCorrupt is returned by Open for a file that is not what was written.
	ErrCorrupt = errors.New("the key file is corrupt")
	// ErrLocked is returned by Open while another process has the file open.
	ErrLocked = errors.New("another process has the keys open")
	// ErrExposed is returned by Open for a file that others than its owner may read or write.
	ErrExposed = errors.New("the key file is open to others")
	// ErrOtherDigest is returned by OpenShared for a file that was made with another key of digests.
	ErrOtherDigest = errors.New("the key file has another key of digests than the one that the regions share")
)

// A Keyring is an open key file.
type Keyring struct {
	path     string
	lock     io.Closer
	subjects secret // keys the HMAC of subjects
	digest   secret

	// mu protects all fields below.
	mu      sync.Mutex
	hiding  hash.Hash // the HMAC of subjects; nil until it is needed
	changed sync.Cond // syncing has ended, or the file was closed
	file    *os.File  // nil: closed
	size    int64     // of the file, as far as it can be read
	byName  map[name]entry
	current map[subject]name
	pending []name // keys that are not in the file yet
	made    uint64 // how many keys have been made since Open
	synced  uint64 // how many of those are durable
	batch   uint32 // number of the last batch in the file
	syncing bool   // somebody writes a batch, without holding mu
	failure error  // why no key will be made again
}

type (
	secret  [32]byte
	subject [sha256.Size]byte // HMAC of a data subject
	name    [16]byte          // random
)

// An entry is one key.
type entry struct {
	subject subject
	key     secret
	nth     uint64 // the key is durable once so many of those made since Open are
}

// Open opens the key file with the given path, and makes one if there is none. What a crash has left of a record that
// nobody has used yet is dropped.
func Open(path string) (*Keyring, error) {
	k, err := open(path, nil)
	if err != nil {
		return nil, fmt.Errorf("opening the keys in %s: %w", path, err)
	}
	return k, nil
}

// OpenShared opens a key file as Open does. A new file gets the key of digests that is given; one that has another is
// refused with [ErrOtherDigest]: what one region calls the same command, another would call a different one.
func OpenShared(path string, digest [32]byte) (*Keyring, error) {
	k, err := open(path, (*secret)(&digest))
	if err == nil && k.digest != digest {
		err = errors.Join(ErrOtherDigest, k.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("opening the keys in %s: %w", path, err)
	}
	return k, nil
}

func open(path string, digest *secret) (_ *Keyring, err error) {
	// Two names of one file must meet at one lock.
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	k := &Keyring{path: path, byName: make(map[name]entry), current: make(map[subject]name)}
	k.changed.L = &k.mu
	k.lock, err = vfs.Default.Lock(path + ".lock")
	if broken := (*fs.PathError)(nil); errors.As(err, &broken) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLocked, err)
	}
	defer func() {
		if err != nil {
			if k.file != nil {
				err = errors.Join(err, k.file.Close())
			}
			err = errors.Join(err, k.lock.Close())
		}
	}()
	return k, k.load(digest)
}

// Digest returns the key of the digests of commands, which all regions share. It was made with the file.
func (k *Keyring) Digest() []byte { return k.digest[:] }

// Current returns the key to seal personal data of a subject with, and its name. It makes a key where the subject has
// none, because it is new or its key was destroyed, and returns when that is durable. Nobody may change the key.
func (k *Keyring) Current(of string) (string, []byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.subject(of)
	if k.file == nil {
		return "", nil, ErrClosed
	}
	n, ok := k.current[s]
	if !ok {
		if k.failure != nil {
			return "", nil, k.failure
		}
		n = k.add(s)
	}
	e := k.byName[n]
	if err := k.sync(e.nth); err != nil {
		return "", nil, fmt.Errorf("making a key: %w", err)
	}
	return hex.EncodeToString(n[:]), e.key[:], nil
}

// Key returns the key with a name that Current has returned, and false once it is destroyed.
func (k *Keyring) Key(named string) ([]byte, bool) {
	n, ok := parseName(named)
	if !ok {
		return nil, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.byName[n]
	return e.key[:], ok
}

// Names lists the names of a subject's keys.
func (k *Keyring) Names(of string) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.subject(of)
	n, ok := k.current[s]
	if !ok {
		return nil
	}
	return []string{hex.EncodeToString(n[:])}
}

// Destroy removes the keys with the given names and returns, once that is durable, how many there were. Names without
// a key are passed over.
func (k *Keyring) Destroy(names ...string) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.syncing {
		k.changed.Wait()
	}
	switch {
	case k.file == nil:
		return 0, ErrClosed
	case k.failure != nil:
		return 0, k.failure
	}
	doomed := make(map[name]entry, len(names))
	for _, named := range names {
		if n, ok := parseName(named); ok {
			if e, ok := k.byName[n]; ok {
				doomed[n] = e
			}
		}
	}
	if len(doomed) == 0 {
		return 0, nil
	}
	for n, e := range doomed {
		delete(k.byName, n)
		delete(k.current, e.subject)
	}
	if err := k.compact(); err != nil {
		return 0, fmt.Errorf("destroying %d keys: %w", len(doomed), err)
	}
	return len(doomed), nil
}

// Close closes the file. Another call does nothing.
func (k *Keyring) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.syncing {
		k.changed.Wait()
	}
	if k.file == nil {
		return nil
	}
	err := errors.Join(k.file.Close(), k.lock.Close())
	k.file = nil
	k.changed.Broadcast()
	return err
}

// add makes a key, which is not in the file yet. It is called with mu held.
func (k *Keyring) add(s subject) name {
	k.made++
	e := entry{subject: s, nth: k.made}
	var n name
	_, _ = rand.Read(n[:]) // it never fails
	_, _ = rand.Read(e.key[:])
	k.byName[n], k.current[s] = e, n
	k.pending = append(k.pending, n)
	return n
}

// sync returns when the n-th key since Open is durable. Whoever finds nobody writing writes for all who wait, as one
// batch. It is called with mu held.
func (k *Keyring) sync(n uint64) error {
	for k.synced < n {
		switch {
		case k.failure != nil:
			return k.failure
		case k.file == nil:
			return ErrClosed
		case k.syncing:
			k.changed.Wait()
			continue
		}
		k.batch++
		batch := make([]byte, 0, len(k.pending)*recordSize)
		for _, n := range k.pending {
			batch = appendRecord(batch, kindKey, k.batch, n, k.byName[n])
		}
		k.pending = nil
		file, at, upTo := k.file, k.size, k.made
		k.syncing = true
		k.mu.Unlock()
		_, err := file.WriteAt(batch, at)
		if err == nil {
			err = file.Sync()
		}
		k.mu.Lock()
		k.syncing = false
		if err != nil {
			k.fail(err) // nobody knows what the disk has kept
		} else {
			k.synced = upTo
			k.size += int64(len(batch))
		}
		k.changed.Broadcast()
	}
	return nil
}

func (k *Keyring) fail(err error) {
	k.failure = fmt.Errorf("%w: %w", ErrFailed, err)
}

// subject hides a data subject behind an HMAC. It is called with mu held.
func (k *Keyring) subject(of string) subject {
	if k.hiding == nil {
		k.hiding = hmac.New(sha256.New, k.subjects[:])
	}
	k.hiding.Reset()
	_, _ = io.WriteString(k.hiding, of)
	return subject(k.hiding.Sum(nil))
}

// parseName reads the name of a key as Current writes it.
func parseName(s string) (name, bool) {
	var n name
	if len(s) != hex.EncodedLen(len(n)) {
		return n, false
	}
	_, err := hex.Decode(n[:], []byte(s))
	return n, err == nil && hex.EncodeToString(n[:]) == s
}
