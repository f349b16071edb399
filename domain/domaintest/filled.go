package domaintest

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
)

// Filled returns a T of which every field is set, every list has two entries and no two values are alike, always the
// same. Fields that hold a code or a date hold one that exists; what the fields say together makes no sense.
func Filled[T any]() T {
	var v T
	f := &filler{}
	f.fill(reflect.ValueOf(&v).Elem(), "", 0)
	return v
}

// Events returns a filled example of every event.
func Events() []domain.Event {
	return []domain.Event{
		event[domain.Submitted](), event[domain.Accepted](), event[domain.Rejected](), event[domain.Held](),
		event[domain.Released](), event[domain.Amended](), event[domain.Routed](), event[domain.Unrouted](),
		event[domain.Confirmed](), event[domain.FulfilmentStarted](), event[domain.Shipped](), event[domain.Delivered](),
		event[domain.FulfilmentFailed](), event[domain.Cancelled](), event[domain.Returned](), event[domain.Closed](),
		event[domain.Withdrawn](), event[domain.HomeMoved](), event[domain.ConflictFound](), event[domain.ConflictSettled](),
		event[domain.RuleSetActivated](),
	}
}

func event[T any, P interface {
	*T
	domain.Event
}]() domain.Event {
	e := Filled[T]()
	return P(&e)
}

// Actions returns a filled example of every action, as a submitter may send it: new lines and conflicts have no ids.
func Actions() []domain.Action {
	submit, amend := Filled[domain.Submit](), Filled[domain.Amend]()
	for i := range submit.Lines {
		submit.Lines[i].ID = ""
	}
	for i := range amend.Add {
		amend.Add[i].ID = ""
	}
	conflict := Filled[domain.RecordConflict]()
	conflict.ID = ""
	return []domain.Action{
		submit, amend, Filled[domain.PlaceHold](), Filled[domain.Release](), Filled[domain.Cancel](),
		Filled[domain.Route](), Filled[domain.Reroute](), Filled[domain.Confirm](), Filled[domain.StartFulfilment](),
		Filled[domain.Ship](), Filled[domain.Deliver](), Filled[domain.ReportFailure](), Filled[domain.Return](),
		Filled[domain.Close](), Filled[domain.Withdraw](), Filled[domain.Move](), conflict, Filled[domain.Settle](),
	}
}

// A filler counts the values that it has set, so that each is another.
type filler struct{ n int }

// fill sets v, which is a field of the given name or the i-th entry of such a list.
func (f *filler) fill(v reflect.Value, name string, i int) {
	f.n++
	switch p := v.Addr().Interface().(type) {
	case *domain.Decimal:
		if name == "Price.BaseQuantity" {
			*p = domain.Whole(int64(100 << i)) // by which prices can be divided exactly
			return
		}
		*p = domain.MustDecimal(strconv.Itoa(f.n) + ".25")
		return
	case *time.Time:
		*p = time.Date(2026, time.March, 1, 8, 30, 0, 0, time.UTC).Add(time.Duration(f.n)*time.Hour + time.Duration(f.n)*time.Millisecond)
		return
	case *uuid.UUID:
		*p = uuid.NewSHA1(uuid.NameSpaceOID, []byte(strconv.Itoa(f.n)))
		return
	case *[]byte:
		*p = []byte(fmt.Sprintf("sealed bytes %d \x00\xff", f.n))
		return
	case *domain.Digest:
		for j := range p {
			p[j] = byte(f.n + j)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for j := range v.NumField() {
			field := v.Type().Field(j)
			f.fill(v.Field(j), v.Type().Name()+"."+field.Name, i)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem(), name, i)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for j := range v.Len() {
			f.fill(v.Index(j), name, j)
		}
	case reflect.String:
		v.SetString(f.text(v.Type(), name, i))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		if name == "Terms.Priority" {
			v.SetInt(7)
			return
		}
		v.SetInt(int64(1000 + f.n))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(1000 + f.n))
	default:
		panic("domaintest: cannot fill " + v.Type().String())
	}
}

// text returns a string that the named field accepts, different for i = 0 and i = 1.
func (f *filler) text(t reflect.Type, name string, i int) string {
	number := strconv.Itoa(i + 1)
	switch t {
	case reflect.TypeFor[domain.Kind]():
		return string(domain.Sample)
	case reflect.TypeFor[domain.Phase]():
		return string([]domain.Phase{domain.PhaseConfirmed, domain.PhaseStarted}[i])
	case reflect.TypeFor[domain.Outcome]():
		return string(domain.AcceptsWithChanges)
	case reflect.TypeFor[domain.Verdict]():
		return string(domain.VerdictAccepted)
	}
	structure, field, _ := strings.Cut(name, ".")
	switch field {
	case "Currency":
		return "EUR"
	case "Country":
		return []string{"DE", "JP"}[i]
	case "Region":
		return []string{"BY", "13"}[i]
	case "Rule":
		return "DAP"
	case "Version":
		return "2020"
	case "GTIN":
		return []string{"4006381333931", "96385074"}[i]
	case "Unit":
		return []string{"C62", "KGM"}[i]
	case "Day", "FirstPromised", "Promised":
		return time.Date(2026, time.April, 1+f.n%300, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
	case "Zone":
		return []string{"Europe/Berlin", "America/Argentina/Ushuaia"}[i]
	case "SHA256", "RuleSet":
		return fmt.Sprintf("%064x", f.n)
	case "Channel":
		return domain.ChannelImport
	case "Line":
		return number
	case "Fulfilment":
		return "f" + number
	}
	switch name {
	case "Line.ID":
		return number
	case "Fulfilment.ID", "Allocation.ID":
		return "f" + number
	case "Hold.ID", "Released.Hold", "Release.Hold":
		return "h" + number
	case "Conflict.ID", "ConflictSettled.Conflict", "Settle.Conflict":
		return "c" + number
	case "Adjustment.Kind":
		return []string{domain.Allowance, domain.Charge}[i]
	case "Promise.Kind":
		return []string{"ship", "deliver"}[i]
	case "Actor.Kind":
		return "person"
	}
	// Letters beyond ASCII, quotes and what HTML would escape belong into every text.
	return fmt.Sprintf(`%s %s %d "é" <&>`, strings.ToLower(structure), strings.ToLower(field), f.n)
}
