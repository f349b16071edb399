package amqp_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

// goldenValues are values and the bytes that the standard gives them, shortest form first.
var goldenValues = []struct {
	value any
	bytes string
	other []string // that mean the same
}{
	{nil, "40", nil},
	{true, "41", []string{"5601"}},
	{false, "42", []string{"5600"}},
	{uint8(7), "5007", nil},
	{uint16(258), "600102", nil},
	{uint32(0), "43", []string{"5200", "7000000000"}},
	{uint32(255), "52ff", []string{"70000000ff"}},
	{uint32(256), "7000000100", nil},
	{uint64(0), "44", []string{"5300", "800000000000000000"}},
	{uint64(255), "53ff", nil},
	{uint64(0x137000000C), "80000000137000000c", nil},
	{int8(-1), "51ff", nil},
	{int16(-2), "61fffe", nil},
	{int32(-1), "54ff", []string{"71ffffffff"}},
	{int32(200), "71000000c8", nil}, // a status code: not one byte, which would be negative
	{int64(-128), "5580", []string{"81ffffffffffffff80"}},
	{int64(-129), "81ffffffffffffff7f", nil},
	{float32(1), "723f800000", nil},
	{float64(1), "823ff0000000000000", nil},
	{amqp.Decimal32{1, 2, 3, 4}, "7401020304", nil},
	{amqp.Decimal64{1}, "840100000000000000", nil},
	{amqp.Decimal128{1}, "9401000000000000000000000000000000", nil},
	{amqp.Char('€'), "73000020ac", nil},
	{time.UnixMilli(1).UTC(), "830000000000000001", nil},
	{time.UnixMilli(math.MinInt64).UTC(), "838000000000000000", nil},
	{uuid.MustParse("21721e4a-ae2d-975c-0102-030405060708"), "9821721e4aae2d975c0102030405060708", nil},
	{[]byte{}, "a000", []string{"b000000000"}},
	{[]byte{1}, "a00101", nil},
	{"Hello", "a10548656c6c6f", []string{"b10000000548656c6c6f"}},
	{"glücklich", "a10a676cc3bc636b6c696368", nil},
	{amqp.Symbol("amqp:accepted"), "a30d616d71703a6163636570746564", nil},
	{amqp.List{}, "45", []string{"c00100", "d00000000400000000"}},
	{amqp.List{nil, uint32(1)}, "c00402405201", []string{"d00000000700000002405201"}},
	{amqp.Map{}, "c10100", []string{"d10000000400000000"}},
	{amqp.Map{{"a", int32(1)}, {amqp.Symbol("b"), nil}}, "c10a04a101615401a3016240", nil},
	{amqp.Described{uint64(0x24), amqp.List{}}, "00532445", nil},
	{amqp.Described{amqp.Symbol("x"), "y"}, "00a30178a10179", nil},
	{[]int64{1, 2}, "e0120281" + "00000000000000010000000000000002", []string{"e00402550102", "f00000000700000002550102"}},
	{[]time.Time{time.UnixMilli(5).UTC()}, "e00a01830000000000000005", nil},
	{[]time.Time{}, "e0020083", nil},
	{[]amqp.Symbol{"a", "b"}, "e00c02b300000001610000000162", []string{"e00602a301610162"}},
	{[]string{"a"}, "e00701b10000000161", nil},
	{[]bool{true, false}, "e00402560100", nil},
	{[]uint64{}, "e0020080", []string{"e0020044"}},
	{[]uint32{0, 0}, "e00a02700000000000000000", []string{"e0020243"}},
	{amqp.Array{}, "e0020040", nil},
	{amqp.Array{nil, nil}, "e0020240", nil},
	{amqp.Array{[]byte{1}, []byte{}}, "e00b02b00000000101" + "00000000", nil},
	{amqp.Array{uint8(1)}, "e0030150" + "01", nil},
	{amqp.Array{amqp.List{true}, amqp.List{}}, "e01302d0" + "0000000500000001410000000400000000", nil},
	{amqp.Array{[]int64{1}, []string{"a"}}, "e02102f0" + "0000000d00000001810000000000000001" + "0000000a00000001b10000000161", nil},
	{amqp.Array{amqp.Described{amqp.Symbol("d"), int32(1)}, amqp.Described{amqp.Symbol("d"), int32(2)}},
		"e00e0200a3016471" + "0000000100000002", nil},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return b
}

func TestGoldenValues(t *testing.T) {
	for _, g := range goldenValues {
		got, err := amqp.AppendValue([]byte{0xee}, g.value)
		if err != nil {
			t.Errorf("%v: %v", g.value, err)
			continue
		}
		if want := append([]byte{0xee}, unhex(t, g.bytes)...); !bytes.Equal(got, want) {
			t.Errorf("%T %v is written as\n%x instead of\n%x", g.value, g.value, got, want)
		}
		for _, s := range append(g.other, g.bytes) {
			v, rest, err := amqp.DecodeValue(append(unhex(t, s), 0xee))
			if err != nil || !bytes.Equal(rest, []byte{0xee}) {
				t.Errorf("%s is read with %v, and leaves %x", s, err, rest)
			}
			diff(t, s, v, g.value)
		}
	}
}

func TestLongestShortForms(t *testing.T) {
	for n, want := range map[int]string{252: "c0ff01a0fc", 253: "d0000001030000000" + "1a0fd"} { // the size counts the count
		b, err := amqp.AppendValue(nil, amqp.List{make([]byte, n)})
		if err != nil || !bytes.HasPrefix(b, unhex(t, want)) {
			t.Errorf("a list with %d bytes begins with %x (%v)", n, b[:12], err)
		}
	}
}

func TestDecodedValuesShareNoMemory(t *testing.T) {
	b := unhex(t, "a00101")
	v, _, err := amqp.DecodeValue(b)
	if err != nil {
		t.Fatal(err)
	}
	b[2] = 9
	diff(t, "bytes", v, any([]byte{1}))
}

func TestValuesWithoutType(t *testing.T) {
	for _, v := range []any{
		1, uint(1), struct{}{}, []int{1}, map[string]any{}, new(string), amqp.List{1}, amqp.Map{{1, "a"}}, amqp.Map{{"a", 1}},
		amqp.Described{1, "a"}, amqp.Described{"a", 1}, amqp.Array{1}, amqp.Array{"a", int32(1)}, amqp.Array{amqp.List{1}},
		amqp.Array{amqp.Described{"a", int32(1)}, amqp.Described{"b", int32(1)}},
		amqp.Array{amqp.Described{"a", int32(1)}, int32(1)},
		amqp.Array{int32(1), amqp.Described{"a", int32(1)}},
		amqp.Array{amqp.Described{1, int32(1)}},
	} {
		if b, err := amqp.AppendValue(nil, v); err == nil {
			t.Errorf("%#v is written as %x", v, b)
		}
	}
}

func TestMalformedValues(t *testing.T) {
	for name, s := range map[string]string{
		"nothing":                                   "",
		"no such constructor":                       "46",
		"no such fixed constructor":                 "57ff",
		"no such variable constructor":              "a200",
		"no such compound constructor":              "c20100",
		"no such width":                             "3000",
		"described by nothing":                      "00",
		"described nothing":                         "0053",
		"described without value":                   "005324",
		"a short number":                            "70000000",
		"a boolean of 2":                            "5602",
		"a string without length":                   "a1",
		"a string without long length":              "b1000000",
		"a string cut off":                          "a10261",
		"a string of four gigabytes":                "b1ffffffff61",
		"a string that is not UTF-8":                "a102c328",
		"a symbol that is not ASCII":                "a301ff",
		"a char beyond Unicode":                     "7300110000",
		"a list without count":                      "c000",
		"a long list without count":                 "d000000003000000",
		"a list of many from nothing":               "d000000004ffffffff",
		"a list with more than its count":           "c003014040",
		"a list with a bad element":                 "c0020146",
		"a list longer than all":                    "c0100140",
		"a map with half an entry":                  "c1020140",
		"a map with a bad key":                      "c103024640",
		"a map with a bad value":                    "c103024046",
		"an array without constructor":              "e00100",
		"an array of many from nothing":             "f000000005ffffffff55",
		"an array of endless nulls":                 "f000000005ffffffff40",
		"an array of endless lists":                 "f000000005ffffffff45",
		"an array of 4097 nulls":                    "f0000000050000100140",
		"two arrays of 4096 nulls":                  "c01502" + "f0000000050000100040" + "f0000000050000100040",
		"an array of described nothing":             "e0020100",
		"an array described by nonsense":            "e003010046",
		"an array of described without constructor": "e00401005324",
		"nested too deep":                           nested(40),
		"described too deep":                        strings.Repeat("005324", 40) + "40",
		"arrays nested too deep":                    strings.Repeat("e0ff01", 40),
	} {
		v, _, err := amqp.DecodeValue(unhex(t, s))
		if err == nil {
			t.Errorf("%s is read as %v", name, v)
		}
	}
	if _, _, err := amqp.DecodeValue(unhex(t, nested(32))); err != nil {
		t.Errorf("32 lists in each other: %v", err)
	}
}

// nested returns n lists in each other, each but the innermost with one element.
func nested(n int) string {
	b := []byte{0xc0, 1, 0}
	for range n - 1 {
		b = append([]byte{0xc0, byte(len(b) + 1), 1}, b...)
	}
	return hex.EncodeToString(b)
}

// A few bytes that announce much must not make the decoder allocate much.
func TestLyingLengths(t *testing.T) {
	hostile := [][]byte{unhex(t, "b1ffffffff61"), unhex(t, "d000000004ffffffff"), unhex(t, "f000000005ffffffff40")}
	wide := []byte{0xd0, 0, 0, 0x10, 0, 0xff, 0xff, 0xff, 0xff} // lists in lists, each with an endless count
	hostile = append(hostile, append(wide, bytes.Repeat([]byte{0x40}, 4092)...))
	for _, b := range hostile {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if v, _, err := amqp.DecodeValue(b); err == nil {
			t.Errorf("%x is %v", b, v)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
			t.Errorf("%d bytes made the decoder allocate %d", len(b), got)
		}
	}
}

func anyValue(depth int) *rapid.Generator[any] {
	text := rapid.OneOf(rapid.String(), rapid.StringN(250, 300, -1))
	symbol := rapid.Map(rapid.StringMatching(`[a-z:-]{0,20}`), func(s string) amqp.Symbol { return amqp.Symbol(s) })
	u64 := rapid.OneOf(rapid.Uint64Range(0, 300), rapid.Uint64())
	i64 := rapid.OneOf(rapid.Int64Range(-300, 300), rapid.Int64())
	when := rapid.Map(i64, func(n int64) time.Time { return time.UnixMilli(n).UTC() })
	id := rapid.Map(rapid.SliceOfN(rapid.Byte(), 16, 16), func(b []byte) uuid.UUID { return uuid.UUID(b) })
	binary := rapid.SliceOfN(rapid.Byte(), 0, 300)
	u32 := rapid.Map(u64, func(n uint64) uint32 { return uint32(n) })
	i32 := rapid.Map(i64, func(n int64) int32 { return int32(n) })
	g := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Uint8().AsAny(), rapid.Uint16().AsAny(), u32.AsAny(), u64.AsAny(),
		rapid.Int8().AsAny(), rapid.Int16().AsAny(), i32.AsAny(), i64.AsAny(), rapid.Float32().AsAny(), rapid.Float64().AsAny(),
		rapid.Map(rapid.Rune(), func(r rune) any { return amqp.Char(r) }), when.AsAny(), id.AsAny(), binary.AsAny(), text.AsAny(), symbol.AsAny(),
		rapid.Map(id, func(u uuid.UUID) any { return amqp.Decimal128(u) }),
		rapid.SliceOf(rapid.Bool()).AsAny(), rapid.SliceOf(rapid.Uint16()).AsAny(), rapid.SliceOf(u32).AsAny(), rapid.SliceOf(u64).AsAny(),
		rapid.SliceOf(rapid.Int8()).AsAny(), rapid.SliceOf(rapid.Int16()).AsAny(), rapid.SliceOf(i32).AsAny(), rapid.SliceOf(i64).AsAny(),
		rapid.SliceOf(rapid.Float32()).AsAny(), rapid.SliceOf(rapid.Float64()).AsAny(), rapid.SliceOf(when).AsAny(), rapid.SliceOf(id).AsAny(),
		rapid.SliceOf(text).AsAny(), rapid.SliceOf(symbol).AsAny(),
		rapid.Map(rapid.SliceOf(binary), func(s [][]byte) any {
			a := amqp.Array{}
			for _, b := range s {
				a = append(a, b)
			}
			return a
		}),
	}
	if depth > 0 {
		inner := anyValue(depth - 1)
		g = append(g,
			rapid.Map(rapid.SliceOfN(inner, 0, 5), func(s []any) any { return amqp.List(s) }),
			rapid.Map(rapid.SliceOfN(rapid.Map(rapid.SliceOfN(inner, 2, 2), func(s []any) amqp.Entry { return amqp.Entry{Key: s[0], Value: s[1]} }), 0, 5),
				func(s []amqp.Entry) any { return amqp.Map(s) }),
			rapid.Map(rapid.SliceOfN(inner, 2, 2), func(s []any) any { return amqp.Described{Descriptor: s[0], Value: s[1]} }),
			rapid.Map(rapid.SliceOfN(rapid.SliceOfN(inner, 0, 3), 0, 3), func(s [][]any) any {
				a := amqp.Array{}
				for _, l := range s {
					a = append(a, amqp.List(l))
				}
				return a
			}),
		)
	}
	return rapid.OneOf(g...)
}

func TestValuesComeBack(t *testing.T) {
	g := anyValue(3)
	rapid.Check(t, func(t *rapid.T) {
		v := g.Draw(t, "value")
		b, err := amqp.AppendValue(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		got, rest, err := amqp.DecodeValue(b)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%x: %v, and %x is left", b, err, rest)
		}
		if d := cmp.Diff(v, got, cmpopts.EquateNaNs()); d != "" {
			t.Fatalf("-written +read:\n%s", d)
		}
		for i := range b[:min(len(b), 100)] { // no part of a value is one
			if v, rest, err := amqp.DecodeValue(b[:i]); err == nil {
				t.Fatalf("the first %d bytes of %x are read as %v, with %x left", i, b, v, rest)
			}
		}
	})
}

func TestMap(t *testing.T) {
	m := amqp.Map{{amqp.Symbol("a"), int32(1)}, {"b", nil}, {uint64(3), "c"}}
	if m.Get("a") != int32(1) || m.Get("b") != nil || m.Get("c") != nil || !m.Has("b") || m.Has("c") {
		t.Error("the map is not read right")
	}
	diff(t, "with an old key", m.With(amqp.Symbol("b"), "x"), amqp.Map{{amqp.Symbol("a"), int32(1)}, {"b", "x"}, {uint64(3), "c"}})
	diff(t, "with a new key", m.With(amqp.Symbol("d"), "x"), append(m[:3:3], amqp.Entry{Key: amqp.Symbol("d"), Value: "x"}))
	diff(t, "without", m.Without("a"), amqp.Map{{"b", nil}, {uint64(3), "c"}})
	diff(t, "the map itself", m, amqp.Map{{amqp.Symbol("a"), int32(1)}, {"b", nil}, {uint64(3), "c"}})
}
