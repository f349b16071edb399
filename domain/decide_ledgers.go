package domain

import (
	"slices"
	"strconv"
)

// What concerns an order that several ledgers hold. It may be asked for in every state.

func (d *decider) withdraw(a Withdraw) error {
	if d.order.WithdrawnFor != "" {
		return d.ended()
	}
	d.emit(&Withdrawn{Winner: a.Winner, Reason: a.Reason})
	return nil
}

func (d *decider) move(a Move) error {
	if a.Epoch <= d.order.Epoch {
		return refuse(CodeStaleEpoch, "the order has come to epoch %d already, which is not below %d", d.order.Epoch, a.Epoch)
	}
	d.emit(&HomeMoved{Home: a.Home, Epoch: a.Epoch, Source: a.Source, Last: a.Last})
	return nil
}

func (d *decider) recordConflict(a RecordConflict) error {
	if i := slices.IndexFunc(d.order.Conflicts, a.same); i >= 0 {
		return refuse(CodeConflictExists, "that is conflict %s", d.order.Conflicts[i].ID)
	}
	a.ID = "c" + strconv.Itoa(len(d.order.Conflicts)+1)
	d.emit(&ConflictFound{Conflict: a.Conflict})
	return nil
}

func (d *decider) settle(a Settle) error {
	c := d.order.Conflict(a.Conflict)
	switch {
	case c == nil:
		return refuse(CodeUnknownConflict, "the order has no conflict %s", a.Conflict)
	case c.Settled:
		return refuse(CodeConflictSettled, "conflict %s has been settled (%s)", c.ID, c.Answer.Code)
	}
	d.emit(&ConflictSettled{Conflict: c.ID, Reason: a.Reason})
	return nil
}
