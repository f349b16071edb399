package amqp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

const (
	// maxDepth bounds how deep values stand in each other.
	maxDepth = 32
	// maxEmpty bounds the array elements of one decoded value that take no bytes, and so could be announced in any number.
	maxEmpty = 4096
)

var errShort = errors.New("amqp: a value ends before its end")

// DecodeValue reads the first value of b and returns what follows it. What it returns shares no memory with b.
func DecodeValue(b []byte) (v any, rest []byte, err error) {
	d := decoder{b: b, empty: maxEmpty}
	if v, err = d.value(0); err != nil {
		return nil, nil, err
	}
	return v, d.b, nil
}

// A decoder reads values one after the other.
type decoder struct {
	b     []byte // what is not read yet
	empty int    // how many array elements without bytes may still come
}

func (d *decoder) code() (byte, error) {
	if len(d.b) == 0 {
		return 0, errShort
	}
	code := d.b[0]
	d.b = d.b[1:]
	return code, nil
}

func (d *decoder) value(depth int) (any, error) {
	code, err := d.code()
	if err != nil {
		return nil, err
	}
	if code == codeDescribed {
		return d.described(depth)
	}
	return d.afterCode(code, depth)
}

func (d *decoder) described(depth int) (any, error) {
	if depth++; depth > maxDepth {
		return nil, errDeep
	}
	descriptor, err := d.value(depth)
	if err != nil {
		return nil, err
	}
	v, err := d.value(depth)
	if err != nil {
		return nil, err
	}
	return Described{descriptor, v}, nil
}

var errDeep = fmt.Errorf("amqp: a value is nested deeper than %d", maxDepth)

// cut takes off the bytes that a constructor says its value has.
func (d *decoder) cut(code byte) ([]byte, error) {
	size, length := 0, 0 // of the value, and of the field that says it
	switch code >> 4 {
	case 0x4:
	case 0x5, 0x6, 0x7, 0x8, 0x9:
		size = 1 << (code>>4 - 5)
	case 0xa, 0xc, 0xe:
		length = 1
	case 0xb, 0xd, 0xf:
		length = 4
	default:
		return nil, fmt.Errorf("amqp: unknown constructor %#02x", code)
	}
	if len(d.b) < length {
		return nil, errShort
	}
	switch length {
	case 1:
		size = int(d.b[0])
	case 4:
		size = int(binary.BigEndian.Uint32(d.b))
	}
	if len(d.b)-length < size {
		return nil, errShort
	}
	body := d.b[length : length+size]
	d.b = d.b[length+size:]
	return body, nil
}

// afterCode reads a value whose constructor has been read.
//
//nolint:gocyclo // one switch over all types is the plainest form
func (d *decoder) afterCode(code byte, depth int) (any, error) {
	body, err := d.cut(code)
	if err != nil {
		return nil, err
	}
	if code >= codeList8 {
		return d.compound(code, body, depth)
	}
	big := binary.BigEndian
	switch code {
	case codeNull:
		return nil, nil
	case codeTrue:
		return true, nil
	case codeFalse:
		return false, nil
	case codeBoolean:
		if body[0] > 1 {
			return nil, fmt.Errorf("amqp: %#02x is no boolean", body[0])
		}
		return body[0] == 1, nil
	case codeUint0:
		return uint32(0), nil
	case codeSmallUint:
		return uint32(body[0]), nil
	case codeUint:
		return big.Uint32(body), nil
	case codeUlong0:
		return uint64(0), nil
	case codeSmallUlong:
		return uint64(body[0]), nil
	case codeUlong:
		return big.Uint64(body), nil
	case codeUbyte:
		return body[0], nil
	case codeUshort:
		return big.Uint16(body), nil
	case codeByte:
		return int8(body[0]), nil
	case codeShort:
		return int16(big.Uint16(body)), nil
	case codeSmallInt:
		return int32(int8(body[0])), nil
	case codeInt:
		return int32(big.Uint32(body)), nil
	case codeSmallLong:
		return int64(int8(body[0])), nil
	case codeLong:
		return int64(big.Uint64(body)), nil
	case codeFloat:
		return math.Float32frombits(big.Uint32(body)), nil
	case codeDouble:
		return math.Float64frombits(big.Uint64(body)), nil
	case codeDecimal32:
		return Decimal32(body), nil
	case codeDecimal64:
		return Decimal64(body), nil
	case codeDecimal128:
		return Decimal128(body), nil
	case codeChar:
		if n := big.Uint32(body); n <= utf8.MaxRune {
			return Char(n), nil
		}
		return nil, errors.New("amqp: a char is no character")
	case codeTimestamp:
		return time.UnixMilli(int64(big.Uint64(body))).UTC(), nil
	case codeUUID:
		return uuid.UUID(body), nil
	case codeBinary8, codeBinary:
		return append([]byte{}, body...), nil
	case codeString8, codeString:
		if !utf8.Valid(body) {
			return nil, errors.New("amqp: a string is not UTF-8")
		}
		return string(body), nil
	case codeSymbol8, codeSymbol:
		for _, c := range body {
			if c > 0x7f {
				return nil, errors.New("amqp: a symbol is not ASCII")
			}
		}
		return Symbol(body), nil
	case codeList0:
		return List{}, nil
	}
	return nil, fmt.Errorf("amqp: unknown constructor %#02x", code)
}

// compound reads the body of a list, a map or an array. It makes room for elements only as they come.
func (d *decoder) compound(code byte, body []byte, depth int) (any, error) {
	if depth++; depth > maxDepth {
		return nil, errDeep
	}
	width := 1
	if code>>4&1 == 1 {
		width = 4
	}
	if len(body) < width {
		return nil, errShort
	}
	count := int(body[0])
	if width == 4 {
		count = int(binary.BigEndian.Uint32(body))
	}
	inner := decoder{b: body[width:], empty: d.empty}
	defer func() { d.empty = inner.empty }()

	var v any
	var err error
	switch code {
	case codeList8, codeList:
		v, err = inner.list(count, depth)
	case codeMap8, codeMap:
		v, err = inner.mapping(count, depth)
	case codeArray8, codeArray:
		v, err = inner.array(count, depth)
	default:
		return nil, fmt.Errorf("amqp: unknown constructor %#02x", code)
	}
	if err != nil {
		return nil, err
	}
	if len(inner.b) > 0 {
		return nil, errors.New("amqp: bytes are left after the last element")
	}
	return v, nil
}

func (d *decoder) list(count, depth int) (List, error) {
	list := List{}
	for range count {
		v, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (d *decoder) mapping(count, depth int) (Map, error) {
	if count%2 != 0 {
		return nil, errors.New("amqp: a map has a key without a value")
	}
	m := Map{}
	for range count / 2 {
		key, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		v, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		m = append(m, Entry{key, v})
	}
	return m, nil
}

func (d *decoder) array(count, depth int) (any, error) {
	code, err := d.code()
	if err != nil {
		return nil, err
	}
	var descriptor any
	described := code == codeDescribed
	if described {
		if descriptor, err = d.value(depth); err != nil {
			return nil, err
		}
		if code, err = d.code(); err != nil {
			return nil, err
		}
	}
	if code>>4 == 4 {
		if d.empty -= count; d.empty < 0 {
			return nil, fmt.Errorf("amqp: arrays have more than %d empty elements", maxEmpty)
		}
	}
	elements := Array{}
	for range count {
		v, err := d.afterCode(code, depth)
		if err != nil {
			return nil, err
		}
		if described {
			v = Described{descriptor, v}
		}
		elements = append(elements, v)
	}
	if described {
		return elements, nil
	}
	return plain(code, elements), nil
}

// plain turns elements with the given constructor into the plain Go slice of their type, if there is one.
func plain(code byte, elements Array) any {
	switch code {
	case codeBoolean, codeTrue, codeFalse:
		return slice[bool](elements)
	case codeUshort:
		return slice[uint16](elements)
	case codeUint, codeSmallUint, codeUint0:
		return slice[uint32](elements)
	case codeUlong, codeSmallUlong, codeUlong0:
		return slice[uint64](elements)
	case codeByte:
		return slice[int8](elements)
	case codeShort:
		return slice[int16](elements)
	case codeInt, codeSmallInt:
		return slice[int32](elements)
	case codeLong, codeSmallLong:
		return slice[int64](elements)
	case codeFloat:
		return slice[float32](elements)
	case codeDouble:
		return slice[float64](elements)
	case codeTimestamp:
		return slice[time.Time](elements)
	case codeUUID:
		return slice[uuid.UUID](elements)
	case codeString8, codeString:
		return slice[string](elements)
	case codeSymbol8, codeSymbol:
		return slice[Symbol](elements)
	}
	return elements
}

func slice[T any](elements Array) []T {
	s := make([]T, len(elements))
	for i, e := range elements {
		s[i] = e.(T)
	}
	return s
}
