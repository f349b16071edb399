// Package amqp is the server side of AMQP 1.0 on the wire: types, frames, messages and connections. It knows nothing of
// queues: a broker tells it what to send, and is told what peers ask for.
//
// # Connections
//
// [Serve] runs one connection until it ends. It answers protocol headers, SASL, open, begin, end and close by itself, keeps
// the connection alive, cuts and joins messages into frames, and holds to the windows and credits of both sides. The
// broker decides about links: [Config].Attach is called for each attach of the peer and returns the [Handler] of the link; the
// broker answers with [Link.Accept] or [Link.Detach], at once or later from any goroutine.
//
// # Goroutines
//
// All functions that the broker passes in (those of Config and of Handler) are called one after the other on the
// goroutine that called Serve, in the order in which the peer's frames came, and without any lock of this package. While
// one of them runs, nothing else that the peer says is heard, so they must not block; they may call everything in this
// package. What they send leaves in one write, after they have returned.
//
// The methods of [Conn], [Link] and [Delivery] may be called from any goroutine, with the broker's own locks held: they
// change state, leave frames in a buffer for the connection's writer, never block and never call back.
//
// # Bounds
//
// A peer cannot make this package hold more than it has sent itself: lengths are checked before anything is allocated,
// nesting is bounded, an incoming message is bounded by its link's MaxMessageSize and the number of messages by the link's credit.
// What waits to be sent is bounded per connection: beyond it [Link.Send] takes no more ([ErrNoCredit]) until there is room, which
// Handler.Credit tells.
package amqp
