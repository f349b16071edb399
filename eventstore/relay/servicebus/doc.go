// Package servicebus is a Watermill publisher and subscriber for Azure Service Bus, over the official SDK. It sends to
// queues and topics and receives from queues and from subscriptions of topics, with sessions and without.
//
// # Delivery semantics
//
// Publish returns nil after the bus has stored all messages. It sends the messages of a call in order, in as few batches
// as the bus permits. After an error some may have been stored, also those of a batch whose confirmation was lost:
// whoever publishes again may publish twice. A queue or topic that detects duplicates drops those whose message id it has
// seen within its window. Between concurrent calls there is no order.
//
// Delivery is at least once. A message is received under a lock, which is renewed until the message is answered:
//
//   - Ack completes it: it is gone.
//   - Nack abandons it: it comes again at once, with a delivery counted. After as many as the queue or subscription
//     permits the bus moves it to the dead-letter queue.
//   - Nack after [DeadLetterOnNack] moves it to the dead-letter queue now.
//   - Nack after [ReleaseOnNack] gives it back after a pause, and with sessions counts no delivery. It is meant for
//     outages, which are not the message's fault.
//
// Ack and Nack do not wait for the bus. If it cannot be told, because the lock or the connection is lost, that is logged
// and the message comes again. The context of a message ends when it has been answered, when its lock is known to be
// lost, and when the subscription ends: another subscriber may have the message from then on.
//
// # Order
//
// In a session messages come in the order in which they were stored. One at a time is in flight by default, so that the
// next comes only after Ack, and a Nack brings the same again: that is what Watermill calls guaranteed order. With a
// larger MaxInFlight the next ones come, in order, before the first is acknowledged, and each is acknowledged by itself.
// A Nack then gives up all that are unanswered in the session: their contexts end, and they come again, in order, with no
// delivery counted but that of the refused one. Only a message for the dead-letter queue goes without disturbing the
// others.
//
// Up to Sessions sessions are held at once. A session is held as long as it has messages, and for SessionIdle after the
// last. Nobody else can receive from it meanwhile. Further sessions wait until one becomes free; other subscribers take
// them if they have room.
//
// Without sessions the order holds while a single subscriber has a single message in flight, and nothing fails.
//
// # Failures
//
// A subscription outlasts every failure of the bus: it logs, waits for a moment that grows up to MaxPause, and connects
// again. Messages without a session keep their locks over that and can still be acknowledged. Sessions are lost with
// their connection, and received anew. A message that arrives in the very moment in which a subscription without sessions
// ends comes again when its lock runs out.
//
// All exported types are safe for concurrent use.
package servicebus
