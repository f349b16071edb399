package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/orderledger/orderledger/cmd/orderledger/optics"
	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
)

// A trip is the way of an order through its life, one request after the other. It is used by one goroutine at a time.
type trip struct {
	name    string
	country string
	order   string // as it is submitted
	random  *rand.Rand

	id     string // empty: not submitted yet
	status domain.Status
	step   int // commands that were answered

	due      time.Time // when the next request is to be sent
	asked    time.Time // when it was sent first; zero: not yet
	failed   bool      // it was sent, in vain
	homeless bool      // because the order's home could not be reached
	looks    bool      // it asks how the order stands
	refused  int       // commands
}

// maxRefused bounds the commands of an order that may be refused. Of an order that was made in two regions only one
// counts, and it may stand where the other one has left.
const maxRefused = 20

// newTrip makes the n-th order of a seed, and tells when it arrives. Orders arrive after base, which must not change.
func newTrip(seed uint64, n int, base time.Time) (*trip, time.Duration, error) {
	life := optics.NewLife(seed, n, base, demoSpan)
	order, err := json.Marshal(commands.Submission{Details: life.Submit.Details, Lines: life.Submit.Lines, Personal: life.Personal})
	return &trip{
		name: life.First().Key, country: life.Submit.Parties.Buyer.Country, order: string(order),
		random: rand.New(rand.NewPCG(seed, uint64(n))),
	}, life.Arrives, err
}

// key is the idempotency key of the next command. It names what is done, too: when the lives are played again, an order
// that was made twice may come to another command at the same step.
func (t *trip) key() string {
	action, _ := t.next()
	return fmt.Sprintf("%s-%d%s", t.name, t.step, strings.TrimPrefix(path.Base("/"+action), "/"))
}

func (t *trip) method() string {
	if t.looks {
		return http.MethodGet
	}
	return http.MethodPost
}

func (t *trip) path() string {
	switch {
	case t.id == "":
		return "/v1/orders"
	case t.looks:
		return "/v1/orders/" + t.id
	}
	action, _ := t.next()
	return "/v1/orders/" + t.id + action
}

func (t *trip) body() string {
	switch {
	case t.id == "":
		return t.order
	case t.looks:
		return ""
	}
	_, body := t.next()
	return body
}

// next is the command that takes the order further; none: its life is over.
func (t *trip) next() (action, body string) {
	switch t.status {
	case domain.StatusRouted:
		return "/fulfilments/f1/confirm", `{"outcome":"accepted","reference":"SITE"}`
	case domain.StatusConfirmed:
		return "/fulfilments/f1/start", `{}`
	case domain.StatusInFulfilment, domain.StatusPartiallyShipped:
		return "/fulfilments/f1/ship", `{}`
	case domain.StatusShipped:
		return "/fulfilments/f1/deliver", `{}`
	case domain.StatusDelivered:
		return "/close", `{}`
	}
	return "", ""
}

func (t *trip) over() bool {
	action, _ := t.next()
	return t.id != "" && !t.looks && action == ""
}

// take goes on from an answer.
func (t *trip) take(a commands.Answer) {
	t.id, t.status = a.ID, a.Status
	if !t.looks {
		t.step++
	}
	t.asked, t.failed, t.homeless, t.looks = time.Time{}, false, false, false
}

// look goes on from how the order stands, after a command was refused. It reports whether that makes sense.
func (t *trip) look() bool {
	if t.id == "" || t.refused == maxRefused {
		return false
	}
	t.refused++
	t.step++ // the key has its answer
	t.looks = true
	return true
}

// trips is a heap, the earliest first.
type trips []*trip

func (t trips) Len() int           { return len(t) }
func (t trips) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t trips) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *trips) Push(x any)        { *t = append(*t, x.(*trip)) }
func (t *trips) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
