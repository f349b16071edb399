package domain_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
)

var (
	theOrder = uuid.UUID{1}
	theKey   = bytes.Repeat([]byte{7}, 32)
)

func seal(t rapid.TB, p domain.Personal) domain.Sealed {
	t.Helper()
	s, err := domain.Seal(&p, theOrder, "key-1", theKey, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealAndOpen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p domain.Personal
		randomly(t, reflect.ValueOf(&p).Elem())
		s := seal(t, p)
		back, err := domain.Open(s, theOrder, theKey)
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, p, back)
		if s.Key != "key-1" || s.IsZero() {
			t.Fatalf("the key is named %q", s.Key)
		}
	})
	p := domaintest.Filled[domain.Personal]()
	s := seal(t, p)
	back, err := domain.Open(s, theOrder, theKey)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, p, back)
	if bytes.Contains(s.Data, []byte(p.Buyer.Name)) {
		t.Error("a name can be read in the sealed section")
	}
	if bytes.Equal(s.Data, seal(t, p).Data) {
		t.Error("two sealings are alike")
	}
}

// Only its own key opens a section, for its own order, and only unchanged. Erasing is destroying the key.
func TestOpenRefuses(t *testing.T) {
	s := seal(t, domaintest.Filled[domain.Personal]())
	refuse := func(what string, s domain.Sealed, order uuid.UUID, key []byte) {
		t.Helper()
		if p, err := domain.Open(s, order, key); !errors.Is(err, domain.ErrUnreadable) || !p.IsZero() {
			t.Errorf("%s: %+v, %v", what, p, err)
		}
	}
	refuse("another key", s, theOrder, bytes.Repeat([]byte{8}, 32))
	refuse("another order", s, uuid.UUID{2}, theKey)
	for i := range s.Data {
		changed := bytes.Clone(s.Data)
		changed[i] ^= 1
		refuse("a changed byte", domain.Sealed{Key: s.Key, Data: changed}, theOrder, theKey)
	}
	for n := range len(s.Data) {
		refuse("a short section", domain.Sealed{Key: s.Key, Data: s.Data[:n]}, theOrder, theKey)
	}
	for _, key := range [][]byte{nil, theKey[:16], append(theKey, 0)} {
		if _, err := domain.Open(s, theOrder, key); err == nil {
			t.Errorf("a key of %d bytes opened it", len(key))
		}
	}
}

func TestSealRefuses(t *testing.T) {
	if _, err := domain.Seal(&domain.Personal{}, theOrder, "k", theKey[:31], rand.Reader); err == nil {
		t.Error("a key of 31 bytes sealed it")
	}
	if _, err := domain.Seal(&domain.Personal{}, theOrder, "k", theKey, strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short nonce: %v", err)
	}
	if _, err := domain.Seal(&domain.Personal{Instructions: "\xff"}, theOrder, "k", theKey, rand.Reader); err == nil {
		t.Error("invalid UTF-8 was sealed")
	}
}

// Two buyers never share a key, whatever their names.
func TestSubject(t *testing.T) {
	buyer := func(scheme, value string) domain.Party {
		return domain.Party{Identifiers: []domain.Identifier{{Scheme: scheme, Value: value}}}
	}
	subjects := map[string]int{}
	for i, subject := range []string{
		domain.Subject("main", theOrder, buyer("customer", "4711")),
		domain.Subject("main", theOrder, buyer("customer", "4712")),
		domain.Subject("main", theOrder, buyer("vat", "4711")),
		domain.Subject("other", theOrder, buyer("customer", "4711")),
		domain.Subject("a/b", theOrder, buyer("c", "d")),
		domain.Subject("a", theOrder, buyer("b/c", "d")),
		domain.Subject("a", theOrder, buyer("b", "c/d")),
		domain.Subject("a%2Fb", theOrder, buyer("c", "d")),
		domain.Subject("main", theOrder, domain.Party{}),
		domain.Subject("main", uuid.UUID{2}, domain.Party{}),
		domain.Subject("main", theOrder, buyer("order", theOrder.String())),
	} {
		if other, ok := subjects[subject]; ok {
			t.Errorf("%d and %d are both %s", i, other, subject)
		}
		subjects[subject] = i
	}
	if got := domain.Subject("main", theOrder, buyer("customer", "4711")); got != "main/customer/4711" {
		t.Errorf("the subject is %s", got)
	}
	if domain.Subject("main", theOrder, buyer("customer", "4711")) != domain.Subject("main", uuid.UUID{2}, buyer("customer", "4711")) {
		t.Error("two orders of one buyer have two subjects")
	}
	unknown := buyer("customer", domain.UnknownParty)
	if domain.Subject("main", theOrder, unknown) != domain.Subject("main", theOrder, domain.Party{}) {
		t.Error("all who are unknown are one subject")
	}
	unknown.Identifiers = append(unknown.Identifiers, domain.Identifier{Scheme: "vat", Value: "DE1"})
	if got := domain.Subject("main", theOrder, unknown); got != "main/vat/DE1" {
		t.Errorf("the subject is %s", got)
	}
}

// What a later section says takes the place of what earlier ones said, part by part.
func TestOverlay(t *testing.T) {
	full := domaintest.Filled[domain.Personal]()
	wantSame(t, full, full.Overlay(domain.Personal{}))
	wantSame(t, full, domain.Personal{}.Overlay(full))

	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		var newer domain.Personal
		reflect.ValueOf(&newer).Elem().Field(i).Set(v.Field(i))
		if newer.IsZero() {
			t.Errorf("%s alone says nothing", v.Type().Field(i).Name)
		}
		older := domain.Personal{Buyer: domain.Person{Phone: "1"}, Instructions: "ring twice"}
		want := clone(older)
		reflect.ValueOf(&want).Elem().Field(i).Set(v.Field(i))
		wantSame(t, want, older.Overlay(newer))
	}
	person := reflect.ValueOf(full.Buyer)
	for i := range person.NumField() {
		var p domain.Person
		reflect.ValueOf(&p).Elem().Field(i).Set(person.Field(i))
		if p.IsZero() {
			t.Errorf("%s alone says nothing", person.Type().Field(i).Name)
		}
	}
}

// Lines are laid over each other one by one.
func TestOverlayOfLines(t *testing.T) {
	line := func(id, text string) domain.PersonalLine { return domain.PersonalLine{Line: id, Text: text} }
	older := domain.Personal{Lines: []domain.PersonalLine{line("1", "left"), line("2", "right")}}
	frozen := clone(older)
	newer := domain.Personal{Lines: []domain.PersonalLine{line("3", "both"), line("1", "none")}}
	want := domain.Personal{Lines: []domain.PersonalLine{line("1", "none"), line("2", "right"), line("3", "both")}}
	wantSame(t, want, older.Overlay(newer))
	wantSame(t, frozen, older)
}

// A customer is known by its customer number, whatever else it is known by and in whatever order that is said.
func TestCustomer(t *testing.T) {
	id := func(scheme, value string) domain.Identifier { return domain.Identifier{Scheme: scheme, Value: value} }
	unknown := id("customer", domain.UnknownParty)
	for _, test := range []struct {
		ids  []domain.Identifier
		want domain.Identifier
	}{
		{nil, domain.Identifier{}},
		{[]domain.Identifier{unknown, id("vat", "")}, domain.Identifier{}},
		{[]domain.Identifier{id("vat", "DE1"), id("customer", "C2"), id("customer", "C1")}, id("customer", "C1")},
		{[]domain.Identifier{id("vat", "DE1"), unknown, id("gln", "7")}, id("gln", "7")},
		{[]domain.Identifier{id("gln", "8"), id("customer", ""), id("gln", "7"), id("vat", "1")}, id("gln", "7")},
	} {
		for range 2 {
			got, ok := domain.Party{Identifiers: test.ids}.Customer()
			if got != test.want || ok != (test.want != domain.Identifier{}) {
				t.Errorf("of %v the customer is %v (%v)", test.ids, got, ok)
			}
			slices.Reverse(test.ids)
		}
	}
	buyer := domain.Party{Identifiers: []domain.Identifier{id("vat", "DE1"), id("customer", "4711")}}
	if got := domain.Subject("main", theOrder, buyer); got != "main/customer/4711" {
		t.Errorf("the subject is %s", got)
	}
}

// Digests are stored with events and compared with those of repeated commands for ever: they never change.
func TestDigestIsFixed(t *testing.T) {
	want := map[int]string{ // of the first actions, so many
		15: "2923447210013119e499713081b37b6d350bff83b4319b9b444f2f72a39dbc3b",
		18: "4a390ec0637e17049570f8e0d9269fc2df71ed4a041ef056073b08f606b4392a",
	}
	var all strings.Builder
	for i, a := range domaintest.Actions() {
		revision := uint64(0)
		c := asked(domain.Order{}, a)
		c.Expected, c.Occurred = &revision, now
		d, err := domain.DigestOf(domaintest.Key, c, new(domaintest.Filled[domain.Personal]()))
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(d.String())
		if want, ok := want[i+1]; ok {
			if got := fmt.Sprintf("%x", sha256.Sum256([]byte(all.String()))); got != want {
				t.Errorf("together the first %d hash to %s, not to %s", i+1, got, want)
			}
		}
	}
	if n := len(domaintest.Actions()); want[n] == "" {
		t.Errorf("nobody knows what the first %d hash to", n)
	}
}

// A digest is the same for a retry, whoever sends it and however it was sealed, and another for anything else asked.
func TestDigest(t *testing.T) {
	key := domaintest.Key
	for _, a := range domaintest.Actions() {
		revision := uint64(3)
		c := asked(domain.Order{}, a)
		c.Expected, c.Occurred = &revision, now
		p := domaintest.Filled[domain.Personal]()
		digest := func() domain.Digest {
			t.Helper()
			d, err := domain.DigestOf(key, c, &p)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		first := digest()
		if first != digest() || len(first.String()) != 64 {
			t.Errorf("%s: a second digest is another", a.Name())
		}
		same := clone(c)
		c.ID, c.Actor, c.Cause = uuid.UUID{9}, domaintest.Filled[domain.Actor](), domaintest.Filled[domain.Cause]()
		c.Occurred = now.In(time.FixedZone("", 3600))
		if s, ok := c.Do.(domain.Submit); ok {
			s.Personal = domain.Sealed{}
			c.Do = s
		}
		if digest() != first {
			t.Errorf("%s: a retry has another digest", a.Name())
		}
		c = same

		seen := map[domain.Digest]string{first: "the first"}
		other := func(what string) {
			t.Helper()
			d := digest()
			if before, ok := seen[d]; ok {
				t.Errorf("%s: %s has the digest of %s", a.Name(), what, before)
			}
			seen[d] = what
		}
		do := reflect.New(reflect.TypeOf(a)).Elem()
		do.Set(reflect.ValueOf(clone(a)))
		eachLeaf(t, do, "", func(path string) {
			c.Do = do.Interface().(domain.Action)
			other(path)
		})
		c.Do = a
		eachLeaf(t, reflect.ValueOf(&p).Elem(), "personal", other)

		c.Order = uuid.UUID{3}
		other("the order")
		c.Order, c.BusinessUnit = same.Order, "another"
		other("the business unit")
		c.BusinessUnit, c.Expected = same.BusinessUnit, nil
		other("no expected revision")
		zero := uint64(0)
		c.Expected = &zero
		other("expected revision 0")
		c.Expected, c.Occurred = same.Expected, time.Time{}
		other("the time")
		c.Occurred, key = same.Occurred, []byte("another key")
		other("the key")
		key = domaintest.Key
	}
	// What one action says, another does not.
	route, reroute := asked(domain.Order{}, domain.Route{Site: "A"}), asked(domain.Order{}, domain.Reroute{Site: "A"})
	a, errA := domain.DigestOf(key, route, &domain.Personal{})
	b, errB := domain.DigestOf(key, reroute, &domain.Personal{})
	if a == b || errA != nil || errB != nil {
		t.Errorf("two actions have one digest: %v, %v, %v", a, errA, errB)
	}
}

func TestDigestRefuses(t *testing.T) {
	for _, c := range []domain.Command{
		asked(domain.Order{}, domain.Route{Site: "\xff"}),
		{Do: domain.Route{}, BusinessUnit: "\xff"},
	} {
		if _, err := domain.DigestOf(nil, c, &domain.Personal{}); err == nil {
			t.Error("a command that cannot be written has a digest")
		}
	}
	if _, err := domain.DigestOf(nil, asked(domain.Order{}, domain.Close{}), &domain.Personal{Instructions: "\xff"}); err == nil {
		t.Error("a personal section that cannot be written has a digest")
	}
}

// eachLeaf changes each value within v in turn, calls f, and changes it back.
func eachLeaf(t *testing.T, v reflect.Value, path string, f func(path string)) {
	t.Helper()
	change := func(to any) {
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		v.Set(reflect.ValueOf(to).Convert(v.Type()))
		f(path)
		v.Set(old)
	}
	switch x := v.Interface().(type) {
	case domain.Sealed:
		return // differs with every sealing
	case domain.Decimal:
		more, err := x.Add(domain.Whole(1))
		if err != nil {
			t.Fatal(err)
		}
		change(more)
		return
	case time.Time:
		change(x.Add(time.Nanosecond))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			eachLeaf(t, v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	case reflect.Pointer:
		eachLeaf(t, v.Elem(), path, f)
		change(reflect.Zero(v.Type()).Interface())
	case reflect.Slice:
		for i := range v.Len() {
			eachLeaf(t, v.Index(i), path+"[]", f)
		}
		change(v.Slice(0, 1).Interface())
	case reflect.String:
		change(v.String() + "x")
	case reflect.Bool:
		change(!v.Bool())
	case reflect.Int, reflect.Int64:
		change(v.Int() + 1)
	case reflect.Uint32, reflect.Uint64:
		change(v.Uint() + 1)
	default:
		t.Fatalf("%s: no other %v", path, v.Type())
	}
}
