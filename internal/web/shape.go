package web

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// A kind is a set of kinds of JSON values.
type kind uint8

const (
	kindObject kind = 1 << iota
	kindArray
	kindString
	kindNumber
	kindBool
	kindNull
	kindAny = kindObject | kindArray | kindString | kindNumber | kindBool | kindNull
)

// A shape is what JSON a Go type takes. The nil shape takes anything.
type shape struct {
	kinds  kind
	fields map[string]field // of a struct; nil for other types, which take any member
	elem   *shape           // of elements, or of a map's members
	typ    reflect.Type
	leaf   bool   // a value that encoding/json can refuse although its kind is right
	text   bool   // a leaf that decodes itself from text
	quoted bool   // written as a string that holds its JSON
	whole  bool   // encoding/json decodes it as a whole
	target *shape // of a pointer, which takes null too
}

// A field is a field of a struct.
type field struct {
	*shape
	index []int // as of reflect.StructField, embedded structs included
}

// of returns the field of a struct.
func (f field) of(v reflect.Value) reflect.Value {
	for i, n := range f.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			v = pointed(v)
		}
		v = v.Field(n)
	}
	return v
}

func (sh *shape) element() *shape {
	if sh == nil {
		return nil
	}
	return sh.elem
}

func (sh *shape) field(name []byte) (f field, known bool) {
	switch {
	case sh == nil:
		return field{}, true
	case sh.fields == nil:
		return field{shape: sh.elem}, true
	}
	f, known = sh.fields[string(name)]
	return f, known
}

func (sh *shape) name() string {
	switch sh.kinds {
	case kindObject:
		return "an object"
	case kindArray:
		return "an array"
	case kindString:
		return "a string"
	case kindNumber:
		return "a number"
	case kindBool:
		return "a boolean"
	}
	return "another value"
}

// shapes holds the shapes of types, which never change.
var shapes sync.Map

func shapeOf(t reflect.Type) *shape {
	if sh, ok := shapes.Load(t); ok {
		return sh.(*shape)
	}
	sh := buildShape(t, make(map[reflect.Type]*shape))
	shapes.Store(t, sh)
	return sh
}

var (
	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	timeType        = reflect.TypeFor[time.Time]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// buildShape follows the rules of encoding/json. The shapes under construction end the recursion of types that
// contain themselves.
func buildShape(t reflect.Type, building map[reflect.Type]*shape) *shape {
	if sh, ok := building[t]; ok {
		return sh
	}
	sh := &shape{typ: t}
	building[t] = sh
	switch pointer := reflect.PointerTo(t); {
	case t == timeType: // its own UnmarshalJSON takes null for nothing
		sh.kinds, sh.leaf, sh.whole = kindString, true, true
		return sh
	case pointer.Implements(unmarshaler):
		sh.kinds, sh.leaf, sh.whole = kindAny, true, true
		return sh
	case pointer.Implements(textUnmarshaler):
		sh.kinds, sh.leaf, sh.whole, sh.text = kindString, true, true, true
		return sh
	}
	switch t.Kind() {
	case reflect.Pointer:
		sh.target = buildShape(t.Elem(), building)
	case reflect.Struct:
		sh.kinds, sh.fields = kindObject, make(map[string]field)
		addFields(sh.fields, t, nil, building)
	case reflect.Map:
		sh.kinds, sh.elem, sh.whole = kindObject, buildShape(t.Elem(), building), true
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			sh.kinds, sh.leaf, sh.whole = kindString, true, true // base64
			break
		}
		sh.kinds, sh.elem = kindArray, buildShape(t.Elem(), building)
	case reflect.Array:
		sh.kinds, sh.elem, sh.whole = kindArray, buildShape(t.Elem(), building), true
	case reflect.String:
		sh.kinds = kindString
	case reflect.Bool:
		sh.kinds = kindBool
	case reflect.Interface:
		sh.kinds, sh.whole = kindAny, true
	default:
		sh.kinds, sh.leaf, sh.whole = kindNumber, true, true
	}
	return sh
}

func quotedShape(t reflect.Type) *shape {
	return &shape{kinds: kindString, typ: t, quoted: true, whole: true}
}

// addFields adds the members of a struct that stands at an index, those of embedded structs included. A member of the
// outer struct hides one of an inner struct.
func addFields(fields map[string]field, t reflect.Type, index []int, building map[reflect.Type]*shape) {
	var embedded []reflect.StructField
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case f.Tag.Get("json") == "-":
		case f.Anonymous && name == "" && inner.Kind() == reflect.Struct:
			embedded = append(embedded, f)
		case !f.IsExported():
		default:
			if name == "" {
				name = f.Name
			}
			if _, hidden := fields[name]; hidden {
				continue
			}
			shape := buildShape(f.Type, building)
			if slices.Contains(strings.Split(options, ","), "string") {
				shape = quotedShape(f.Type)
			}
			fields[name] = field{shape, append(slices.Clone(index), f.Index...)}
		}
	}
	for _, f := range embedded {
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		addFields(fields, inner, append(slices.Clone(index), f.Index...), building)
	}
}
