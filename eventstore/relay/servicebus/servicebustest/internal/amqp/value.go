package amqp

import "slices"

// The types of AMQP and the Go types they are read into and written from, exactly and in both directions:
//
//	null        nil            float      float32     timestamp  time.Time (UTC, milliseconds)
//	boolean     bool           double     float64     uuid       uuid.UUID
//	ubyte       uint8          decimal32  Decimal32   binary     []byte
//	ushort      uint16         decimal64  Decimal64   string     string
//	uint        uint32         decimal128 Decimal128  symbol     Symbol
//	ulong       uint64         char       Char        list       List
//	byte        int8                                  map        Map
//	short       int16                                 described  Described
//	int         int32
//	long        int64
//
// An array is a Go slice of bool, int8 … int64, uint16 … uint64, float32, float64, time.Time, uuid.UUID, string or Symbol; an
// array of anything else is an [Array]. Other Go types, int among them, are refused: a peer reads 7 as an int differently
// from 7 as a long.

// A Symbol is a name out of a fixed vocabulary, in ASCII.
type Symbol string

// A Char is one Unicode character.
type Char rune

// A Decimal32 is a decimal number, kept as the bytes of its IEEE 754 form: nothing here counts with it.
type Decimal32 [4]byte

// A Decimal64 is a longer [Decimal32].
type Decimal64 [8]byte

// A Decimal128 is the longest [Decimal32].
type Decimal128 [16]byte

// A List holds values of any types.
type List []any

// An Array holds values that all have the same type, one for which there is no plain Go slice: binary, ubyte, char,
// decimals, lists, maps, arrays and described values. An empty Array does not remember its type.
type Array []any

// A Described value is a value with a mark that says what it stands for, usually a uint64 or a Symbol.
type Described struct {
	Descriptor any
	Value      any
}

// An Entry is one key with its value.
type Entry struct {
	Key, Value any
}

// A Map is a map of AMQP, in the order in which it stands on the wire.
type Map []Entry

// Get returns the value of a key, which may stand in the map as a string or as a symbol, and nil when there is none.
func (m Map) Get(key string) any {
	if i := m.index(key); i >= 0 {
		return m[i].Value
	}
	return nil
}

// Has says whether the map has the key, as a string or as a symbol.
func (m Map) Has(key string) bool { return m.index(key) >= 0 }

// With returns the map with the value under the key, in the place of an older value or at the end. A new key is written
// with the type it has here, string or Symbol. The receiver is left as it was.
func (m Map) With(key, value any) Map {
	out := slices.Clone(m)
	if i := slices.IndexFunc(out, func(e Entry) bool { return sameKey(e.Key, key) }); i >= 0 {
		out[i].Value = value
		return out
	}
	return append(out, Entry{key, value})
}

// Without returns the map without the key, which may stand there as a string or as a symbol. The receiver is left as it was.
func (m Map) Without(key string) Map {
	return slices.DeleteFunc(slices.Clone(m), func(e Entry) bool { return sameKey(e.Key, key) })
}

func (m Map) index(key string) int {
	return slices.IndexFunc(m, func(e Entry) bool { return sameKey(e.Key, key) })
}

// sameKey compares names; keys that are no names are never the same.
func sameKey(a, b any) bool {
	x, ok := name(a)
	y, okay := name(b)
	return ok && okay && x == y
}

func name(key any) (string, bool) {
	switch k := key.(type) {
	case string:
		return k, true
	case Symbol:
		return string(k), true
	}
	return "", false
}
