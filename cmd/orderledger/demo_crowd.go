package main

import (
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/edge"
	"github.com/orderledger/orderledger/internal/topology"
)

const (
	crowdClients = 16               // that wait for an answer at once
	crowdTwice   = 20               // one command in so many is sent twice
	crowdTimeout = 15 * time.Second // of one request
	crowdAnswer  = 1 << 20          // bytes of an answer
)

// A crowd is customers and sites of many countries. They submit orders at the entry and take each through its life, one
// command after the other; what is not answered is sent again under the same key until it is.
type crowd struct {
	entry   string
	regions *topology.Topology
	http    *http.Client
	speed   float64       // days that pass in a second
	pause   time.Duration // before a request is sent again, at most
	queue   trips

	mu    sync.Mutex // protects what follows
	tally tally
	known map[string]domain.Status // of each order that was acknowledged, by its id: as it was answered last
	err   error                    // the first answer that should not have been
}

// A tally counts what a crowd has done.
type tally struct {
	Begun        int           // orders that were sent
	Sent         int           // requests, each attempt by itself
	Acknowledged int           // commands
	Elsewhere    int           // of them that another region has answered than the first one for the country
	Again        int           // requests that were sent again because they had failed
	Twice        int           // commands that were sent twice on purpose
	Refused      int           // commands that the order was not ready for
	Waiting      int           // orders of which a command has failed and is not done yet
	Longest      time.Duration // that a client has waited
	LongestHome  time.Duration // the same, where the order's home could not be reached
}

// newCrowd returns the crowd of a demo, whose orders go on from what their lives were at base.
func newCrowd(d demoCommand, entry string, regions *topology.Topology, base time.Time) (*crowd, error) {
	c := &crowd{
		entry: entry, regions: regions, speed: d.Speed, pause: time.Second, known: make(map[string]domain.Status),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: crowdClients}, Timeout: crowdTimeout},
	}
	if d.Exit {
		c.speed, c.pause = 1e9, 200*time.Millisecond
	}
	begun := time.Now()
	for i := range d.Orders {
		t, arrives, err := newTrip(d.Seed, i, base)
		if err != nil {
			return nil, err
		}
		t.due = begun.Add(c.lasts(arrives))
		c.queue = append(c.queue, t)
	}
	heap.Init(&c.queue)
	return c, nil
}

// lasts is how long a part of a life takes here.
func (c *crowd) lasts(d time.Duration) time.Duration {
	return time.Duration(float64(d) / (c.speed * 24 * 3600))
}

// run takes all orders through their lives.
func (c *crowd) run(ctx context.Context) error {
	defer c.http.CloseIdleConnections()
	jobs, done := make(chan *trip), make(chan *trip, crowdClients)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer close(jobs)
	for range crowdClients {
		clients.Go(func() {
			for t := range jobs {
				c.ask(ctx, t)
				done <- t
			}
		})
	}
	for busy := 0; c.failure() == nil && len(c.queue)+busy > 0; {
		var next *trip
		var free chan<- *trip
		var due <-chan time.Time
		if len(c.queue) > 0 && busy < crowdClients {
			next = c.queue[0]
			if wait := time.Until(next.due); wait > 0 {
				due = time.After(wait)
			} else {
				free = jobs
			}
		}
		select {
		case free <- next:
			heap.Pop(&c.queue)
			busy++
		case t := <-done:
			busy--
			if !t.over() {
				heap.Push(&c.queue, t)
			}
		case <-due:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return c.failure()
}

// count changes the counts.
func (c *crowd) count(change func(*tally)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.tally)
}

// counts are the counts so far.
func (c *crowd) counts() tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tally
}

func (c *crowd) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

func (c *crowd) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// ask sends the next request of an order and says when there is another one.
func (c *crowd) ask(ctx context.Context, t *trip) {
	if t.asked.IsZero() {
		t.asked = time.Now()
		if t.id == "" {
			c.count(func(n *tally) { n.Begun++ })
		}
	}
	r, err := c.send(ctx, t)
	switch {
	case ctx.Err() != nil:
	case err != nil || r.failed(t):
		t.due = time.Now().Add(min(max(r.wait, c.pause/4), c.pause))
		c.count(func(n *tally) {
			n.Again++
			if !t.failed {
				n.Waiting++
			}
			t.failed, t.homeless = true, t.homeless || r.code == "home_unreachable"
		})
	case r.status == http.StatusConflict && t.look():
		t.due = time.Now().Add(c.pause / 2)
		c.count(func(n *tally) { n.Refused++ })
	case r.status >= http.StatusBadRequest || t.id != "" && t.id != r.order.ID:
		c.fail(fmt.Errorf("%s with key %s was answered %d: %s", t.path(), t.key(), r.status, r.body))
	default:
		c.answered(ctx, t, r)
	}
}

// answered takes note of an answer, and sends some requests once more.
func (c *crowd) answered(ctx context.Context, t *trip, r reply) {
	waited := time.Since(t.asked)
	command := !t.looks
	if command && t.random.IntN(crowdTwice) == 0 {
		again, err := c.send(ctx, t)
		if err == nil && again.status < http.StatusBadRequest && again.order.ID != r.order.ID {
			c.fail(fmt.Errorf("key %s was answered for order %s and then for order %s", t.key(), r.order.ID, again.order.ID))
		}
		c.count(func(n *tally) { n.Twice++ })
	}
	failed, homeless := t.failed, t.homeless
	t.take(r.order)
	t.due = time.Now().Add(c.lasts(time.Duration(4+t.random.IntN(36)) * time.Hour))
	nearest, _ := c.regions.ForCountry(t.country)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[t.id] = t.status
	if failed {
		c.tally.Waiting--
	}
	switch {
	case !command:
		return
	case homeless:
		c.tally.LongestHome = max(c.tally.LongestHome, waited)
	default:
		c.tally.Longest = max(c.tally.Longest, waited)
	}
	c.tally.Acknowledged++
	if nearest.Name != "" && nearest.Name != r.region {
		c.tally.Elsewhere++
	}
}

// A reply is what the entry has answered.
type reply struct {
	status int
	region string // that has answered
	wait   time.Duration
	code   string // of a problem
	body   []byte
	order  commands.Answer
}

// failed reports whether a request may lead to something when it is sent again.
func (r reply) failed(t *trip) bool {
	return r.status >= http.StatusInternalServerError || r.status == http.StatusTooManyRequests ||
		r.status == http.StatusNotFound && t.id != "" // the region that was asked has not heard of the order yet
}

// send sends an order's next request once.
func (c *crowd) send(ctx context.Context, t *trip) (reply, error) {
	c.count(func(n *tally) { n.Sent++ })
	q, err := http.NewRequestWithContext(ctx, t.method(), c.entry+t.path(), strings.NewReader(t.body()))
	if err != nil {
		return reply{}, err
	}
	q.Header.Set(edge.CountryHeader, t.country)
	if q.Method == http.MethodPost {
		q.Header.Set("Content-Type", "application/json")
		q.Header.Set("Idempotency-Key", t.key())
	}
	response, err := c.http.Do(q)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	r := reply{status: response.StatusCode, region: response.Header.Get("Orderledger-Region")}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		r.wait = time.Duration(seconds) * time.Second
	}
	if r.body, err = io.ReadAll(io.LimitReader(response.Body, crowdAnswer)); err != nil {
		return r, err
	}
	if r.status >= http.StatusBadRequest {
		var problem struct{ Code string }
		_ = json.Unmarshal(r.body, &problem) // what is no problem has no code
		r.code = problem.Code
		return r, nil
	}
	if err := json.Unmarshal(r.body, &r.order); err != nil {
		return r, fmt.Errorf("reading the answer to key %s: %w", t.key(), err)
	}
	return r, nil
}
