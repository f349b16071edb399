package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/orderledger/orderledger/domain"
)

// A screen shows a demo in a terminal, or says little where nobody looks.
type screen struct {
	env     *environment
	play    *play
	live    bool
	exit    bool
	orders  int
	begun   time.Time
	shown   time.Time
	lines   int // drawn last time
	address string
}

const (
	screenMoves    = 6
	screenInterval = 200 * time.Millisecond
	screenBar      = 40
)

func newScreen(e *environment, d demoCommand, p *play, address, data string) *screen {
	s := &screen{env: e, play: p, live: isTerminal(e.err) && !e.JSON && !d.Exit, exit: d.Exit, orders: d.Orders, begun: time.Now(), address: address}
	if !d.Exit {
		first := domain.Number(p.queue[0].order)
		e.note("An optics maker's orders, %d of them, seed %d.", d.Orders, d.Seed)
		e.note("")
		e.note("  overview        %s/", address)
		e.note("  follow an order %s/orders/%s", address, first)
		e.note("  replay it       %s/orders/%s/history", address, first)
		e.note("  the API         %s/docs", address)
		e.note("  in a terminal   orderledger --server %s order watch %s", address, first)
		e.note("  the data        %s", data)
		e.note("")
	}
	return s
}

// show draws how the demo stands, now and then.
func (s *screen) show() {
	if !s.live || time.Since(s.shown) < screenInterval {
		return
	}
	s.shown = time.Now()
	s.draw()
}

func (s *screen) draw() {
	var b strings.Builder
	if s.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", s.lines)
	}
	counts := s.counts()
	for _, status := range domain.Statuses() {
		n := counts[status]
		if n == 0 {
			continue
		}
		fmt.Fprintf(&b, "  %-18s %5d  %s\n", status, n, strings.Repeat("█", max(1, n*screenBar/max(len(s.play.played), 1))))
	}
	b.WriteString("\n")
	for _, m := range s.play.recent {
		fmt.Fprintf(&b, "  %s  %-8s → %s\n", m.number, m.did, m.status)
	}
	fmt.Fprintf(&b, "\n  %d of %d orders, %d commands, %v\n", s.play.orders, s.orders, s.play.commands, time.Since(s.begun).Round(time.Second))
	text := b.String()
	s.lines = strings.Count(text, "\n")
	fmt.Fprint(s.env.err, text)
}

func (s *screen) counts() map[domain.Status]int {
	counts := make(map[domain.Status]int)
	for _, o := range s.play.played {
		counts[o.status]++
	}
	return counts
}

// settleTimeout bounds waiting for the read models at the end.
const settleTimeout = time.Minute

// sum waits for the read models and says whether they show what the commands were answered.
func (s *screen) sum(ctx context.Context, n *node) error {
	if s.live {
		s.draw()
	}
	settled, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := n.settle(settled); err != nil {
		return fmt.Errorf("waiting for the read models: %w", err)
	}
	shown, err := n.views.Counts(ctx, demoUnit)
	if err != nil {
		return err
	}
	counts, total := s.counts(), 0
	read := make(map[domain.Status]int)
	for _, c := range shown {
		read[c.Status] += int(c.Orders)
	}
	report := struct {
		Orders   int                   `json:"orders"`
		Commands int                   `json:"commands"`
		Repeated int                   `json:"repeated"`
		Refused  int                   `json:"refused"`
		Statuses map[domain.Status]int `json:"statuses"`
		Events   uint64                `json:"events"` // of these orders
		Seconds  float64               `json:"seconds"`
	}{s.play.orders, s.play.commands, s.play.repeated, s.play.refused, counts, s.play.events(), time.Since(s.begun).Seconds()}
	if s.env.JSON {
		if err := s.env.printJSON(report); err != nil {
			return err
		}
	} else if !s.live {
		s.env.printf("%d orders played with %d commands in %.1f s, %d of which the ledger had already, %d were refused as they should be\n",
			report.Orders, report.Commands, report.Seconds, report.Repeated, report.Refused)
		for _, status := range domain.Statuses() {
			if counts[status] > 0 {
				s.env.printf("  %-18s %6d\n", status, counts[status])
			}
		}
	}
	for _, status := range domain.Statuses() {
		total += counts[status]
		if counts[status] != read[status] {
			return &exitError{exitDifferent, fmt.Errorf("%d orders are %s, and the read models show %d", counts[status], status, read[status])}
		}
	}
	if total != s.orders {
		return &exitError{exitDifferent, fmt.Errorf("%d orders were played, and %d have a status", s.orders, total)}
	}
	if !s.env.JSON {
		s.env.printf("It adds up: %d orders, and the read models show the same.\n", total)
	}
	return nil
}
