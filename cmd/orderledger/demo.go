package main

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/cmd/orderledger/optics"
	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/domain"
)

// demoCommand plays the orders of an optics maker on a server of its own.
type demoCommand struct {
	Orders int     `default:"400" placeholder:"N" help:"How many orders (default: ${default})."`
	Speed  float64 `default:"2" placeholder:"DAYS" help:"Days that pass in a second (default: ${default})."`
	Seed   uint64  `default:"1" placeholder:"N" help:"Another seed makes other orders (default: ${default})."`
	Listen string  `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Loopback address to serve HTTP on; where it is taken, any port (default: ${default})."`
	Exit   bool    `help:"Play as fast as possible, check that everything adds up, and end. For scripts."`

	Regions int `default:"1" placeholder:"N" help:"Play in so many regions, 1 to 6, behind one entry, and cut one of them off in the middle (default: ${default})."`
}

func (d demoCommand) Run(ctx context.Context, e *environment) error {
	if d.Orders < 1 || d.Orders > 1_000_000 || !(d.Speed > 0) {
		return usage("--orders is 1 to 1000000, and --speed is above 0")
	}
	if d.Regions < 1 || d.Regions > len(places) {
		return usage("--regions is 1 to %d", len(places))
	}
	if d.Regions > 1 {
		return d.runRegions(ctx, e)
	}
	data, tidy, err := d.directory(e)
	if err != nil {
		return err
	}
	defer tidy()
	// The demo's own screen shows what happens; the log is for what goes wrong.
	log := slog.New(slog.NewTextHandler(e.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n, err := openNode(ctx, nodeConfig{globals: globals{Data: data}, Rules: rules.Optics(), Log: log})
	if err != nil {
		return err
	}
	if err := foreign(ctx, n, data); err != nil {
		return errors.Join(err, n.close())
	}
	play, err := newPlay(n.handler.Handle, d, data)
	if err != nil {
		return errors.Join(err, n.close())
	}
	listener, err := n.listen(d.Listen)
	if err != nil {
		if listener, err = n.listen("127.0.0.1:0"); err != nil {
			return errors.Join(err, n.close())
		}
	}
	address := "http://" + listener.Addr().String()

	running, stop := context.WithCancel(ctx)
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- n.run(running, listener) }()
	screen := newScreen(e, d, play, address, data)
	err = play.run(running, d, screen.show)
	if err == nil {
		err = screen.sum(ctx, n)
	}
	if err == nil && !d.Exit {
		e.note("All orders have been played. The server goes on; Ctrl-C ends it.")
		select {
		case <-ctx.Done():
		case err = <-stopped:
			stopped <- nil
		}
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // Ctrl-C is how a demo ends
	}
	stop()
	return errors.Join(err, <-stopped, n.close())
}

// directory returns where the demo keeps its data, and what to do at its end: without --data, nothing is kept.
func (d demoCommand) directory(e *environment) (string, func(), error) {
	if e.dataGiven {
		return e.Data, func() {}, nil
	}
	data, err := os.MkdirTemp("", "orderledger-demo-")
	if err != nil {
		return "", nil, err
	}
	return data, func() { _ = os.RemoveAll(data) }, nil
}

// A play is all lives of a demo, the next step of each in the order of time.
type play struct {
	handle handle
	base   time.Time // when the lives begin
	queue  steps

	orders, commands, repeated, refused int
	played                              map[uuid.UUID]outcome
	recent                              []moved // the newest last
}

// An outcome is how an order stands.
type outcome struct {
	status domain.Status
	events uint64
}

// events counts those of all orders.
func (p *play) events() uint64 {
	var n uint64
	for _, o := range p.played {
		n += o.events
	}
	return n
}

// A moved is what a step did to an order.
type moved struct {
	number string
	did    string
	status domain.Status
}

// demoSubmitter is who sends the commands of the demo.
const demoSubmitter = "demo"

// A handle takes a command, as [commands.Handler.Handle] does.
type handle func(context.Context, domain.Command, domain.Personal) (commands.Result, error)

// newPlay makes all lives of a demo in a data directory.
func newPlay(h handle, d demoCommand, data string) (*play, error) {
	base, err := d.base(data)
	if err != nil {
		return nil, err
	}
	return beginPlay(h, d, base, demoSpan), nil
}

// base reads when the lives of a data directory began, or begins them now: a second start must tell the same story.
func (d demoCommand) base(data string) (time.Time, error) {
	name := filepath.Join(data, fmt.Sprintf("demo-%d.json", d.Seed))
	var begun struct {
		Base time.Time `json:"base"`
	}
	text, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		begun.Base = time.Now().UTC().Truncate(24 * time.Hour).Add(-optics.Span - demoSpan)
		if text, err = json.Marshal(begun); err == nil {
			err = os.WriteFile(name, text, 0o600)
		}
	case err == nil:
		err = json.Unmarshal(text, &begun)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the beginning of the demo: %w", err)
	}
	return begun.Base, nil
}

// beginPlay returns a play of lives that begin within span after base.
func beginPlay(h handle, d demoCommand, base time.Time, span time.Duration) *play {
	p := &play{handle: h, base: base, played: make(map[uuid.UUID]outcome)}
	for i := range d.Orders {
		life := optics.NewLife(d.Seed, i, base, span)
		first := life.First()
		p.queue = append(p.queue, step{Step: first, life: life, order: domain.OrderID(demoUnit, demoSubmitter, first.Key)})
	}
	heap.Init(&p.queue)
	return p
}

// foreign refuses a data directory that holds orders which no demo has made: they could never be told apart again.
func foreign(ctx context.Context, n *node, data string) error {
	head, err := n.ledger.Head(ctx)
	if err != nil {
		return err
	}
	demos, err := filepath.Glob(filepath.Join(data, "demo-*.json"))
	if err != nil || head.Position == 0 || len(demos) > 0 {
		return err
	}
	return usage("%s holds a ledger that no demo has made: name another directory with --data", data)
}

const (
	demoSpan = 45 * 24 * time.Hour // in which orders arrive
	demoUnit = "main"
)

// run plays all lives, at the demo's speed or as fast as possible, and shows each step.
func (p *play) run(ctx context.Context, d demoCommand, show func()) error {
	begun := time.Now()
	for len(p.queue) > 0 {
		s := heap.Pop(&p.queue).(step)
		if !d.Exit {
			due := begun.Add(time.Duration(float64(s.At) / (d.Speed * 24 * 3600)))
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Until(due)):
			}
		}
		o, err := p.take(ctx, s)
		if err != nil {
			return err
		}
		if next, ok := s.life.Next(o); ok {
			heap.Push(&p.queue, step{next, s.life, s.order, o})
		}
		show()
	}
	return nil
}

// take sends one command and returns the order after it.
func (p *play) take(ctx context.Context, s step) (domain.Order, error) {
	c := domain.Command{
		ID: domain.CommandID(s.order, demoSubmitter, s.Key), Order: s.order, BusinessUnit: demoUnit,
		Actor: s.Actor, Occurred: p.base.Add(s.At), Do: s.Do,
	}
	var personal domain.Personal
	if _, ok := s.Do.(domain.Submit); ok {
		personal = s.life.Personal
	}
	result, err := p.handle(ctx, c, personal)
	p.commands++
	var refused *domain.Refused
	if s.Refuse && errors.As(err, &refused) {
		p.refused++
		return s.last, nil
	}
	if err != nil {
		return domain.Order{}, fmt.Errorf("%s of order %s: %w", s.Do.Name(), s.order, err)
	}
	if _, known := p.played[s.order]; !known {
		p.orders++
	}
	if result.Repeated {
		p.repeated++
	}
	p.played[s.order] = outcome{result.Order.Status(), result.Order.Events}
	p.recent = append(p.recent, moved{result.Order.Number, s.Do.Name(), result.Order.Status()})
	if len(p.recent) > screenMoves {
		p.recent = p.recent[1:]
	}
	return result.Order, nil
}

// A step waits for its time.
type step struct {
	optics.Step
	life  *optics.Life
	order uuid.UUID
	last  domain.Order // as the step before left it
}

// steps is a heap, the earliest first. Steps of one moment stand in the order of their keys, so that every run is the
// same.
type steps []step

func (s steps) Len() int { return len(s) }
func (s steps) Less(i, j int) bool {
	if s[i].At != s[j].At {
		return s[i].At < s[j].At
	}
	return s[i].Key < s[j].Key
}
func (s steps) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *steps) Push(x any)   { *s = append(*s, x.(step)) }
func (s *steps) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}
