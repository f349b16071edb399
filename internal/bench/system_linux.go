package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Datasync makes what was written to a file durable, but for what is not needed to read it back.
func Datasync(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// CPUTime is what the process has used of all cores so far.
func CPUTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ResidentMemory is how many bytes of the process are in memory.
func ResidentMemory() uint64 {
	text, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(text)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(string(fields[1]), 10, 64)
	return pages * uint64(os.Getpagesize())
}

// pause waits. The runtime's own timers are late by a millisecond while nothing else happens.
func pause(d time.Duration) {
	for end := time.Now().Add(d); d > 0; d = time.Until(end) {
		t := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&t, nil) // a signal ends it early
	}
}

func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// fileSystem names the type and the device of what a directory is on.
func fileSystem(dir string) string {
	if path, err := filepath.EvalSymlinks(dir); err == nil {
		dir = path
	}
	if path, err := filepath.Abs(dir); err == nil {
		dir = path
	}
	text, _ := os.ReadFile("/proc/self/mountinfo")
	found, longest := "", 0
	for line := range strings.Lines(string(text)) {
		mount, rest, ok := strings.Cut(line, " - ")
		fields, source := strings.Fields(mount), strings.Fields(rest)
		if !ok || len(fields) < 5 || len(source) < 2 {
			continue
		}
		at := fields[4]
		if under := at == "/" || dir == at || strings.HasPrefix(dir, at+"/"); under && len(at) >= longest {
			found, longest = fmt.Sprintf("%s on %s", source[0], source[1]), len(at)
		}
	}
	return found
}

// FreeSpace is how many bytes a directory's file system has left; 0 if that is not known.
func FreeSpace(dir string) uint64 {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0
	}
	return s.Bavail * uint64(s.Bsize)
}
