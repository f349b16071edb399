//go:build !linux

package bench

import (
	"os"
	"runtime/metrics"
	"time"
)

// Datasync makes what was written to a file durable.
func Datasync(f *os.File) error { return f.Sync() }

// CPUTime is what the process has used of all cores so far, as the runtime estimates it.
func CPUTime() time.Duration {
	s := []metrics.Sample{{Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"}}
	metrics.Read(s)
	return time.Duration((s[0].Value.Float64() - s[1].Value.Float64()) * float64(time.Second))
}

// ResidentMemory is how many bytes the runtime has mapped and not given back.
func ResidentMemory() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}

func pause(d time.Duration) { <-time.After(d) }

func cpuModel() string { return "" }

func fileSystem(string) string { return "" }

// FreeSpace is how many bytes a directory's file system has left; 0 if that is not known.
func FreeSpace(string) uint64 { return 0 }
