package domain_test

import (
	"bytes"
	"math"
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

// Whatever an event says, its bytes say the same, to us and to encoding/json.
func TestEventRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := randomEvent(t)
		data, err := domain.EncodeEvent(e)
		if err != nil {
			t.Fatal(err)
		}
		back, err := domain.DecodeEvent(e.Type(), data)
		if err != nil {
			t.Fatalf("%v in\n%s", err, data)
		}
		wantSame(t, e, back)
		wantSame(t, e, fromJSON(t, data, e))
		wantSameJSON(t, data, e)
	})
}

func TestMetaRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m domain.Meta
		randomly(t, reflect.ValueOf(&m).Elem())
		data, err := domain.EncodeMeta(m)
		if err != nil {
			t.Fatal(err)
		}
		back, err := domain.DecodeMeta(data)
		if err != nil {
			t.Fatalf("%v in\n%s", err, data)
		}
		wantSame(t, m, back)
	})
}

func TestOrderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o domain.Order
		randomly(t, reflect.ValueOf(&o).Elem())
		data, err := domain.EncodeOrder(o)
		if err != nil {
			t.Fatal(err)
		}
		back, err := domain.DecodeOrder(data)
		if err != nil {
			t.Fatalf("%v in\n%s", err, data)
		}
		wantSame(t, o, back)
		wantSame(t, &o, fromJSON(t, data, &o))
		wantSameJSON(t, data, o)
	})
}

// A member that stands in another place, twice, or in another form than ours is refused: one value has one form.
func TestDecodeIsStrict(t *testing.T) {
	const held, amended, moved, submitted = "order.held.v1", "order.amended.v1", "order.home_moved.v1", "order.submitted.v1"
	line := func(members string) string {
		return `{"currency":"EUR","lines":[{` + members + `}],"totals":{"lines":"0","total":"0"}}`
	}
	tests := []struct{ fault, typ, data string }{
		{"nothing", held, ``},
		{"no object", held, `[]`},
		{"white space before", held, ` {"hold":{"id":"h1"}}`},
		{"white space after", held, "{\"hold\":{\"id\":\"h1\"}}\n"},
		{"white space within", held, `{"hold": {"id":"h1"}}`},
		{"more after", held, `{"hold":{"id":"h1"}}{}`},
		{"no end", held, `{"hold":{"id":"h1"}`},
		{"unknown member", held, `{"hold":{"id":"h1"},"colour":"red"}`},
		{"repeated member", held, `{"hold":{"id":"h1","id":"h1"}}`},
		{"misplaced member", held, `{"hold":{"role":"r","id":"h1"}}`},
		{"missing member", held, `{}`},
		{"member in capitals", held, `{"HOLD":{"id":"h1"}}`},
		{"comma at the end", held, `{"hold":{"id":"h1",}}`},
		{"comma at the start", held, `{"hold":{,"id":"h1"}}`},
		{"null", held, `{"hold":{"id":null}}`},
		{"number for a string", held, `{"hold":{"id":1}}`},
		{"empty string", held, `{"hold":{"id":""}}`},
		{"string without end", held, `{"hold":{"id":"h1`},
		{"escape without end", held, `{"hold":{"id":"h\`},
		{"string without end after an escape", held, `{"hold":{"id":"\n`},
		{"short escape", held, `{"hold":{"id":"\u00"}}`},
		{"unknown escape", held, `{"hold":{"id":"\x"}}`},
		{"needless escape", held, `{"hold":{"id":"\u0041"}}`},
		{"escaped slash", held, `{"hold":{"id":"\/"}}`},
		{"escape in capitals", held, `{"hold":{"id":"\u001F"}}`},
		{"long escape of a short one", held, `{"hold":{"id":"\u000a"}}`},
		{"control character", held, "{\"hold\":{\"id\":\"a\nb\"}}"},
		{"control character after an escape", held, "{\"hold\":{\"id\":\"\\n\n\"}}"},
		{"invalid UTF-8", held, "{\"hold\":{\"id\":\"\xff\"}}"},
		{"invalid UTF-8 after an escape", held, "{\"hold\":{\"id\":\"\\n\xff\"}}"},
		{"surrogate", held, "{\"hold\":{\"id\":\"\xed\xa0\x80\"}}"},
		{"empty object", held, `{"hold":{"id":"h1"},"decision":{}}`},
		{"empty date", held, `{"hold":{"id":"h1","until":{}}}`},
		{"false", submitted, `{"currency":"EUR","totals":{"lines":"0","total":"0"},"settled":false}`},
		{"empty list", amended, `{"lines":[],"totals":{"lines":"0","total":"0"}}`},
		{"no list", amended, `{"lines":{},"totals":{"lines":"0","total":"0"}}`},
		{"list without end", amended, `{"lines":[{"line":"1"}`},
		{"list without commas", amended, `{"lines":[{"line":"1"}{"line":"2"}],"totals":{"lines":"0","total":"0"}}`},
		{"zero that is left out", amended, `{"totals":{"lines":"0","taxes":"0","total":"0"}}`},
		{"zero that is missing", amended, `{"totals":{"lines":"0"}}`},
		{"trailing zero", amended, `{"totals":{"lines":"1.50","total":"0"}}`},
		{"negative zero", amended, `{"totals":{"lines":"-0","total":"0"}}`},
		{"leading zero", amended, `{"totals":{"lines":"01","total":"0"}}`},
		{"plus", amended, `{"totals":{"lines":"+1","total":"0"}}`},
		{"exponent", amended, `{"totals":{"lines":"1e3","total":"0"}}`},
		{"number for a decimal", amended, `{"totals":{"lines":1,"total":"0"}}`},
		{"twenty digits", amended, `{"totals":{"lines":"12345678901234567890","total":"0"}}`},
		{"price that says nothing", submitted, line(`"quantity":"1","price":{"amount":"0"}`)},
		{"line without quantity", submitted, line(`"sku":"a"`)},
		{"whole number with a point", moved, `{"last":1.0}`},
		{"whole number that is 0", moved, `{"last":0}`},
		{"whole number with zeros", moved, `{"last":007}`},
		{"whole number below 0", moved, `{"last":-1}`},
		{"whole number in quotes", moved, `{"last":"1"}`},
		{"whole number that is too large", moved, `{"epoch":4294967296}`},
		{"whole number that is far too large", moved, `{"last":9223372036854775808}`},
		{"no number at all", moved, `{"last":}`},
		{"UUID in capitals", submitted, `{"order":"59E06CF8-f390-5093-af2e-3685be593a25"}`},
		{"UUID in braces", submitted, `{"order":"{59e06cf8-f390-5093-af2e-3685be593a25}"}`},
		{"nil UUID", submitted, `{"order":"00000000-0000-0000-0000-000000000000"}`},
		{"no UUID", submitted, `{"order":"4711"}`},
		{"no time", submitted, `{"currency":"EUR","deadlines":{"ship_by":"yesterday"}}`},
		{"time elsewhere", submitted, `{"currency":"EUR","deadlines":{"ship_by":"2026-03-01T00:00:00+01:00"}}`},
		{"time with zeros", submitted, `{"currency":"EUR","deadlines":{"ship_by":"2026-03-01T00:00:00.500Z"}}`},
		{"zero time", submitted, `{"currency":"EUR","deadlines":{"ship_by":"0001-01-01T00:00:00Z"}}`},
		{"base64 without padding", submitted, `{"totals":{"lines":"0","total":"0"},"personal":{"data":"YQ"}}`},
		{"base64 with other bits", submitted, `{"totals":{"lines":"0","total":"0"},"personal":{"data":"YR=="}}`},
		{"base64 in lines", submitted, `{"totals":{"lines":"0","total":"0"},"personal":{"data":"YWFh\nYWFh"}}`},
		{"empty base64", submitted, `{"totals":{"lines":"0","total":"0"},"personal":{"data":""}}`},
	}
	for _, test := range tests {
		if e, err := domain.DecodeEvent(test.typ, []byte(test.data)); err == nil {
			t.Errorf("%s was read as %+v from\n%s", test.fault, e, test.data)
		} else if !strings.Contains(err.Error(), test.typ) {
			t.Errorf("%s: the error does not say what was read: %v", test.fault, err)
		}
	}
	for fault, data := range map[string]string{
		"digest in capitals": `{"digest":"` + strings.Repeat("AB", 32) + `"}`,
		"short digest":       `{"digest":"abab"}`,
		"zero digest":        `{"digest":"` + strings.Repeat("00", 32) + `"}`,
		"member of an event": `{"reason":{"code":"a"}}`,
	} {
		if m, err := domain.DecodeMeta([]byte(data)); err == nil {
			t.Errorf("%s was read as %+v", fault, m)
		}
	}
}

// Bytes of which one was lost, doubled or changed are refused, or are those of another value in its one form.
func TestDecodeDamaged(t *testing.T) {
	for _, e := range domaintest.Events() {
		data, err := domain.EncodeEvent(e)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(data); i += 1 + len(data)/1000 {
			changed := bytes.Clone(data)
			changed[i] ^= 1
			for _, damaged := range [][]byte{changed, slices.Delete(bytes.Clone(data), i, i+1), slices.Insert(bytes.Clone(data), i, data[i])} {
				if e, err := domain.DecodeEvent(e.Type(), damaged); err == nil {
					wantBytes(t, damaged, func() ([]byte, error) { return domain.EncodeEvent(e) })
				}
			}
		}
	}
}

// What cannot be read again is not written.
func TestEncodeRefuses(t *testing.T) {
	for fault, e := range map[string]domain.Event{
		"invalid UTF-8":      &domain.Unrouted{Fulfilment: "\xff"},
		"a number too large": &domain.HomeMoved{Last: math.MaxUint64},
		"a year too large": &domain.Submitted{Details: domain.Details{
			Deadlines: domain.Deadlines{ShipBy: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		}},
	} {
		if data, err := domain.EncodeEvent(e); err == nil {
			t.Errorf("%s was written as %s", fault, data)
		}
	}
	if _, err := domain.EncodeMeta(domain.Meta{BusinessUnit: "\xff"}); err == nil {
		t.Error("metadata with invalid UTF-8 was written")
	}
	if _, err := domain.EncodeOrder(domain.Order{Number: "\xff"}); err == nil {
		t.Error("an order with invalid UTF-8 was written")
	}
}

func FuzzDecodeEvent(f *testing.F) {
	for _, e := range domaintest.Events() {
		data, err := domain.EncodeEvent(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.Type(), data)
	}
	f.Add("order.closed.v1", []byte(`{}`))
	f.Add("order.held.v1", []byte(`{"hold":{"id":"h1","reason":{"code":"a\nb"}}}`))
	f.Add("order.amended.v1", []byte(`{"lines":[{"line":"1","quantity":"0"}],"totals":{"lines":"0","total":"-1.5"}}`))
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		e, err := domain.DecodeEvent(typ, data)
		if err != nil {
			return
		}
		wantBytes(t, data, func() ([]byte, error) { return domain.EncodeEvent(e) })
		domain.Evolve(domain.Order{}, e)
	})
}

func FuzzDecodeMeta(f *testing.F) {
	data, err := domain.EncodeMeta(domaintest.Filled[domain.Meta]())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := domain.DecodeMeta(data); err == nil {
			wantBytes(t, data, func() ([]byte, error) { return domain.EncodeMeta(m) })
		}
	})
}

func FuzzDecodeOrder(f *testing.F) {
	for _, o := range []domain.Order{{}, after(f, order(article("lens", "250"))), domaintest.Filled[domain.Order]()} {
		data, err := domain.EncodeOrder(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := domain.DecodeOrder(data)
		if err != nil {
			return
		}
		wantBytes(t, data, func() ([]byte, error) { return domain.EncodeOrder(o) })
		_ = o.Status()
	})
}

func wantBytes(t *testing.T, want []byte, encode func() ([]byte, error)) {
	t.Helper()
	got, err := encode()
	if err != nil {
		t.Fatalf("what was read is not written again: %v", err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("what was read is written in another way:\n got %s\nwant %s", got, want)
	}
}

func randomEvent(t *rapid.T) domain.Event {
	examples := domaintest.Events()
	example := examples[rapid.IntRange(0, len(examples)-1).Draw(t, "event")]
	v := reflect.New(reflect.TypeOf(example).Elem())
	randomly(t, v.Elem())
	return v.Interface().(domain.Event)
}

// randomly sets every field of v to any value that its type takes, whatever its meaning.
func randomly(t *rapid.T, v reflect.Value) {
	switch p := v.Addr().Interface().(type) {
	case *domain.Decimal:
		*p = anyDecimal().Draw(t, "decimal")
		return
	case *time.Time:
		if rapid.Bool().Draw(t, "timed") {
			*p = time.Unix(rapid.Int64Range(-1e10, 1e11).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanosecond")).UTC()
		}
		return
	case *uuid.UUID:
		if rapid.Bool().Draw(t, "named") {
			copy(p[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid"))
		}
		return
	case *[]byte:
		if rapid.Bool().Draw(t, "bytes") {
			*p = rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "data")
		}
		return
	case *domain.Digest:
		if rapid.Bool().Draw(t, "digested") {
			copy(p[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			randomly(t, v.Field(i))
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "present") {
			v.Set(reflect.New(v.Type().Elem()))
			randomly(t, v.Elem())
		}
	case reflect.Slice:
		if n := rapid.IntRange(0, 5).Draw(t, "entries"); n < 3 && n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				randomly(t, v.Index(i))
			}
		}
	case reflect.String:
		if rapid.Bool().Draw(t, "said") {
			v.SetString(rapid.OneOf(
				rapid.StringN(0, 8, -1),
				rapid.StringMatching("[\x00-\x1f\"\\\\/<>&\u2028\x7f]{0,4}"),
			).Draw(t, "string"))
		}
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "int"))
	case reflect.Uint32:
		v.SetUint(uint64(rapid.Uint32().Draw(t, "uint32")))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64Range(0, math.MaxInt64).Draw(t, "uint64"))
	default:
		t.Fatalf("no random %v", v.Type())
	}
}

func anyDecimal() *rapid.Generator[domain.Decimal] {
	return rapid.Map(rapid.OneOf(
		rapid.Just("0"),
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,6})?`),
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,10})?`),
		rapid.StringMatching(`-?[1-9][0-9]{18}`),
		rapid.StringMatching(`-?0\.[0-9]{19}`),
	), domain.MustDecimal)
}
