package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A smallDisk is a file system of its own that can be filled up.
type smallDisk struct {
	t   *testing.T
	dir string
}

const smallDiskSize = 192 << 20

// mountSmallDisk makes one, where that is allowed.
func mountSmallDisk(t *testing.T) *smallDisk {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", smallDiskSize), "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no small disk can be mounted here: %v %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return &smallDisk{t, dir}
}

func (d *smallDisk) ballast() string { return filepath.Join(d.dir, "ballast") }

// leave fills the disk up until so many bytes are left.
func (d *smallDisk) leave(bytes int64) {
	d.t.Helper()
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY, 0o600)
	check(d.t, err)
	defer f.Close()
	info, err := f.Stat()
	check(d.t, err)
	size := info.Size()
	for {
		var s syscall.Statfs_t
		check(d.t, syscall.Statfs(d.dir, &s))
		free := int64(s.Bavail)*s.Bsize - bytes
		if free <= 0 {
			return
		}
		if err := syscall.Fallocate(int(f.Fd()), 0, size, free); !errors.Is(err, syscall.ENOSPC) {
			check(d.t, err)
		}
		size += free
	}
}

// empty gives the space back.
func (d *smallDisk) empty() {
	d.t.Helper()
	check(d.t, os.Remove(d.ballast()))
}

// A customer submits orders to a server whose disk is full now and then, and remembers what it was told.
type customer struct {
	*remembering
	orders []*rememberedOrder
}

// submit submits an order, as it was submitted before if it was not answered then. It returns why it was refused.
func (c *customer) submit(o *rememberedOrder) error {
	q := o.submission()
	return c.ask(&q)
}

// more submits some new orders and returns the first refusal.
func (c *customer) more(n int) (err error) {
	for range n {
		o := &rememberedOrder{key: fmt.Sprintf("order-%d", len(c.orders))}
		c.orders = append(c.orders, o)
		if err = c.submit(o); err != nil {
			return err
		}
	}
	return nil
}

// settled submits again what was not acknowledged, and looks at all orders.
func (c *customer) settled() {
	c.t.Helper()
	c.http.CloseIdleConnections()
	for _, o := range c.orders {
		if o.id == "" {
			check(c.t, c.submit(o))
		}
		c.look(o)
	}
}

// refused checks that an order is refused in a way that a client understands.
func (c *customer) refused() {
	c.t.Helper()
	err := c.more(1)
	if err == nil || !strings.Contains(err.Error(), "503 Service Unavailable") || !strings.Contains(err.Error(), `"code":"ledger_unavailable"`) {
		c.t.Errorf("an order while the disk is full: %v, want a clear refusal", err)
	}
}

// TestFullDisk fills the disk under a server: first up to its reserve, then to the last byte, then while it is at work. Orders
// are refused with a reason, reads go on, it can be started again, nothing that it acknowledged is lost, and once there
// is room it takes orders again.
func TestFullDisk(t *testing.T) {
	disk := mountSmallDisk(t)
	s := &server{t: t, data: filepath.Join(disk.dir, "data"), address: freeAddress(t)}
	var err error
	s.log, err = os.Create(filepath.Join(t.TempDir(), "log"))
	check(t, err)
	defer func() {
		s.kill()
		if text := s.logged(); t.Failed() || strings.Contains(text, "panic") || strings.Contains(text, "DATA RACE") {
			t.Errorf("the server's log is\n%.6000s", text)
		}
		check(t, s.log.Close())
	}()
	c := &customer{remembering: &remembering{
		t: t, name: "customer", base: s.url(), http: &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second},
	}}
	defer c.http.CloseIdleConnections()
	lookAt := func(orders []*rememberedOrder) {
		t.Helper()
		c.http.CloseIdleConnections()
		for _, o := range orders {
			if o.id != "" {
				c.look(o)
			}
		}
	}

	look := func() { t.Helper(); lookAt(c.orders) }

	s.start()
	s.ready()
	check(t, c.more(10))
	disk.leave(60 << 20)
	c.refused()
	look()
	s.stop()
	s.start()
	s.ready()
	c.refused()
	look()
	disk.empty()
	c.settled()
	check(t, c.more(10))

	for _, end := range []func(){s.interrupt, s.kill} {
		look() // so that the rows are written while there is room
		disk.leave(0)
		c.refused()
		look()
		end()
		s.startFull()
		disk.empty()
		s.startAgain()
		c.settled()
		check(t, c.more(3))
	}

	rounds := 3
	if full {
		rounds = 30
	}
	for range rounds {
		disk.leave(70 << 20)
		shown := c.orders // what is taken while the disk fills up has no room in the read models
		var filling sync.WaitGroup
		filling.Go(func() {
			<-time.After(50 * time.Millisecond)
			disk.leave(0)
		})
		var refused error
		for until := time.Now().Add(20 * time.Second); refused == nil && time.Now().Before(until); {
			refused = c.more(1)
		}
		filling.Wait()
		if refused == nil || !strings.Contains(refused.Error(), "503 Service Unavailable") {
			t.Errorf("an order while the disk was filled up: %v, want a refusal", refused)
		}
		lookAt(shown)
		s.kill()
		disk.empty()
		s.startAgain()
		c.settled()
	}
	s.stop()
	mustCommand(t, "verify", "--data", s.data)
	c.remembering.orders = c.orders
	checkLedger(t, s.data, []*remembering{c.remembering})
}

// interrupt asks the process to end and waits until it has, be it with complaints.
func (s *server) interrupt() {
	s.t.Helper()
	check(s.t, s.process.Process.Signal(os.Interrupt))
	select {
	case <-s.exited:
		s.process = nil
	case <-time.After(30 * time.Second):
		s.t.Fatal("the server does not stop")
	}
}

// startFull starts the server while nothing is left on its disk. It comes up to be read, or says why not.
func (s *server) startFull() {
	s.t.Helper()
	s.start()
	client := &http.Client{Timeout: 5 * time.Second}
	up := false
	if !poll(func() bool {
		select {
		case <-s.exited:
			return true
		default:
		}
		response, err := client.Get(s.url() + "/readyz")
		if err == nil {
			_ = response.Body.Close()
			up = true
		}
		return up
	}) {
		s.t.Error("on a full disk, the server neither starts nor says why not")
	}
	if !up && !strings.Contains(s.logged(), "no space left on device") && !strings.Contains(s.logged(), "full") {
		s.t.Error("on a full disk, the server does not start and does not say why")
	}
	s.t.Logf("on a full disk the server starts: %t", up)
}

// startAgain starts the server, if it is not running.
func (s *server) startAgain() {
	s.t.Helper()
	s.kill()
	s.start()
	s.ready()
}
