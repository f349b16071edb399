package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderledger/orderledger/projections"
)

// ledgerReady fails while the ledger cannot be read or takes no writes.
func (n *node) ledgerReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	if _, err := n.ledger.Head(ctx); err != nil {
		return err
	}
	return n.ledger.Writable()
}

// measure registers what the parts of the node know of themselves.
func (n *node) measure(registry *prometheus.Registry) {
	gauge := func(name, help string, value func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "orderledger_" + name, Help: help}, value))
	}
	counter := func(name, help string, value func() float64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "orderledger_" + name, Help: help}, value))
	}
	if n.relay != nil {
		n.measureRelay(gauge, counter)
	}
	if n.projector != nil {
		n.measureProjector(gauge, counter)
	}
	if n.queue != nil {
		counter("queue_answered_total", "Commands from the bus that were answered.", func() float64 { return float64(n.queue.Status().Answered) })
		counter("queue_rejected_total", "Commands from the bus that could not be read.", func() float64 { return float64(n.queue.Status().Rejected) })
		counter("queue_failures_total", "Attempts at commands from the bus that have failed.", func() float64 { return float64(n.queue.Status().Failures) })
	}
}

// A measure registers a figure under a name, with what it means.
type measure func(name, help string, value func() float64)

func (n *node) measureRelay(gauge, counter measure) {
	gauge("relay_pending_events", "Events read that the bus has not taken.", func() float64 { return float64(n.relay.Status().Pending) })
	gauge("relay_behind_seconds", "Age of the oldest event that the bus has not taken.", func() float64 { return n.relay.Status().Behind.Seconds() })
	gauge("relay_active", "1 while this relay publishes.", func() float64 {
		if n.relay.Status().Active {
			return 1
		}
		return 0
	})
	counter("relay_published_events_total", "Events that the bus has taken.", func() float64 { return float64(n.relay.Status().Published) })
	counter("relay_failures_total", "Calls that the bus has refused.", func() float64 { return float64(n.relay.Status().Failures) })
}

func (n *node) measureProjector(gauge, counter measure) {
	counter("consumer_deliveries_total", "Deliveries that the projector has applied.", func() float64 { return float64(n.consumer.Status().Applied) })
	counter("consumer_rejected_total", "Messages that could not be read.", func() float64 { return float64(n.consumer.Status().Rejected) })
	counter("consumer_failures_total", "Calls of the projector that have failed.", func() float64 { return float64(n.consumer.Status().Failures) })
	lag := func(of func(projections.Lag) float64) func() float64 {
		return func() float64 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			lags, err := n.lag(ctx)
			if err != nil || len(lags) == 0 {
				return -1
			}
			return of(lags[0])
		}
	}
	gauge("projector_lag_events", "Events that the read models lack (-1: not known).", lag(func(l projections.Lag) float64 { return float64(l.Events) }))
	gauge("projector_lag_seconds", "Age of the oldest event that the read models lack (-1: not known).", lag(func(l projections.Lag) float64 { return l.Age.Seconds() }))
	gauge("projector_parked_orders", "Orders whose events cannot be applied (-1: not known).", lag(func(l projections.Lag) float64 { return float64(l.Parked) }))
}
