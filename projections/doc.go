// Package projections keeps the read models of one region: rows that answer what people ask about orders, computed
// from the events of the ledgers that the region follows.
//
// [Views] is the database of rows and all questions to it. A [Projector] is its one writer: it applies what the bus
// delivers and fetches from the ledger whatever the bus has lost.
//
// # What holds
//
//   - Rows and checkpoint change in one transaction. A crash at any point loses nothing and repeats nothing.
//   - The events of an order are applied by revision, each exactly once. Deliveries may be doubled, late or missing.
//   - The rows are a pure function of the ledger's events up to the checkpoint. Nothing in them depends on a clock, on
//     the order of arrival or on the region, so that rows applied live, caught up and rebuilt are equal byte for byte.
//   - An event that cannot be applied parks its order and nothing else.
//   - An order that several ledgers hold is shown once, and each of its events is told once; see [domain.Claim.Over].
//   - Replaying the ledger notifies nobody: a feed is a table like the others.
//
// Personal sections of orders stay sealed. All methods of [Views] and [Projector] are safe for concurrent use.
package projections
