package keyring_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/orderledger/orderledger/internal/keyring"
)

// record is the length of a record in the file.
const record = 1 + 4 + 32 + 16 + 32 + 4

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "keys") }

func open(t testing.TB, path string) *keyring.Keyring {
	t.Helper()
	k, err := keyring.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func current(t testing.TB, k *keyring.Keyring, subject string) (string, []byte) {
	t.Helper()
	name, key, err := k.Current(subject)
	if err != nil {
		t.Fatal(err)
	}
	return name, bytes.Clone(key)
}

func closeKeys(t testing.TB, k *keyring.Keyring) {
	t.Helper()
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestASubjectHasOneKey(t *testing.T) {
	path := newPath(t)
	k := open(t, path)
	name, key := current(t, k, "main/customer/1")
	again, same := current(t, k, "main/customer/1")
	if again != name || !bytes.Equal(same, key) {
		t.Error("a subject got a second key")
	}
	other, otherKey := current(t, k, "main/customer/2")
	if other == name || bytes.Equal(otherKey, key) {
		t.Error("two subjects share a key")
	}
	if len(key) != 32 || len(k.Digest()) != 32 {
		t.Errorf("keys of %d and %d bytes", len(key), len(k.Digest()))
	}
	digest := bytes.Clone(k.Digest())
	closeKeys(t, k)

	k = open(t, path)
	if found, ok := k.Key(name); !ok || !bytes.Equal(found, key) {
		t.Error("the key is gone after a restart")
	}
	if again, _ := current(t, k, "main/customer/1"); again != name {
		t.Error("the subject got another key after a restart")
	}
	if !bytes.Equal(k.Digest(), digest) {
		t.Error("the digest's key has changed")
	}
	if names := k.Names("main/customer/1"); len(names) != 1 || names[0] != name {
		t.Errorf("the subject's keys are %v, not %s", names, name)
	}
	if names := k.Names("nobody"); names != nil {
		t.Errorf("a subject without a key has %v", names)
	}
}

func TestRegionsShareTheKeyOfDigests(t *testing.T) {
	shared := [32]byte{1, 2, 3}
	var paths []string
	for range 2 {
		path := newPath(t)
		k, err := keyring.OpenShared(path, shared)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(k.Digest(), shared[:]) {
			t.Errorf("the key of digests is %x, want %x", k.Digest(), shared)
		}
		current(t, k, "main/customer/1")
		closeKeys(t, k)
		paths = append(paths, path)
	}
	if bytes.Equal(read(t, paths[0])[record:], read(t, paths[1])[record:]) {
		t.Error("two files name subjects by the same HMAC, or have the same keys")
	}
	if k, err := keyring.OpenShared(paths[0], [32]byte{4}); !errors.Is(err, keyring.ErrOtherDigest) || k != nil {
		t.Errorf("error %v, want %v", err, keyring.ErrOtherDigest)
	}
	k := open(t, paths[0]) // it was closed again, and is as it was
	if !bytes.Equal(k.Digest(), shared[:]) {
		t.Errorf("the key of digests is %x, want %x", k.Digest(), shared)
	}
}

func TestUnknownNames(t *testing.T) {
	k := open(t, newPath(t))
	name, _ := current(t, k, "s")
	for _, unknown := range []string{"", "x", strings.Repeat("0", 32), strings.ToUpper(name) + "!", name + "00", strings.Repeat("g", 32)} {
		if _, ok := k.Key(unknown); ok {
			t.Errorf("%q names a key", unknown)
		}
		if n, err := k.Destroy(unknown); n != 0 || err != nil {
			t.Errorf("destroying %q: %d, %v", unknown, n, err)
		}
	}
}

func TestDestroyedKeyIsGoneFromTheFile(t *testing.T) {
	path := newPath(t)
	k := open(t, path)
	name, key := current(t, k, "s")
	kept, keptKey := current(t, k, "t")
	if !bytes.Contains(read(t, path), key) {
		t.Fatal("the test does not see the key in the file")
	}
	if n, err := k.Destroy(name, name, "x"); n != 1 || err != nil {
		t.Fatalf("destroyed %d keys: %v", n, err)
	}
	if bytes.Contains(read(t, path), key) {
		t.Error("the destroyed key is still in the file")
	}
	if _, ok := k.Key(name); ok {
		t.Error("the destroyed key is found")
	}
	// The file goes on to be written after it was replaced.
	second, secondKey := current(t, k, "s")
	if second == name || bytes.Equal(secondKey, key) {
		t.Error("the destroyed key came back")
	}
	closeKeys(t, k)
	k = open(t, path)
	if _, ok := k.Key(name); ok {
		t.Error("the destroyed key is found after a restart")
	}
	if found, ok := k.Key(kept); !ok || !bytes.Equal(found, keptKey) {
		t.Error("another key was destroyed too")
	}
	if again, _ := current(t, k, "s"); again != second {
		t.Error("the second generation is lost")
	}
}

func TestFileBetraysNoSubject(t *testing.T) {
	path := newPath(t)
	k := open(t, path)
	name, _ := current(t, k, "main/customer/4711")
	closeKeys(t, k)
	if data := read(t, path); bytes.Contains(data, []byte("4711")) || strings.Contains(name, "4711") {
		t.Error("the subject stands in the clear")
	}
	// The same subject in another file has other names.
	other := open(t, newPath(t))
	if same, _ := current(t, other, "main/customer/4711"); same == name {
		t.Error("a name follows from its subject")
	}
}

func TestPermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("this system has no permission bits")
	}
	path := newPath(t)
	k := open(t, path)
	name, _ := current(t, k, "s")
	mode := func() fs.FileMode {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	if mode() != 0o600 {
		t.Errorf("a new file has mode %04o", mode())
	}
	if _, err := k.Destroy(name); err != nil {
		t.Fatal(err)
	}
	if mode() != 0o600 {
		t.Errorf("a replaced file has mode %04o", mode())
	}
	closeKeys(t, k)
	for _, exposed := range []fs.FileMode{0o640, 0o604, 0o620} {
		if err := os.Chmod(path, exposed); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.Open(path); !errors.Is(err, keyring.ErrExposed) {
			t.Errorf("a file of mode %04o: %v", exposed, err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, path) // a failed Open leaves no lock behind
}

func TestOneProcessAtATime(t *testing.T) {
	path := newPath(t)
	k := open(t, path)
	if _, err := keyring.Open(path); !errors.Is(err, keyring.ErrLocked) {
		t.Fatalf("the file was opened twice: %v", err)
	}
	closeKeys(t, k)
	open(t, path)
}

func TestClosed(t *testing.T) {
	k := open(t, newPath(t))
	name, _ := current(t, k, "s")
	closeKeys(t, k)
	closeKeys(t, k)
	if _, _, err := k.Current("s"); !errors.Is(err, keyring.ErrClosed) {
		t.Errorf("Current: %v", err)
	}
	if _, err := k.Destroy(name); !errors.Is(err, keyring.ErrClosed) {
		t.Errorf("Destroy: %v", err)
	}
}

func TestOpenFails(t *testing.T) {
	if _, err := keyring.Open(filepath.Join(t.TempDir(), "missing", "keys")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a directory that does not exist was opened")
	}
	if _, err := keyring.Open(t.TempDir()); err == nil {
		t.Error("a directory was opened as a file")
	}
}

// TestTornTail cuts the file off at every byte of its last batch, and fills what is cut off with zeros, as a crash may.
// What was used before is there, and the file goes on to work.
func TestTornTail(t *testing.T) {
	path := newPath(t)
	k := open(t, path)
	name, key := current(t, k, "s")
	lost, _ := current(t, k, "t")
	closeKeys(t, k)
	whole := read(t, path)
	if len(whole) != 3*record {
		t.Fatalf("the file has %d bytes", len(whole))
	}
	for cut := 2 * record; cut < len(whole); cut++ {
		for _, zeros := range []bool{false, true} {
			torn := bytes.Clone(whole[:cut])
			if zeros {
				torn = append(torn, make([]byte, len(whole)-cut)...)
			}
			path := newPath(t)
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			k := open(t, path)
			if found, ok := k.Key(name); !ok || !bytes.Equal(found, key) {
				t.Fatalf("cut at %d: the first key is lost", cut)
			}
			if _, ok := k.Key(lost); ok && !bytes.Equal(torn, whole) {
				t.Fatalf("cut at %d: half a key is found", cut)
			}
			current(t, k, "t")
			third, thirdKey := current(t, k, "u")
			closeKeys(t, k)
			k = open(t, path)
			if found, ok := k.Key(third); !ok || !bytes.Equal(found, thirdKey) {
				t.Fatalf("cut at %d: a key that was made after the crash is lost", cut)
			}
			closeKeys(t, k)
		}
	}
}

func TestDamageIsNoTornTail(t *testing.T) {
	path := newPath(t)
	k := open(t, path)
	for i := range 4 {
		current(t, k, fmt.Sprint(i)) // each a batch of its own
	}
	closeKeys(t, k)
	whole := read(t, path)
	for _, at := range []int{0, record / 2, record + 3, 2*record + 50, 3*record - 1, 3*record + 1} {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1
		path := newPath(t)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.Open(path); !errors.Is(err, keyring.ErrCorrupt) {
			t.Errorf("damage at byte %d: %v", at, err)
		}
		if !bytes.Equal(read(t, path), damaged) {
			t.Errorf("damage at byte %d: the file was changed", at)
		}
	}
	for _, short := range []int{0, 1, record - 1} {
		path := newPath(t)
		if err := os.WriteFile(path, whole[:short], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.Open(path); !errors.Is(err, keyring.ErrCorrupt) {
			t.Errorf("a file of %d bytes: %v", short, err)
		}
	}
	// A second file of secrets behind the first one.
	if err := os.WriteFile(path, append(bytes.Clone(whole), whole[:record]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Open(path); !errors.Is(err, keyring.ErrCorrupt) {
		t.Errorf("a file with secrets at its end: %v", err)
	}
}

// TestTornBatch loses a record of a batch of several keys. In the last batch nobody has used it, and the others of that
// batch are kept. In an earlier one it is damage.
func TestTornBatch(t *testing.T) {
	path := newPath(t)
	k := open(t, path)
	var start int // of the last three records of a batch, behind which stands the next one
	for try := 0; start == 0; try++ {
		if try == 50 {
			t.Fatal("no three keys were ever written together")
		}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if _, _, err := k.Current(fmt.Sprint(try, " ", i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		start = threeAndNext(read(t, path))
	}
	closeKeys(t, k)
	whole := read(t, path)
	for _, c := range []struct {
		lost, end int // records from start
		want      error
	}{
		{0, 3, nil}, {1, 3, nil}, {2, 3, nil},
		{1, 4, keyring.ErrCorrupt},
	} {
		torn := bytes.Clone(whole[:start+c.end*record])
		clear(torn[start+c.lost*record:][:record])
		path := newPath(t)
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := keyring.Open(path)
		if !errors.Is(err, c.want) {
			t.Errorf("record %d of %d lost: %v", c.lost, c.end, err)
		}
		if err != nil {
			continue
		}
		current(t, k, "later")
		closeKeys(t, k)
		if got := len(read(t, path)); got != len(torn) { // one lost, one new
			t.Errorf("record %d of %d lost: the file has %d bytes, not %d", c.lost, c.end, got, len(torn))
		}
		closeKeys(t, open(t, path))
	}
}

// threeAndNext returns where the last three records of a batch begin, behind which stands another one; or 0.
func threeAndNext(file []byte) int {
	batch := func(at int) string { return string(file[at+1 : at+5]) }
	for at := record; at+3*record < len(file); at += record {
		if batch(at) == batch(at+record) && batch(at) == batch(at+2*record) && batch(at) != batch(at+3*record) {
			return at
		}
	}
	return 0
}

// TestCrashWhileReplacing leaves the new file beside the old one, as a crash before the renaming does.
func TestCrashWhileReplacing(t *testing.T) {
	path := newPath(t)
	k := open(t, path)
	name, _ := current(t, k, "s")
	closeKeys(t, k)
	if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	k = open(t, path)
	if n, err := k.Destroy(name); n != 1 || err != nil {
		t.Errorf("destroyed %d keys: %v", n, err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the new file is left behind")
	}
}

func TestDestroyFails(t *testing.T) {
	path := newPath(t)
	k := open(t, path)
	name, _ := current(t, k, "s")
	kept, _ := current(t, k, "t")
	if err := os.Mkdir(path+".new", 0o700); err != nil { // where the new file is to be
		t.Fatal(err)
	}
	if _, err := k.Destroy(name); !errors.Is(err, keyring.ErrFailed) {
		t.Fatalf("Destroy: %v", err)
	}
	if _, _, err := k.Current("u"); !errors.Is(err, keyring.ErrFailed) {
		t.Errorf("Current of a new subject: %v", err)
	}
	if _, err := k.Destroy(kept); !errors.Is(err, keyring.ErrFailed) {
		t.Errorf("Destroy again: %v", err)
	}
	if again, _ := current(t, k, "t"); again != kept {
		t.Error("a key that is durable is not found")
	}
	closeKeys(t, k)
	if err := os.Remove(path + ".new"); err != nil {
		t.Fatal(err)
	}
	k = open(t, path)
	if n, err := k.Destroy(name); n != 1 || err != nil {
		t.Errorf("after opening it again, destroyed %d keys: %v", n, err)
	}
}

// TestConcurrency makes and destroys keys from many sides. Whatever Current returned and nobody destroyed is there
// after a restart.
func TestConcurrency(t *testing.T) {
	path := newPath(t)
	k := open(t, path)
	const workers, subjects = 8, 40
	var wg sync.WaitGroup
	var mu sync.Mutex
	kept, destroyed := map[string][]byte{}, map[string]bool{}
	for w := range workers {
		wg.Go(func() {
			for i := range subjects {
				shared := fmt.Sprint("subject ", i)
				name, key, err := k.Current(shared)
				own, ownKey, ownErr := k.Current(fmt.Sprint(w, " ", i))
				if err != nil || ownErr != nil {
					t.Error(err, ownErr)
					return
				}
				mu.Lock()
				kept[name], kept[own] = bytes.Clone(key), bytes.Clone(ownKey)
				mu.Unlock()
				if i%10 == w%10 {
					if n, err := k.Destroy(own); n != 1 || err != nil {
						t.Errorf("destroyed %d keys: %v", n, err)
					}
					mu.Lock()
					destroyed[own] = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	closeKeys(t, k)
	k = open(t, path)
	for name, key := range kept {
		found, ok := k.Key(name)
		if destroyed[name] == ok || ok && !bytes.Equal(found, key) {
			t.Errorf("key %s: found %v, destroyed %v", name, ok, destroyed[name])
		}
	}
	for i := range subjects {
		if name, _ := current(t, k, fmt.Sprint("subject ", i)); kept[name] == nil {
			t.Errorf("subject %d got a second key", i)
		}
	}
}

func BenchmarkNewKeys(b *testing.B) {
	k := open(b, newPath(b))
	b.SetParallelism(64)
	var mu sync.Mutex
	n := 0
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			n++
			subject := fmt.Sprint(n)
			mu.Unlock()
			if _, _, err := k.Current(subject); err != nil {
				b.Fatal(err)
			}
		}
	})
}
