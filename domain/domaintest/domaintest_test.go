package domaintest_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
)

// Every example says something in every field, or a field could be forgotten by whoever relies on them.
func TestFilled(t *testing.T) {
	for _, e := range domaintest.Events() {
		wantFilled(t, e.Type(), reflect.ValueOf(e).Elem())
	}
	for _, a := range domaintest.Actions() {
		wantFilled(t, a.Name(), reflect.ValueOf(a))
		c := domain.Command{
			ID: uuid.New(), Order: uuid.New(), BusinessUnit: domaintest.BusinessUnit,
			Actor: domaintest.Filled[domain.Actor](), Do: a,
		}
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", a.Name(), err)
		}
	}
	wantFilled(t, "order", reflect.ValueOf(domaintest.Filled[domain.Order]()))
	wantFilled(t, "meta", reflect.ValueOf(domaintest.Filled[domain.Meta]()))
	personal := domaintest.Filled[domain.Personal]()
	wantFilled(t, "personal", reflect.ValueOf(personal))
	if err := personal.Check(); err != nil {
		t.Error(err)
	}
}

func wantFilled(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	if v.IsZero() {
		if path != "submit.Lines.ID" && path != "amend.Add.ID" && path != "record_conflict.Conflict.ID" { // not for submitters to say
			t.Errorf("%s is not set", path)
		}
		return
	}
	switch {
	case v.Type().PkgPath() == "time" || v.Type() == reflect.TypeFor[domain.Decimal]():
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			wantFilled(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case v.Kind() == reflect.Pointer:
		wantFilled(t, path, v.Elem())
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		if v.Len() != 2 || reflect.DeepEqual(v.Index(0).Interface(), v.Index(1).Interface()) {
			t.Errorf("%s has not two different entries", path)
		}
		for i := range v.Len() {
			wantFilled(t, path, v.Index(i))
		}
	}
}

// The generator is worth something only if its orders come everywhere.
func TestHistoriesReachEveryStatus(t *testing.T) {
	statuses, types, refusals := map[domain.Status]bool{}, map[string]bool{}, map[domain.Code]bool{}
	rapid.Check(t, func(t *rapid.T) {
		var o domain.Order
		for range 4 {
			o = domain.Order{}
			for _, r := range domaintest.History(t) {
				o = domain.Evolve(o, r.Event)
				statuses[o.Status()], types[r.Event.Type()] = true, true
				if r.Meta.Command == uuid.Nil || r.Meta.Occurred.IsZero() {
					t.Fatal("metadata is incomplete")
				}
			}
		}
		for range 20 {
			_, err := domain.Decide(o, domaintest.Command(t, o), domaintest.Policy{}, domaintest.Start)
			if refused := new(domain.Refused); errors.As(err, &refused) {
				refusals[refused.Code] = true
			}
		}
	})
	for _, s := range domain.Statuses() {
		if !statuses[s] && s != domain.StatusSubmitted { // which an order leaves in the append that brings it there
			t.Errorf("no order was %s", s)
		}
	}
	for _, e := range domaintest.Events() {
		if !types[e.Type()] && e.Type() != "ruleset.activated.v1" {
			t.Errorf("no history has %s", e.Type())
		}
	}
	if len(refusals) < 20 {
		t.Errorf("only %d codes of refusals came up: %v", len(refusals), refusals)
	}
}
