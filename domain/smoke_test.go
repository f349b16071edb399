package domain

import ("testing";"time";"encoding/json";"fmt")

type one struct{}
func (one) Validate(Order) Judgement { return Judgement{Verdict: VerdictAccepted, Decision: Decision{RuleSet:"x",Row:"V1",Facts:[]Fact{{"total","12"}}}} }
func (one) Route(o Order, open []LineQuantity, ex []string) Routing { return Routing{Allocations: []Allocation{{Site:fmt.Sprint("S",len(ex)), Lines: open}}} }

func TestSmoke(t *testing.T) {
	id := OrderID("main","local","k1")
	bq := Whole(100)
	c := Command{ID: CommandID(id,"local","k1"), Order: id, BusinessUnit:"main", Actor: Actor{Kind:"person",Subject:"local"}, Do: Submit{Details: Details{Currency:"EUR", Parties: Parties{Buyer: Party{Identifiers: []Identifier{{"customer","4711"}}, Country:"DE"}}}, Lines: []Line{{SKU:"A <b> \"q\" é", Quantity: MustDecimal("3.5"), Price: Price{Amount: MustDecimal("12.345"), BaseQuantity:&bq}}}}}
	var o Order
	run := func(a Action) {
		t.Helper()
		c.Do = a
		ev, err := Decide(o, c, one{}, time.Now())
		if err != nil { t.Log(a.Name(), "refused", err); return }
		for _, e := range ev {
			b, err := EncodeEvent(e)
			if err != nil { t.Fatal(err) }
			j, _ := json.Marshal(e)
			t.Log(e.Type(), string(b))
			if string(j) != string(b) { t.Log("   JSON", string(j)) }
			e2, err := DecodeEvent(e.Type(), b)
			if err != nil { t.Fatal(err) }
			o = Evolve(o, e2)
		}
		t.Log("-->", o.Status())
		b, _ := EncodeOrder(o)
		o2, err := DecodeOrder(b)
		if err != nil { t.Fatal(err) }
		b2, _ := EncodeOrder(o2)
		if string(b) != string(b2) { t.Fatal() }
	}
	run(c.Do)
	run(StartFulfilment{Fulfilment:"f1"})
	run(Ship{Fulfilment:"f1", Shipment: Shipment{Lines: []LineQuantity{{"1", Whole(1)}}}})
	run(ReportFailure{Fulfilment:"f1", Reason: Reason{Code:"fire"}})
	run(Ship{Fulfilment:"f2"})
	run(Deliver{Fulfilment:"f1"})
	run(Deliver{Fulfilment:"f2"})
	run(Deliver{Fulfilment:"f2"})
	run(Close{})
	run(Return{Lines: []LineQuantity{{"1", Whole(1)}}, Reason: Reason{Code:"broken"}})
	b, _ := EncodeOrder(o)
	t.Log(string(b))
	t.Log(o.Number)
}
