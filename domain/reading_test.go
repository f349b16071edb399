package domain_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
)

// The decoder takes exactly the bytes that the encoder writes, and sets what encoding/json reads in them. This is the
// whole of what it promises, said without the decoder: bytes are good if encoding/json takes them and the value that it
// reads is written as these bytes again.
func TestDecodeTakesWhatEncodeWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := randomEvent(t)
		data, err := domain.EncodeEvent(e)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			data := damaged(t, data)
			wantRead(t, data, newLike(e), func(v domain.Event) ([]byte, error) { return domain.EncodeEvent(v) },
				func() (domain.Event, error) { return domain.DecodeEvent(e.Type(), data) })
		}
	})
}

func TestDecodeOrderTakesWhatEncodeWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o domain.Order
		if rapid.Bool().Draw(t, "folded") {
			o = domain.Fold(domaintest.EventsOf(domaintest.History(t)))
		} else {
			randomly(t, reflect.ValueOf(&o).Elem())
		}
		data, err := domain.EncodeOrder(o)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			data := damaged(t, data)
			wantRead(t, data, new(domain.Order), func(v *domain.Order) ([]byte, error) { return domain.EncodeOrder(*v) },
				func() (*domain.Order, error) { o, err := domain.DecodeOrder(data); return &o, err })
		}
	})
}

func wantRead[T any](t *rapid.T, data []byte, want T, encode func(T) ([]byte, error), decode func() (T, error)) {
	t.Helper()
	got, err := decode()
	good := json.Unmarshal(data, want) == nil
	if good {
		again, err := encode(want)
		good = err == nil && bytes.Equal(again, data)
	}
	switch {
	case good && err != nil:
		t.Fatalf("refused: %v\n%s", err, data)
	case !good && err == nil:
		t.Fatalf("taken:\n%s", data)
	case good:
		wantSame(t, want, got)
	}
}

func newLike(e domain.Event) domain.Event {
	return reflect.New(reflect.TypeOf(e).Elem()).Interface().(domain.Event)
}

// damaged returns data with up to three changes, most of which leave it almost as good as it was.
func damaged(t *rapid.T, data []byte) []byte {
	data = bytes.Clone(data)
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		i := rapid.IntRange(0, len(data)).Draw(t, "at")
		j := min(len(data), i+rapid.IntRange(0, 12).Draw(t, "length"))
		if rapid.Bool().Draw(t, "whole token") {
			i, j = tokenAt(data, i), tokenAt(data, j)
		}
		var by []byte
		switch rapid.IntRange(0, 4).Draw(t, "change") {
		case 0: // cut out
		case 1:
			by = slices.Repeat(data[i:j], 2)
		case 2:
			by = rapid.SliceOfN(rapid.Byte(), 1, 3).Draw(t, "bytes")
		case 3:
			by = []byte(rapid.SampledFrom([]string{
				`"`, `\`, `\"`, `\n`, `\u0001`, `\u000a`, `\u00e9`, `\/`, `{`, `}`, `{}`, `[`, `]`, `[]`, `,`, `:`, `""`, `"":`, ` `,
				"\n", "\x00", "\xff", "é", "0", "-", ".", "-0", "1.0", "00", "1e3", "null", "true", "false", `"line":`, `,"line":"1"`,
				"12345678901234567890", "T", "Z", "=", "A",
			}).Draw(t, "token"))
		case 4: // cut off
			j = len(data)
		}
		data = slices.Replace(data, i, j, by...)
	}
	return data
}

// tokenAt returns the start of the token of JSON that i stands in.
func tokenAt(data []byte, i int) int {
	for i > 0 && (i >= len(data) || !bytes.ContainsAny(data[i:i+1], `{}[],:`)) {
		i--
	}
	return i
}

// A string is read eight bytes at a time: whatever it is made of and wherever it stands, it is read as it is.
func TestDecodeStrings(t *testing.T) {
	for _, odd := range []string{"", `"`, `\`, "\n", "\x1f", " ", "\x7f", "é", "\u2028", "😀", "!", "#", "[", "]", "\u0001\u0002", `"\`} {
		for before := range 18 {
			for _, after := range []int{0, 1, 7, 8, 9} {
				s := string(bytes.Repeat([]byte("a"), before)) + odd + string(bytes.Repeat([]byte("~"), after))
				want := &domain.Released{Hold: s, Reason: domain.Reason{Code: odd, Text: s}}
				data, err := domain.EncodeEvent(want)
				if err != nil {
					t.Fatal(err)
				}
				got, err := domain.DecodeEvent(want.Type(), data)
				if err != nil {
					t.Fatalf("%v in\n%s", err, data)
				}
				wantSame(t, domain.Event(want), got)
			}
		}
	}
}

// Bytes that are no longer there cannot be read: what was decoded is not a view of what was passed in.
func TestDecodedEventsKeepNothing(t *testing.T) {
	for _, s := range typicalHistory(t) {
		data := bytes.Clone(s.data)
		got := mustDecode(t, stored{s.typ, data})
		clear(data)
		again, err := domain.EncodeEvent(got)
		if err != nil || !bytes.Equal(again, s.data) {
			t.Errorf("%s changed with the bytes that it was read from: %v", s.typ, err)
		}
	}
}
