// Package servicebustest is a Service Bus that runs in the process. It speaks AMQP 1.0 over plain TCP to the unmodified
// clients of Azure Service Bus, in Go and in other languages, and needs no container, no database and no network.
//
//	bus := servicebustest.New(t, nil)
//	err := bus.CreateQueue("orders", servicebustest.Queue{RequiresSession: true})
//	client, err := azservicebus.NewClientFromConnectionString(bus.ConnectionString(), nil)
//
// # What it does
//
// Queues, topics and subscriptions with correlation filters; peek-lock and receive-and-delete; complete, abandon, defer
// and dead-letter, with properties; dead-letter queues; delivery counts; locks that lapse and can be renewed; sessions with
// their state; duplicate detection; scheduling and cancelling; expiry; peeking; batches, taken whole or not at all; rules over
// the wire. It is strict where Service Bus is strict, and refuses with the same conditions.
//
// # Time
//
// With a [FakeClock] nothing lapses, expires or falls due until the clock is advanced. By default time is real.
//
// # Faults
//
// [Server.DropConnections], [Server.DetachLinks], [Server.Restart] and [Server.LoseLocks] strike at once, and
// [Server.SetFaults] makes some of what follows go wrong. [Server.Await] waits for a state without polling, and
// [Server.Messages] shows what is inside.
//
// # What it does not
//
// It keeps everything in memory. Everybody may do everything: tokens are accepted unread. There are no SQL filters but 1=1
// and 1=0, no rule actions, no auto-forwarding, no transactions, no partitions, no WebSockets, no TLS, and no administration by
// the Azure API: use the methods of [Server], or [Server.Control] from another process. Locks outside sessions
// outlive their connection, as those of Service Bus do, except over a restart, which gives back everything.
package servicebustest
