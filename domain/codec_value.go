package domain

// The members of the values that events, actions and folded orders are made of.

func (d *Details) code(c *coder) {
	str(c, "kind", (*string)(&d.Kind))
	str(c, "channel", &d.Channel)
	str(c, "purchase_order", &d.PurchaseOrder)
	list(c, "references", &d.References, (*Reference).code)
	str(c, "currency", &d.Currency)
	structure(c, "parties", &d.Parties, !d.Parties.IsZero(), (*Parties).code)
	structure(c, "terms", &d.Terms, d.Terms != Terms{}, (*Terms).code)
	structure(c, "deadlines", &d.Deadlines, !d.Deadlines.IsZero(), (*Deadlines).code)
	list(c, "adjustments", &d.Adjustments, (*Adjustment).code)
	list(c, "taxes", &d.Taxes, (*Tax).code)
	c.option("total_given", &d.TotalGiven)
	list(c, "documents", &d.Documents, (*Document).code)
	list(c, "extensions", &d.Extensions, (*Extension).code)
}

func (r *Reference) code(c *coder) {
	str(c, "kind", &r.Kind)
	str(c, "value", &r.Value)
}

// IsZero reports whether no party is known.
func (p Parties) IsZero() bool {
	return p.Buyer.IsZero() && p.ShipTo.IsZero() && p.BillTo.IsZero() && p.Payer.IsZero() && p.EndCustomer.IsZero()
}

// IsZero reports whether nothing is known of the party.
func (p Party) IsZero() bool { return len(p.Identifiers) == 0 && p.Country == "" && p.Region == "" }

func (p *Parties) code(c *coder) {
	party := func(name string, v *Party) { structure(c, name, v, !v.IsZero(), (*Party).code) }
	party("buyer", &p.Buyer)
	party("ship_to", &p.ShipTo)
	party("bill_to", &p.BillTo)
	party("payer", &p.Payer)
	party("end_customer", &p.EndCustomer)
}

func (p *Party) code(c *coder) {
	roomy(c, "identifiers", &p.Identifiers, c.room.identifiers, (*Identifier).code)
	str(c, "country", &p.Country)
	str(c, "region", &p.Region)
}

func (i *Identifier) code(c *coder) {
	str(c, "scheme", &i.Scheme)
	str(c, "value", &i.Value)
}

func (t *Terms) code(c *coder) {
	structure(c, "incoterms", &t.Incoterms, t.Incoterms != Incoterms{}, (*Incoterms).code)
	str(c, "payment", &t.Payment)
	c.bool("complete_delivery", &t.CompleteDelivery)
	c.bool("substitution", &t.Substitution)
	number(c, "priority", &t.Priority)
}

func (i *Incoterms) code(c *coder) {
	str(c, "rule", &i.Rule)
	str(c, "version", &i.Version)
	str(c, "place", &i.Place)
}

// IsZero reports whether no deadline was agreed on.
func (d Deadlines) IsZero() bool { return d.ConfirmBy.IsZero() && d.ShipBy.IsZero() }

func (d *Deadlines) code(c *coder) {
	c.time("confirm_by", &d.ConfirmBy)
	c.time("ship_by", &d.ShipBy)
}

func (l *Line) code(c *coder) {
	str(c, "id", &l.ID)
	str(c, "buyer_line", &l.BuyerLine)
	str(c, "sku", &l.SKU)
	str(c, "buyer_sku", &l.BuyerSKU)
	str(c, "gtin", &l.GTIN)
	str(c, "description", &l.Description)
	structure(c, "configuration", &l.Configuration, l.Configuration != Configuration{}, (*Configuration).code)
	c.always("quantity", &l.Quantity)
	str(c, "unit", &l.Unit)
	c.date("requested", &l.Requested)
	structure(c, "price", &l.Price, l.Price != Price{}, func(p *Price, c *coder) {
		p.code(c)
		c.present("price", *p != Price{}) // its amount is written also where it is 0
	})
	list(c, "adjustments", &l.Adjustments, (*Adjustment).code)
	list(c, "taxes", &l.Taxes, (*Tax).code)
}

func (v *Configuration) code(c *coder) {
	str(c, "schema", &v.Schema)
	str(c, "data", &v.Data)
	str(c, "sha256", &v.SHA256)
}

func (c *coder) date(name string, d *Date) {
	structure(c, name, d, *d != Date{}, (*Date).code)
}

func (d *Date) code(c *coder) {
	str(c, "day", &d.Day)
	str(c, "zone", &d.Zone)
}

func (p *Price) code(c *coder) {
	c.always("amount", &p.Amount)
	c.option("base_quantity", &p.BaseQuantity)
	c.option("list", &p.List)
}

func (a *Adjustment) code(c *coder) {
	str(c, "kind", &a.Kind)
	str(c, "code", &a.Code)
	str(c, "reason", &a.Reason)
	c.always("amount", &a.Amount)
}

func (t *Tax) code(c *coder) {
	str(c, "category", &t.Category)
	c.option("rate", &t.Rate)
	c.always("amount", &t.Amount)
}

func (c *coder) totals(t *Totals) { required(c, "totals", t, (*Totals).code) }

func (t *Totals) code(c *coder) {
	c.always("lines", &t.Lines)
	c.decimal("allowances", &t.Allowances)
	c.decimal("charges", &t.Charges)
	c.decimal("taxes", &t.Taxes)
	c.always("total", &t.Total)
}

func (d *Document) code(c *coder) {
	str(c, "name", &d.Name)
	str(c, "sha256", &d.SHA256)
	number(c, "size", &d.Size)
	str(c, "media_type", &d.MediaType)
}

func (e *Extension) code(c *coder) {
	str(c, "name", &e.Name)
	str(c, "value", &e.Value)
}

func (c *coder) reason(r *Reason) { structure(c, "reason", r, *r != Reason{}, (*Reason).code) }

func (r *Reason) code(c *coder) {
	str(c, "code", &r.Code)
	str(c, "text", &r.Text)
}

func (q *LineQuantity) code(c *coder) {
	str(c, "line", &q.Line)
	c.always("quantity", &q.Quantity)
}

// IsZero reports whether no rules were asked.
func (d Decision) IsZero() bool { return d.RuleSet == "" && d.Row == "" && len(d.Facts) == 0 }

func (c *coder) decision(d *Decision) {
	structure(c, "decision", d, !d.IsZero(), (*Decision).code)
}

func (d *Decision) code(c *coder) {
	str(c, "rule_set", &d.RuleSet)
	str(c, "row", &d.Row)
	roomy(c, "facts", &d.Facts, c.room.facts, (*Fact).code)
}

func (f *Fact) code(c *coder) {
	str(c, "name", &f.Name)
	str(c, "value", &f.Value)
}

func (l *LineChange) code(c *coder) {
	str(c, "line", &l.Line)
	c.option("quantity", &l.Quantity)
	pointer(c, "requested", &l.Requested, (*Date).code)
	pointer(c, "price", &l.Price, (*Price).code)
}

func (q *PartQuantity) code(c *coder) {
	str(c, "fulfilment", &q.Fulfilment)
	str(c, "line", &q.Line)
	c.always("quantity", &q.Quantity)
}

func (a *Allocation) code(c *coder) {
	str(c, "id", &a.ID)
	str(c, "site", &a.Site)
	roomy(c, "lines", &a.Lines, c.room.quantities, (*LineQuantity).code)
}

func (h *Hold) code(c *coder) {
	str(c, "id", &h.ID)
	c.reason(&h.Reason)
	str(c, "role", &h.Role)
	c.date("until", &h.Until)
	c.decision(&h.Decision)
}

func (v *Confirmation) code(c *coder) {
	str(c, "outcome", (*string)(&v.Outcome))
	str(c, "reference", &v.Reference)
	roomy(c, "lines", &v.Lines, c.room.answers, (*LineConfirmation).code)
	c.reason(&v.Reason)
}

func (l *LineConfirmation) code(c *coder) {
	str(c, "line", &l.Line)
	roomy(c, "promises", &l.Promises, c.room.promises, (*Promise).code)
	str(c, "substitute", &l.Substitute)
	c.decimal("backordered", &l.Backordered)
	c.decimal("cancelled", &l.Cancelled)
	c.reason(&l.Reason)
}

func (p *Promise) code(c *coder) {
	c.always("quantity", &p.Quantity)
	str(c, "kind", &p.Kind)
	required(c, "date", &p.Date, (*Date).code)
}

func (s *Shipment) code(c *coder) {
	str(c, "id", &s.ID)
	str(c, "carrier", &s.Carrier)
	str(c, "tracking", &s.Tracking)
	roomy(c, "lines", &s.Lines, c.room.quantities, (*LineQuantity).code)
	list(c, "documents", &s.Documents, (*Document).code)
}

func (c *coder) sealed(s *Sealed) { structure(c, "personal", s, !s.IsZero(), (*Sealed).code) }

func (s *Sealed) code(c *coder) {
	str(c, "key", &s.Key)
	c.base64("data", &s.Data)
}

func (p *Personal) code(c *coder) {
	person := func(name string, v *Person) { structure(c, name, v, !v.IsZero(), (*Person).code) }
	person("buyer", &p.Buyer)
	person("ship_to", &p.ShipTo)
	person("bill_to", &p.BillTo)
	person("payer", &p.Payer)
	person("end_customer", &p.EndCustomer)
	str(c, "instructions", &p.Instructions)
	list(c, "lines", &p.Lines, (*PersonalLine).code)
}

func (p *Person) code(c *coder) {
	str(c, "name", &p.Name)
	str(c, "contact", &p.Contact)
	c.strs("street", &p.Street)
	str(c, "postal_code", &p.PostalCode)
	str(c, "city", &p.City)
	str(c, "email", &p.Email)
	str(c, "phone", &p.Phone)
}

func (p *PersonalLine) code(c *coder) {
	str(c, "line", &p.Line)
	str(c, "configuration", &p.Configuration)
	str(c, "text", &p.Text)
}

func (o *Order) code(c *coder) {
	c.uuid("id", &o.ID)
	str(c, "business_unit", &o.BusinessUnit)
	str(c, "number", &o.Number)
	o.Details.code(c)
	list(c, "lines", &o.Lines, (*OrderLine).code)
	c.totals(&o.Totals)
	list(c, "personal", &o.Personal, (*Sealed).code)
	list(c, "fulfilments", &o.Fulfilments, (*Fulfilment).code)
	list(c, "holds", &o.Holds, (*Hold).code)
	number(c, "holds_ever", &o.HoldsEver)
	str(c, "verdict", (*string)(&o.Verdict))
	c.reason(&o.Reason)
	c.decision(&o.Decision)
	c.bool("closed", &o.Closed)
	c.bool("settled", &o.Settled)
	str(c, "withdrawn_for", &o.WithdrawnFor)
	str(c, "home", &o.Home)
	number(c, "epoch", &o.Epoch)
	number(c, "events", &o.Events)
	list(c, "conflicts", &o.Conflicts, (*OrderConflict).code)
}

func (l *OrderLine) code(c *coder) {
	l.Line.code(c)
	c.decimal("cancelled", &l.Cancelled)
	c.decimal("returned", &l.Returned)
	str(c, "first_promised", &l.FirstPromised)
	str(c, "promised", &l.Promised)
}

func (f *Fulfilment) code(c *coder) {
	str(c, "id", &f.ID)
	str(c, "site", &f.Site)
	str(c, "phase", (*string)(&f.Phase))
	list(c, "parts", &f.Parts, (*Part).code)
	c.decision(&f.Decision)
	pointer(c, "confirmation", &f.Confirmation, (*Confirmation).code)
	list(c, "shipments", &f.Shipments, (*Shipment).code)
	list(c, "arrived", &f.Arrived, (*Arrival).code)
	c.reason(&f.Reason)
}

func (a *Arrival) code(c *coder) {
	str(c, "shipment", &a.Shipment)
	str(c, "line", &a.Line)
	c.always("quantity", &a.Quantity)
}

func (p *Part) code(c *coder) {
	str(c, "line", &p.Line)
	c.always("quantity", &p.Quantity)
	c.decimal("shipped", &p.Shipped)
	c.decimal("delivered", &p.Delivered)
}

func (v *Conflict) code(c *coder) {
	str(c, "id", &v.ID)
	str(c, "ledger", &v.Ledger)
	str(c, "command", &v.Command)
	str(c, "action", &v.Action)
	str(c, "code", &v.Code)
	str(c, "site", &v.Site)
	str(c, "fulfilment", &v.Fulfilment)
	number(c, "revision", &v.Revision)
}

func (v *OrderConflict) code(c *coder) {
	v.Conflict.code(c)
	c.bool("settled", &v.Settled)
	structure(c, "answer", &v.Answer, v.Answer != Reason{}, (*Reason).code)
}
