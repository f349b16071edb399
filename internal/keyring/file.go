package keyring

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
)

// The file is a row of records of one size. The first holds the two secrets, every other one a key:
//
//	kind     1 byte
//	batch    4 bytes  which keys were written and synced together, counted from 1; 0 where the file was written anew
//	subject 32 bytes  HMAC of the subject; in the first record the key of that HMAC
//	name    16 bytes  zero in the first record
//	key     32 bytes  in the first record the key of the digests of commands
//	check    4 bytes  CRC-32C of all before it
//
// A batch is written after the one before it is durable, and no key of it is used before it is durable itself. So a
// crash can leave unreadable records in the last batch only, and nobody needs those.
const (
	recordSize = 1 + 4 + len(subject{}) + len(name{}) + len(secret{}) + 4

	kindSecrets = 'S'
	kindKey     = 'K'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendRecord(b []byte, kind byte, batch uint32, n name, e entry) []byte {
	start := len(b)
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, batch)
	b = append(b, e.subject[:]...)
	b = append(b, n[:]...)
	b = append(b, e.key[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func decodeRecord(b []byte) (kind byte, batch uint32, n name, e entry, ok bool) {
	body, check := b[:recordSize-4], b[recordSize-4:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(check) {
		return 0, 0, n, e, false
	}
	kind, batch, body = body[0], binary.BigEndian.Uint32(body[1:]), body[5:]
	body = body[copy(e.subject[:], body):]
	body = body[copy(n[:], body):]
	copy(e.key[:], body)
	return kind, batch, n, e, true
}

// load reads the file into an empty Keyring, or makes it, with a key of digests unless that is nil.
func (k *Keyring) load(digest *secret) error {
	// A crash may have left it half written, with keys that are to be gone.
	if err := os.Remove(k.temporary()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(k.path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return k.create(digest)
	}
	if err != nil {
		return err
	}
	k.file = file
	info, err := file.Stat()
	if err != nil {
		return err
	}
	// Windows has no such bits.
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("%w (mode %04o): chmod 600 it", ErrExposed, info.Mode().Perm())
	}
	data, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	defer clear(data)
	whole, err := k.read(data)
	if err != nil || whole {
		return err
	}
	slog.Warn("a crash has left a part of the key file unreadable: nothing of it was used, it is removed", "path", k.path)
	return k.compact()
}

// read takes in the records of a file and reports whether it holds nothing else.
func (k *Keyring) read(data []byte) (whole bool, err error) {
	last := lastBatch(data)
	torn := false
	for at := 0; at+recordSize <= len(data); at += recordSize {
		kind, batch, n, e, ok := decodeRecord(data[at:][:recordSize])
		switch {
		case at == 0 && ok && kind == kindSecrets:
			k.subjects, k.digest = secret(e.subject), e.key
		case at == 0, ok && kind != kindKey, !ok && k.batch+1 < last, ok && torn && (batch == 0 || batch != last):
			return false, fmt.Errorf("%w at byte %d", ErrCorrupt, at)
		case !ok:
			torn = true // of the last batch, as far as one can tell
		default:
			k.byName[n], k.current[e.subject], k.batch = e, n, batch
		}
	}
	if len(data) < recordSize {
		return false, fmt.Errorf("%w: it ends before its first record does", ErrCorrupt)
	}
	k.size = int64(len(data))
	return !torn && len(data)%recordSize == 0, nil
}

// lastBatch returns the batch of the last record that can be read.
func lastBatch(data []byte) uint32 {
	for at := len(data)/recordSize - 1; at > 0; at-- {
		if _, batch, _, _, ok := decodeRecord(data[at*recordSize:][:recordSize]); ok {
			return batch
		}
	}
	return 0
}

// create makes a file with new secrets.
func (k *Keyring) create(digest *secret) error {
	_, _ = rand.Read(k.subjects[:]) // it never fails
	if digest != nil {
		k.digest = *digest
	} else {
		_, _ = rand.Read(k.digest[:])
	}
	return k.replace()
}

// compact replaces the file by one without the keys that have been removed. It is called with mu held, while nobody
// syncs.
func (k *Keyring) compact() error {
	if err := k.replace(); err != nil {
		// The old file may or may not be in place: what it holds is known only after the next Open.
		k.fail(err)
		return k.failure
	}
	k.synced, k.pending, k.batch = k.made, nil, 0
	return nil
}

// replace writes what the Keyring holds to a new file and puts that in the place of the old one.
func (k *Keyring) replace() error {
	temporary := k.temporary()
	file, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	size, err := k.write(file)
	if err == nil {
		err = file.Sync()
	}
	if err == nil && k.file != nil {
		err = k.file.Close() // before the rename, for Windows
	}
	if err == nil {
		err = os.Rename(temporary, k.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(k.path))
	}
	if err != nil {
		return errors.Join(err, file.Close(), os.Remove(temporary))
	}
	k.file, k.size = file, size
	return nil
}

func (k *Keyring) write(file *os.File) (int64, error) {
	b := make([]byte, 0, (1+len(k.byName))*recordSize)
	b = appendRecord(b, kindSecrets, 0, name{}, entry{subject: subject(k.subjects), key: k.digest})
	for n, e := range k.byName {
		b = appendRecord(b, kindKey, 0, n, e)
	}
	_, err := file.Write(b)
	return int64(len(b)), err
}

func (k *Keyring) temporary() string { return k.path + ".new" }

func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // it cannot, and need not
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
