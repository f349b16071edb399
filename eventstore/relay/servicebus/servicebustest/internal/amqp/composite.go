package amqp

import "fmt"

// composite returns a described list whose descriptor is a number. Fields at the end that are nil are left out.
func composite(code uint64, fields ...any) Described {
	for len(fields) > 0 && fields[len(fields)-1] == nil {
		fields = fields[:len(fields)-1]
	}
	return Described{code, List(fields)}
}

func appendComposite(dst []byte, code uint64, fields ...any) ([]byte, error) {
	return AppendValue(dst, composite(code, fields...))
}

// some returns v as a field, or nil if it is the value that an absent field stands for.
func some[T comparable](v, absent T) any {
	if v == absent {
		return nil
	}
	return v
}

func somePointer[T any](v *T) any {
	if v == nil {
		return nil
	}
	return *v
}

func someMap(m Map) any {
	if m == nil {
		return nil
	}
	return m
}

// encodable returns a map as a field, or nil if something in it has no AMQP type: what it accompanies must not fail for it.
func encodable(m Map) any {
	if _, err := AppendValue(nil, m); m == nil || err != nil {
		return nil
	}
	return m
}

func someSymbols(s []Symbol) any {
	switch len(s) {
	case 0:
		return nil
	case 1:
		return s[0]
	}
	return s
}

// A fieldReader reads the fields of a composite in their order. After the first error it returns zeros.
type fieldReader struct {
	what string
	list List
	next int
	err  error
}

// newFieldReader reads a described list.
func newFieldReader(what string, v any) (uint64, *fieldReader, error) {
	d, ok := v.(Described)
	if !ok {
		return 0, nil, fmt.Errorf("amqp: a %s is not described", what)
	}
	code, ok := d.Descriptor.(uint64)
	if !ok {
		return 0, nil, fmt.Errorf("amqp: a %s is described by %v", what, d.Descriptor)
	}
	list, ok := d.Value.(List)
	if !ok {
		return 0, nil, fmt.Errorf("amqp: a %s is no list", what)
	}
	return code, &fieldReader{what: what, list: list}, nil
}

// field returns the next field, nil when it is absent.
func (f *fieldReader) field() any {
	f.next++
	if f.err != nil || f.next > len(f.list) {
		return nil
	}
	return f.list[f.next-1]
}

func (f *fieldReader) fail(v any) {
	if f.err == nil {
		f.err = fmt.Errorf("amqp: field %d of %s is of type %T", f.next, f.what, v)
	}
}

// optional reads a field that may be absent.
func optional[T any](f *fieldReader) *T {
	switch v := f.field().(type) {
	case nil:
	case T:
		return &v
	default:
		f.fail(v)
	}
	return nil
}

// withDefault reads a field that stands for a value when it is absent.
func withDefault[T any](f *fieldReader, absent T) T {
	if v := optional[T](f); v != nil {
		return *v
	}
	return absent
}

// required reads a field that must be there.
func required[T any](f *fieldReader) T {
	v := optional[T](f)
	if v == nil {
		if f.err == nil {
			f.err = fmt.Errorf("amqp: field %d of %s is missing", f.next, f.what)
		}
		v = new(T)
	}
	return *v
}

// symbols reads a field that is one symbol or an array of them.
func (f *fieldReader) symbols() []Symbol {
	switch v := f.field().(type) {
	case nil:
	case Symbol:
		return []Symbol{v}
	case []Symbol:
		return v
	default:
		f.fail(v)
	}
	return nil
}

// id reads a message id: a uint64, a UUID, bytes or a string.
func (f *fieldReader) id() any {
	v := f.field()
	if !isID(v) {
		f.fail(v)
		return nil
	}
	return v
}
