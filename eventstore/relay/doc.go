// Package relay carries the events of a ledger over a message bus to those who follow it: at least once, in order
// per lane, never with a gap.
//
//	ledger ─▶ Relay (State) ─▶ bus ─▶ Consumer ─▶ Apply
//
// A [Relay] reads committed events and publishes them in the lanes of their streams, one call at a time in each
// lane. Each delivery names the one before it in its lane, so that a receiver notices what it has missed. How far the
// bus has taken everything is kept in the ledger itself, in a stream that is never relayed. What the relay does next
// is decided by [State], which has no goroutine, no clock and no I/O, so that a test can drive it.
//
// A [Consumer] hands what has arrived in any lane to one call of Apply and acknowledges after that has succeeded.
//
// The bus is any pair of Watermill publisher and subscriber that keeps the order within a topic; [InProcess] is one
// for a single process. A bus that is down stops the relay and nothing else: the relay tries again until it succeeds.
package relay

import "github.com/orderledger/orderledger/internal/message"

// LaneTopic names a topic for each lane: order-events-00 and so on. It is the default of [Config] and
// [ConsumerConfig], and what [InProcess] needs, which keeps order within a topic only.
func LaneTopic(lane int) string { return "order-events-" + message.LaneName(lane) }
