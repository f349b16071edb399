package domain_test

import (
	"bytes"
	"encoding/json"
	"reflect"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
)

// What the codec writes is compared here with what encoding/json makes of the same structs.

func wantSame(t rapid.TB, want, got any) {
	t.Helper()
	if reflect.DeepEqual(want, got) {
		return // much faster
	}
	if diff := cmp.Diff(want, got, exact, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
}

var exact = cmp.Comparer(func(a, b domain.Decimal) bool { return a == b })

// fromJSON returns what encoding/json reads, in a new value of like's type.
func fromJSON(t rapid.TB, data []byte, like any) any {
	t.Helper()
	v := reflect.New(reflect.TypeOf(like).Elem()).Interface()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("encoding/json: %v in\n%s", err, data)
	}
	return v
}

// wantSameJSON compares a document with what encoding/json writes of a value, apart from members that are zero.
func wantSameJSON(t rapid.TB, got []byte, v any) {
	t.Helper()
	want, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("encoding/json: %v", err)
	}
	if diff := cmp.Diff(document(t, want), document(t, got)); diff != "" {
		t.Fatalf("-encoding/json +ours\n%s", diff)
	}
}

func document(t rapid.TB, data []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	return withoutZeros(v)
}

func withoutZeros(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			member = withoutZeros(member)
			switch m := member.(type) {
			case nil:
				delete(v, name)
				continue
			case map[string]any:
				if len(m) == 0 {
					delete(v, name)
					continue
				}
			}
			v[name] = member
		}
		return v
	case []any:
		if len(v) == 0 {
			return nil
		}
		for i := range v {
			v[i] = withoutZeros(v[i])
			if v[i] == nil {
				v[i] = "" // a list keeps its empty entries
			}
		}
		return v
	case string:
		if v == "" || v == uuid.Nil.String() {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	case json.Number:
		if v == "0" {
			return nil
		}
	}
	return v
}
