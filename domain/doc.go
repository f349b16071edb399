// Package domain says what an order is: the commands that ask for changes, the events that record them, the state
// that events add up to, and which commands that state allows. It does no input or output, looks at no clock and
// starts nothing: the same input gives the same output, on any machine, for ever.
//
// # The walk of an order
//
//	             ┌─▶ rejected
//	submitted ───┼─▶ accepted ─▶ routed ─▶ confirmed ─▶ in_fulfilment ─▶ partially_shipped ─▶ shipped ─▶ delivered ─▶ closed
//	             └─▶ on_hold          (over any state before shipped, while a hold is open)
//
//	cancelled    when nothing is wanted any more that has not been shipped
//	withdrawn    when another ledger keeps the same order, until this one takes it over
//
// An order has lines. A fulfilment is the part of an order that one site fulfils: a set of lines and quantities. A
// plain order has one, a split order several, and a fulfilment whose site fails is replaced by another. No event
// holds the order's status: [Order.Status] derives it from quantities, the phases of the fulfilments and open holds,
// so that it can never disagree with them. testdata/transitions.txt lists what each command does in each state.
//
// # Deciding and folding
//
// [Decide] takes an order, a [Command], the business's [Policy] and the time, and returns events or a refusal.
// [Evolve] takes an order and an event and returns the order after it; it never fails. A command that breaks a rule
// of form is a [*Malformed], one that the order's state does not allow a [*Refused]; neither leaves a trace. An order
// that breaks a rule of the business is a fact: it is submitted, then rejected or held, with the [Decision].
//
// # Bytes
//
// Events are stored for ever. [EncodeEvent] and [DecodeEvent] are the only ones who know their bytes; testdata/golden
// keeps an example of every version that was ever written. Money and quantities are exact ([Decimal]): nothing here
// rounds, and no floating point exists. Personal data travels in one [Sealed] section of an event, which only the key
// of its subject opens; deciding and folding never look into it.
//
// Everything here is a value or is never changed after it was made, and so is safe for concurrent use.
package domain
