package domain

// The members of actions, for their digest. The sealed personal section is left out: it differs with every sealing.

func (a Submit) code(c *coder) {
	a.Details.code(c)
	list(c, "lines", &a.Lines, (*Line).code)
	c.bool("settled", &a.Settled)
}

func (a Amend) code(c *coder) {
	list(c, "lines", &a.Lines, (*LineChange).code)
	list(c, "add", &a.Add, (*Line).code)
	pointer(c, "ship_to", &a.ShipTo, (*Party).code)
	pointer(c, "bill_to", &a.BillTo, (*Party).code)
	pointer(c, "terms", &a.Terms, (*Terms).code)
	c.reason(&a.Reason)
}

func (a PlaceHold) code(c *coder) {
	c.reason(&a.Reason)
	str(c, "role", &a.Role)
	c.date("until", &a.Until)
}

func (a Release) code(c *coder) {
	str(c, "hold", &a.Hold)
	c.reason(&a.Reason)
}

func (a Cancel) code(c *coder) {
	list(c, "lines", &a.Lines, (*LineQuantity).code)
	c.reason(&a.Reason)
}

func (a Route) code(c *coder) {
	str(c, "site", &a.Site)
	c.reason(&a.Reason)
}

func (a Reroute) code(c *coder) {
	str(c, "fulfilment", &a.Fulfilment)
	str(c, "site", &a.Site)
	c.reason(&a.Reason)
}

func (a Confirm) code(c *coder) {
	str(c, "fulfilment", &a.Fulfilment)
	a.Confirmation.code(c)
}

func (a StartFulfilment) code(c *coder) {
	str(c, "fulfilment", &a.Fulfilment)
}

func (a Ship) code(c *coder) {
	str(c, "fulfilment", &a.Fulfilment)
	a.Shipment.code(c)
}

func (a Deliver) code(c *coder) {
	str(c, "fulfilment", &a.Fulfilment)
	str(c, "shipment", &a.Shipment)
	list(c, "lines", &a.Lines, (*LineQuantity).code)
	list(c, "proof", &a.Proof, (*Document).code)
}

func (a ReportFailure) code(c *coder) {
	str(c, "fulfilment", &a.Fulfilment)
	c.reason(&a.Reason)
}

func (a Return) code(c *coder) {
	list(c, "lines", &a.Lines, (*LineQuantity).code)
	str(c, "reference", &a.Reference)
	c.reason(&a.Reason)
}

func (a Close) code(c *coder) {
	c.reason(&a.Reason)
}

func (a Withdraw) code(c *coder) {
	str(c, "winner", &a.Winner)
	c.reason(&a.Reason)
}

func (a RecordConflict) code(c *coder) {
	a.Conflict.code(c)
}

func (a Settle) code(c *coder) {
	str(c, "conflict", &a.Conflict)
	c.reason(&a.Reason)
}

func (a Move) code(c *coder) {
	str(c, "home", &a.Home)
	number(c, "epoch", &a.Epoch)
	str(c, "source", &a.Source)
	number(c, "last", &a.Last)
}
