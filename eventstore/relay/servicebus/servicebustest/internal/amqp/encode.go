package amqp

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/google/uuid"
)

// Constructors of the types: their high four bits say how long a value is.
const (
	codeDescribed  byte = 0x00
	codeNull       byte = 0x40
	codeTrue       byte = 0x41
	codeFalse      byte = 0x42
	codeUint0      byte = 0x43
	codeUlong0     byte = 0x44
	codeList0      byte = 0x45
	codeUbyte      byte = 0x50
	codeByte       byte = 0x51
	codeSmallUint  byte = 0x52
	codeSmallUlong byte = 0x53
	codeSmallInt   byte = 0x54
	codeSmallLong  byte = 0x55
	codeBoolean    byte = 0x56
	codeUshort     byte = 0x60
	codeShort      byte = 0x61
	codeUint       byte = 0x70
	codeInt        byte = 0x71
	codeFloat      byte = 0x72
	codeChar       byte = 0x73
	codeDecimal32  byte = 0x74
	codeUlong      byte = 0x80
	codeLong       byte = 0x81
	codeDouble     byte = 0x82
	codeTimestamp  byte = 0x83
	codeDecimal64  byte = 0x84
	codeDecimal128 byte = 0x94
	codeUUID       byte = 0x98
	codeBinary8    byte = 0xa0
	codeString8    byte = 0xa1
	codeSymbol8    byte = 0xa3
	codeBinary     byte = 0xb0
	codeString     byte = 0xb1
	codeSymbol     byte = 0xb3
	codeList8      byte = 0xc0
	codeMap8       byte = 0xc1
	codeList       byte = 0xd0
	codeMap        byte = 0xd1
	codeArray8     byte = 0xe0
	codeArray      byte = 0xf0
)

// AppendValue appends a value in its shortest form. It fails if the value, or one in it, has a Go type that stands for no type
// of AMQP, or if the elements of an Array differ in type.
func AppendValue(dst []byte, v any) ([]byte, error) {
	if d, ok := v.(Described); ok {
		dst, err := AppendValue(append(dst, codeDescribed), d.Descriptor)
		if err != nil {
			return nil, err
		}
		return AppendValue(dst, d.Value)
	}
	code, err := wideCode(v)
	if err != nil {
		return nil, err
	}
	code = shortCode(code, v)
	start := len(dst)
	dst, err = appendBody(append(dst, code), code, v)
	if err != nil {
		return nil, err
	}
	if code >= codeList {
		dst = shorten(dst, start)
	}
	return dst, nil
}

// wideCode returns the constructor that can hold every value of v's type.
func wideCode(v any) (byte, error) {
	switch v.(type) {
	case nil:
		return codeNull, nil
	case bool:
		return codeBoolean, nil
	case uint8:
		return codeUbyte, nil
	case uint16:
		return codeUshort, nil
	case uint32:
		return codeUint, nil
	case uint64:
		return codeUlong, nil
	case int8:
		return codeByte, nil
	case int16:
		return codeShort, nil
	case int32:
		return codeInt, nil
	case int64:
		return codeLong, nil
	case float32:
		return codeFloat, nil
	case float64:
		return codeDouble, nil
	case Decimal32:
		return codeDecimal32, nil
	case Decimal64:
		return codeDecimal64, nil
	case Decimal128:
		return codeDecimal128, nil
	case Char:
		return codeChar, nil
	case time.Time:
		return codeTimestamp, nil
	case uuid.UUID:
		return codeUUID, nil
	case []byte:
		return codeBinary, nil
	case string:
		return codeString, nil
	case Symbol:
		return codeSymbol, nil
	case List:
		return codeList, nil
	case Map:
		return codeMap, nil
	case Array, []bool, []uint16, []uint32, []uint64, []int8, []int16, []int32, []int64, []float32, []float64,
		[]time.Time, []uuid.UUID, []string, []Symbol:
		return codeArray, nil
	}
	return 0, fmt.Errorf("amqp: no type for a Go value of type %T", v)
}

// shortCode returns the constructor that makes v shortest. Lists, maps and arrays are shortened once their length is known.
func shortCode(wide byte, v any) byte {
	switch v := v.(type) {
	case bool:
		if v {
			return codeTrue
		}
		return codeFalse
	case uint32:
		if v == 0 {
			return codeUint0
		} else if v <= math.MaxUint8 {
			return codeSmallUint
		}
	case uint64:
		if v == 0 {
			return codeUlong0
		} else if v <= math.MaxUint8 {
			return codeSmallUlong
		}
	case int32:
		if int32(int8(v)) == v {
			return codeSmallInt
		}
	case int64:
		if int64(int8(v)) == v {
			return codeSmallLong
		}
	case []byte:
		if len(v) <= math.MaxUint8 {
			return codeBinary8
		}
	case string:
		if len(v) <= math.MaxUint8 {
			return codeString8
		}
	case Symbol:
		if len(v) <= math.MaxUint8 {
			return codeSymbol8
		}
	case List:
		if len(v) == 0 {
			return codeList0
		}
	}
	return wide
}

// appendBody appends what follows the constructor.
//
//nolint:gocyclo // one switch over all types is the plainest form
func appendBody(dst []byte, code byte, v any) ([]byte, error) {
	big := binary.BigEndian
	switch v := v.(type) {
	case bool:
		if code != codeBoolean {
			return dst, nil
		} else if v {
			return append(dst, 1), nil
		}
		return append(dst, 0), nil
	case uint8:
		return append(dst, v), nil
	case uint16:
		return big.AppendUint16(dst, v), nil
	case uint32:
		return appendNumber(dst, code, uint64(v)), nil
	case uint64:
		return appendNumber(dst, code, v), nil
	case int8:
		return append(dst, byte(v)), nil
	case int16:
		return big.AppendUint16(dst, uint16(v)), nil
	case int32:
		return appendNumber(dst, code, uint64(v)), nil
	case int64:
		return appendNumber(dst, code, uint64(v)), nil
	case float32:
		return big.AppendUint32(dst, math.Float32bits(v)), nil
	case float64:
		return big.AppendUint64(dst, math.Float64bits(v)), nil
	case Decimal32:
		return append(dst, v[:]...), nil
	case Decimal64:
		return append(dst, v[:]...), nil
	case Decimal128:
		return append(dst, v[:]...), nil
	case Char:
		return big.AppendUint32(dst, uint32(v)), nil
	case time.Time:
		return big.AppendUint64(dst, uint64(v.UnixMilli())), nil
	case uuid.UUID:
		return append(dst, v[:]...), nil
	case []byte:
		return appendVariable(dst, code, v), nil
	case string:
		return appendVariable(dst, code, v), nil
	case Symbol:
		return appendVariable(dst, code, v), nil
	case List:
		if code == codeList0 {
			return dst, nil
		}
		return appendCompound(dst, len(v), func(dst []byte) ([]byte, error) { return appendAll(dst, v) })
	case Map:
		return appendCompound(dst, 2*len(v), func(dst []byte) (_ []byte, err error) {
			for _, e := range v {
				if dst, err = appendAll(dst, []any{e.Key, e.Value}); err != nil {
					return nil, err
				}
			}
			return dst, nil
		})
	case nil:
		return dst, nil
	}
	return appendArray(dst, v)
}

// appendNumber appends a number in as many bytes as its constructor says.
func appendNumber(dst []byte, code byte, n uint64) []byte {
	switch code >> 4 {
	case 4:
		return dst
	case 5:
		return append(dst, byte(n))
	case 7:
		return binary.BigEndian.AppendUint32(dst, uint32(n))
	}
	return binary.BigEndian.AppendUint64(dst, n)
}

func appendVariable[T ~string | ~[]byte](dst []byte, code byte, v T) []byte {
	if code>>4 == 0xa {
		dst = append(dst, byte(len(v)))
	} else {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v)))
	}
	return append(dst, v...)
}

func appendAll(dst []byte, values []any) (_ []byte, err error) {
	for _, v := range values {
		if dst, err = AppendValue(dst, v); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// appendCompound appends size, count and elements, the first two with four bytes each.
func appendCompound(dst []byte, count int, elements func([]byte) ([]byte, error)) ([]byte, error) {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(count))
	dst, err := elements(dst)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst, nil
}

// shorten turns the list, map or array that begins at start into the form with one byte each for size and count, if it fits.
func shorten(dst []byte, start int) []byte {
	size := binary.BigEndian.Uint32(dst[start+1:]) - 3 // the count shrinks too
	count := binary.BigEndian.Uint32(dst[start+5:])
	if size > math.MaxUint8 || count > math.MaxUint8 {
		return dst
	}
	dst[start] -= codeList - codeList8
	dst[start+1], dst[start+2] = byte(size), byte(count)
	return append(dst[:start+3], dst[start+9:]...)
}

func appendArray(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case Array:
		return appendElements(dst, codeNull, v)
	case []bool:
		return appendElements(dst, codeBoolean, v)
	case []uint16:
		return appendElements(dst, codeUshort, v)
	case []uint32:
		return appendElements(dst, codeUint, v)
	case []uint64:
		return appendElements(dst, codeUlong, v)
	case []int8:
		return appendElements(dst, codeByte, v)
	case []int16:
		return appendElements(dst, codeShort, v)
	case []int32:
		return appendElements(dst, codeInt, v)
	case []int64:
		return appendElements(dst, codeLong, v)
	case []float32:
		return appendElements(dst, codeFloat, v)
	case []float64:
		return appendElements(dst, codeDouble, v)
	case []time.Time:
		return appendElements(dst, codeTimestamp, v)
	case []uuid.UUID:
		return appendElements(dst, codeUUID, v)
	case []string:
		return appendElements(dst, codeString, v)
	case []Symbol:
		return appendElements(dst, codeSymbol, v)
	}
	return nil, fmt.Errorf("amqp: no type for a Go value of type %T", v)
}

// appendElements appends the elements of an array after their common constructor, which is code if there are none.
func appendElements[T any](dst []byte, code byte, elements []T) ([]byte, error) {
	return appendCompound(dst, len(elements), func(dst []byte) (_ []byte, err error) {
		if len(elements) == 0 {
			return append(dst, code), nil
		}
		// The elements of an array of described values share their descriptor too.
		descriptor, described := any(elements[0]).(Described)
		if described {
			if dst, err = AppendValue(append(dst, codeDescribed), descriptor.Descriptor); err != nil {
				return nil, err
			}
		}
		for i, e := range elements {
			v := any(e)
			if d, ok := v.(Described); ok && described && reflect.DeepEqual(d.Descriptor, descriptor.Descriptor) {
				v = d.Value
			} else if ok || described {
				return nil, fmt.Errorf("amqp: the elements of an array differ in type")
			}
			wide, err := wideCode(v)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				code = wide
				dst = append(dst, code)
			} else if wide != code {
				return nil, fmt.Errorf("amqp: the elements of an array differ in type")
			}
			if dst, err = appendBody(dst, code, v); err != nil {
				return nil, err
			}
		}
		return dst, nil
	})
}
