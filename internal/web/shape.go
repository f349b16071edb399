package web

import (
	"encoding"
	"encoding/json"
	"reflect"
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
	fields map[string]*shape // of a struct; nil for other types, which take any member
	elem   *shape            // of elements, or of a map's members
	typ    reflect.Type
	leaf   bool   // a value that encoding/json can refuse although its kind is right
	target *shape // of a pointer, which takes null too
}

func (sh *shape) element() *shape {
	if sh == nil {
		return nil
	}
	return sh.elem
}

func (sh *shape) field(name []byte) (field *shape, known bool) {
	switch {
	case sh == nil:
		return nil, true
	case sh.fields == nil:
		return sh.elem, true
	}
	field, known = sh.fields[string(name)]
	return field, known
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
		sh.kinds, sh.leaf = kindString, true
		return sh
	case pointer.Implements(unmarshaler):
		sh.kinds, sh.leaf = kindAny, true
		return sh
	case pointer.Implements(textUnmarshaler):
		sh.kinds, sh.leaf = kindString, true
		return sh
	}
	switch t.Kind() {
	case reflect.Pointer:
		sh.target = buildShape(t.Elem(), building)
	case reflect.Struct:
		sh.kinds, sh.fields = kindObject, make(map[string]*shape)
		addFields(sh.fields, t, building)
	case reflect.Map:
		sh.kinds, sh.elem = kindObject, buildShape(t.Elem(), building)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			sh.kinds, sh.leaf = kindString, true // base64
			break
		}
		sh.kinds, sh.elem = kindArray, buildShape(t.Elem(), building)
	case reflect.Array:
		sh.kinds, sh.elem = kindArray, buildShape(t.Elem(), building)
	case reflect.String:
		sh.kinds = kindString
	case reflect.Bool:
		sh.kinds = kindBool
	case reflect.Interface:
		sh.kinds = kindAny
	default:
		sh.kinds, sh.leaf = kindNumber, true
	}
	return sh
}

// addFields adds a struct's members, those of embedded structs included. A member of the outer struct hides one of
// an inner struct.
func addFields(fields map[string]*shape, t reflect.Type, building map[reflect.Type]*shape) {
	var embedded []reflect.Type
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
			embedded = append(embedded, inner)
		case !f.IsExported():
		default:
			if name == "" {
				name = f.Name
			}
			if _, hidden := fields[name]; hidden {
				continue
			}
			field := buildShape(f.Type, building)
			if options == "string" || strings.HasSuffix(options, ",string") || strings.HasPrefix(options, "string,") {
				field = &shape{kinds: kindString, typ: f.Type}
			}
			fields[name] = field
		}
	}
	for _, inner := range embedded {
		addFields(fields, inner, building)
	}
}
