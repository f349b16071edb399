package domain

// The members of events, in the order in which they are stored. Add new ones at the end, and to a new version of the
// event where an old reader would be wrong without them; never remove, rename or move one.

func (e *Submitted) code(c *coder) {
	c.uuid("order", &e.Order)
	str(c, "business_unit", &e.BusinessUnit)
	str(c, "number", &e.Number)
	e.Details.code(c)
	list(c, "lines", &e.Lines, (*Line).code)
	c.totals(&e.Totals)
	c.bool("settled", &e.Settled)
	c.sealed(&e.Personal)
}

func (e *Accepted) code(c *coder) {
	c.decision(&e.Decision)
}

func (e *Rejected) code(c *coder) {
	c.reason(&e.Reason)
	c.decision(&e.Decision)
}

func (e *Held) code(c *coder) {
	required(c, "hold", &e.Hold, (*Hold).code)
}

func (e *Released) code(c *coder) {
	str(c, "hold", &e.Hold)
	c.reason(&e.Reason)
}

func (e *Amended) code(c *coder) {
	list(c, "lines", &e.Lines, (*LineChange).code)
	list(c, "added", &e.Added, (*Line).code)
	list(c, "taken", &e.Taken, (*PartQuantity).code)
	pointer(c, "ship_to", &e.ShipTo, (*Party).code)
	pointer(c, "bill_to", &e.BillTo, (*Party).code)
	pointer(c, "terms", &e.Terms, (*Terms).code)
	c.totals(&e.Totals)
	c.sealed(&e.Personal)
	c.reason(&e.Reason)
}

func (e *Routed) code(c *coder) {
	roomy(c, "fulfilments", &e.Fulfilments, c.room.allocations, (*Allocation).code)
	c.decision(&e.Decision)
	c.reason(&e.Reason)
}

func (e *Unrouted) code(c *coder) {
	str(c, "fulfilment", &e.Fulfilment)
	c.reason(&e.Reason)
}

func (e *Confirmed) code(c *coder) {
	str(c, "fulfilment", &e.Fulfilment)
	required(c, "confirmation", &e.Confirmation, (*Confirmation).code)
}

func (e *FulfilmentStarted) code(c *coder) {
	str(c, "fulfilment", &e.Fulfilment)
}

func (e *Shipped) code(c *coder) {
	str(c, "fulfilment", &e.Fulfilment)
	required(c, "shipment", &e.Shipment, (*Shipment).code)
}

func (e *Delivered) code(c *coder) {
	str(c, "fulfilment", &e.Fulfilment)
	str(c, "shipment", &e.Shipment)
	roomy(c, "lines", &e.Lines, c.room.quantities, (*LineQuantity).code)
	list(c, "proof", &e.Proof, (*Document).code)
}

func (e *FulfilmentFailed) code(c *coder) {
	str(c, "fulfilment", &e.Fulfilment)
	c.reason(&e.Reason)
}

func (e *Cancelled) code(c *coder) {
	roomy(c, "lines", &e.Lines, c.room.quantities, (*LineQuantity).code)
	list(c, "taken", &e.Taken, (*PartQuantity).code)
	c.totals(&e.Totals)
	c.reason(&e.Reason)
}

func (e *Returned) code(c *coder) {
	roomy(c, "lines", &e.Lines, c.room.quantities, (*LineQuantity).code)
	str(c, "reference", &e.Reference)
	c.reason(&e.Reason)
}

func (e *Closed) code(c *coder) {
	c.reason(&e.Reason)
}

func (e *Withdrawn) code(c *coder) {
	str(c, "winner", &e.Winner)
	c.reason(&e.Reason)
}

func (e *HomeMoved) code(c *coder) {
	str(c, "home", &e.Home)
	number(c, "epoch", &e.Epoch)
	str(c, "source", &e.Source)
	number(c, "last", &e.Last)
}

func (e *ConflictFound) code(c *coder) {
	required(c, "conflict", &e.Conflict, (*Conflict).code)
}

func (e *ConflictSettled) code(c *coder) {
	str(c, "conflict", &e.Conflict)
	c.reason(&e.Reason)
}

func (e *RuleSetActivated) code(c *coder) {
	str(c, "business_unit", &e.BusinessUnit)
	str(c, "sha256", &e.SHA256)
	str(c, "text", &e.Text)
}
