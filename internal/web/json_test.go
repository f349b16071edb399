package web_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/internal/realdata"
	"github.com/orderledger/orderledger/internal/web"
)

func TestCheckJSON(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	many := func(last string) string {
		var b strings.Builder
		for i := range 100 {
			fmt.Fprintf(&b, `"m%d":%d,`, i, i)
		}
		return "{" + b.String() + `"` + last + `":0}`
	}
	tests := []struct {
		name, text, code, pointer string
	}{
		{"object", ` {"a":[1,-2,"x",true,false,null,{}],"b":{"a":[]}} `, "", ""},
		{"scalar", `"x"`, "", ""},
		{"largest integers", `[9007199254740991,-9007199254740991,-0]`, "", ""},
		{"escapes", `"\"\\\/\b\f\n\r\té😀"`, "", ""},
		{"surrogate pair", `"\ud83d\ude00"`, "", ""},
		{"characters beyond ASCII", `{"größe":"漢字😀"}`, "", ""},
		{"as deep as allowed", deep(16), "", ""},
		{"many members", many("z"), "", ""},
		{"one name at two depths", `{"a":{"b":1},"b":{"a":[{"b":2},{"b":3}]}}`, "", ""},

		{"nothing", ``, "empty_body", ""},
		{"only space", " \n\t\r", "empty_body", ""},
		{"byte order mark", "\xef\xbb\xbf{}", "malformed_body", ""},
		{"too deep", deep(17), "too_deep", "/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0"},
		{"two values", `{} {}`, "malformed_body", ""},
		{"two members of one name", `{"a":{"b":1,"c":2,"b":3}}`, "duplicate_field", "/a/b"},
		{"two spellings of one name", `{"a":1,"\u0061":2}`, "duplicate_field", "/a"},
		{"the empty name twice", `{"":1,"":2}`, "duplicate_field", "/"},
		{"a repetition after many members", many("m3"), "duplicate_field", "/m3"},
		{"a late repetition after many members", many("m99"), "duplicate_field", "/m99"},
		{"not UTF-8", "{\"a\":\"\xff\"}", "invalid_utf8", "/a"},
		{"not UTF-8 in a name", "{\"\xc0\x80\":1}", "invalid_utf8", ""},
		{"UTF-8 of a surrogate", "\"\xed\xa0\x80\"", "invalid_utf8", ""},
		{"high surrogate alone", `"\ud83d"`, "lone_surrogate", ""},
		{"high surrogate twice", `"\ud83d\ud83d"`, "lone_surrogate", ""},
		{"high surrogate before something else", `"\ud83d\uffff"`, "lone_surrogate", ""},
		{"low surrogate alone", `["x","\ude00"]`, "lone_surrogate", "/1"},
		{"fraction", `{"a":[0,0.5]}`, "inexact_number", "/a/1"},
		{"exponent", `1e2`, "inexact_number", ""},
		{"2^53", `9007199254740992`, "inexact_number", ""},
		{"a number of many digits", strings.Repeat("9", 1000), "inexact_number", ""},
		{"NaN", `NaN`, "malformed_body", ""},
		{"Infinity", `-Infinity`, "malformed_body", ""},
		{"leading zero", `01`, "malformed_body", ""},
		{"a plus sign", `+1`, "malformed_body", ""},
		{"no digit after the point", `1.`, "malformed_body", ""},
		{"no digit in the exponent", `1e+`, "malformed_body", ""},
		{"a comment", `{/**/}`, "malformed_body", ""},
		{"a comma too many", `[1,]`, "malformed_body", "/1"},
		{"a comma too many in an object", `{"a":1,}`, "malformed_body", ""},
		{"no comma", `[1 2]`, "malformed_body", ""},
		{"no comma in an object", `{"a":1 "b":2}`, "malformed_body", ""},
		{"no colon", `{"a" 1}`, "malformed_body", "/a"},
		{"a name without quotes", `{a:1}`, "malformed_body", ""},
		{"a broken name", `{"a`, "malformed_body", ""},
		{"single quotes", `'a'`, "malformed_body", ""},
		{"a control character", "\"a\nb\"", "malformed_body", ""},
		{"an unknown escape", `"\x41"`, "malformed_body", ""},
		{"half an escape", `"\u00g0"`, "malformed_body", ""},
		{"an escape that ends", `"\`, "malformed_body", ""},
		{"a string that ends", `"abc`, "malformed_body", ""},
		{"an array that ends", `[1,`, "malformed_body", "/1"},
		{"a literal that ends", `{"a":tru`, "malformed_body", "/a"},
		{"a NUL", "[1\x00]", "malformed_body", ""},
		{"a name with a slash and a tilde", `{"a/b~c":[01]}`, "malformed_body", "/a~1b~0c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := web.CheckJSON([]byte(tt.text), web.Limits{})
			if tt.code == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var bad *web.JSONError
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want a JSONError with the code %s", err, tt.code)
			}
			if bad.Code != tt.code || bad.Pointer != tt.pointer {
				t.Errorf("got %s at %q, want %s at %q (%v)", bad.Code, bad.Pointer, tt.code, tt.pointer, bad)
			}
			if len(bad.Error()) > 500 {
				t.Errorf("the error has %d bytes", len(bad.Error()))
			}
		})
	}
}

func TestCheckJSONLimits(t *testing.T) {
	err := web.CheckJSON([]byte(`[[]]`), web.Limits{Depth: 1})
	if bad := jsonError(t, err); bad.Code != "too_deep" {
		t.Errorf("depth: %v", bad)
	}
	if err := web.CheckJSON([]byte(strings.Repeat("[", 100)+strings.Repeat("]", 100)), web.Limits{Depth: 100}); err != nil {
		t.Errorf("depth 100: %v", err)
	}
	err = web.CheckJSON([]byte(`"12345"`), web.Limits{Bytes: 6})
	if bad := jsonError(t, err); bad.Code != "body_too_large" {
		t.Errorf("bytes: %v", bad)
	}
	if err := web.CheckJSON([]byte(`"12345"`), web.Limits{Bytes: 7}); err != nil {
		t.Errorf("7 bytes: %v", err)
	}
}

func jsonError(t *testing.T, err error) *web.JSONError {
	t.Helper()
	var bad *web.JSONError
	if !errors.As(err, &bad) {
		t.Fatalf("got %v, want a JSONError", err)
	}
	return bad
}

// A huge name or string must not come back in the error.
func TestJSONErrorIsShort(t *testing.T) {
	huge := strings.Repeat("ä", 100_000)
	for _, text := range []string{
		`{"` + huge + `":01}`,
		`{"` + huge + `":1,"` + huge + `":1}`,
		`{"x":"` + huge + `"`,
		`{"count":"` + huge + `"}`,
		`{"when":"` + huge + `"}`,
		strings.Repeat(`{"`+huge[:100]+`":`, 16) + "x",
	} {
		var v struct {
			X     string    `json:"x"`
			Count int       `json:"count"`
			When  time.Time `json:"when"`
		}
		bad := jsonError(t, web.DecodeStrict([]byte(text), &v))
		if len(bad.Error()) > 600 || !utf8.ValidString(bad.Error()) {
			t.Errorf("%.40s: the error has %d bytes, valid UTF-8: %v", text, len(bad.Error()), utf8.ValidString(bad.Error()))
		}
	}
}

type Tree struct {
	Name     string           `json:"name"`
	Children []*Tree          `json:"children,omitempty"`
	ByName   map[string]*Tree `json:"by_name,omitempty"`
}

type list []*list

type base struct {
	ID    uuid.UUID `json:"id"`
	Count int8      `json:"count"`
	Text  int       `json:"text"` // hidden by sample's
}

type sample struct {
	base
	*Tree
	Text    string            `json:"text"`
	Flag    bool              `json:"flag"`
	Maybe   *int              `json:"maybe"`
	When    time.Time         `json:"when"`
	Labels  map[string]string `json:"labels"`
	Raw     json.RawMessage   `json:"raw"`
	Any     any               `json:"any"`
	Bytes   []byte            `json:"bytes"`
	Pair    [2]int            `json:"pair"`
	Quoted  int               `json:"quoted,string"`
	Hidden  string            `json:"-"`
	Plain   string
	private string //nolint:unused // the test is that it cannot be set
}

func TestDecodeStrict(t *testing.T) {
	tests := []struct {
		name, text, code, pointer string
	}{
		{"everything", `{"id":"6ba7b810-9dad-11d1-80b4-00c04fd430c8","count":-1,"text":"x","flag":true,"maybe":1,
			"when":"2026-11-22T10:00:00Z","labels":{"any name":"x"},"raw":{"a":[null]},"any":[{"b":null}],"bytes":"AAEC","pair":[1,2],
			"quoted":"12","Plain":"x","name":"root","children":[{"name":"a","children":[]},null],"by_name":{"q":{"name":"q"}}}`, "", ""},
		{"null where there may be none", `{"maybe":null,"any":null,"raw":null}`, "", ""},
		{"unknown", `{"text":"x","colour":"red"}`, "unknown_field", "/colour"},
		{"unknown, deep down", `{"children":[{"name":"a"},{"children":[{"title":"b"}]}]}`, "unknown_field", "/children/1/children/0/title"},
		{"unknown in a map of structs", `{"by_name":{"q":{"x":1}}}`, "unknown_field", "/by_name/q/x"},
		{"another case", `{"Text":"x"}`, "unknown_field", "/Text"},
		{"both cases", `{"text":"x","TEXT":"y"}`, "unknown_field", "/TEXT"},
		{"a member without tag in lower case", `{"plain":"x"}`, "unknown_field", "/plain"},
		{"a hidden member", `{"Hidden":"x"}`, "unknown_field", "/Hidden"},
		{"an unexported member", `{"private":"x"}`, "unknown_field", "/private"},
		{"an embedded struct by its name", `{"base":{}}`, "unknown_field", "/base"},
		{"number for string", `{"text":1}`, "wrong_type", "/text"},
		{"string for number", `{"count":"1"}`, "wrong_type", "/count"},
		{"object for array", `{"children":{}}`, "wrong_type", "/children"},
		{"array for object", `{"labels":[]}`, "wrong_type", "/labels"},
		{"string for boolean", `{"flag":"true"}`, "wrong_type", "/flag"},
		{"boolean for string", `{"text":true}`, "wrong_type", "/text"},
		{"number in a map of strings", `{"labels":{"a":1}}`, "wrong_type", "/labels/a"},
		{"number where one in quotes is due", `{"quoted":1}`, "wrong_type", "/quoted"},
		{"null for string", `{"text":null}`, "wrong_type", "/text"},
		{"null for number", `{"count":null}`, "wrong_type", "/count"},
		{"null for array", `{"children":null}`, "wrong_type", "/children"},
		{"null for time", `{"when":null}`, "wrong_type", "/when"},
		{"null for id", `{"id":null}`, "wrong_type", "/id"},
		{"null for all", `null`, "wrong_type", ""},
		{"overflow", `{"count":128}`, "invalid_value", "/count"},
		{"overflow in an array", `{"pair":[1,9007199254740991],"count":300}`, "invalid_value", "/count"},
		{"no UUID", `{"id":"6ba7b810"}`, "invalid_value", "/id"},
		{"no time", `{"when":"yesterday"}`, "invalid_value", "/when"},
		{"no base64", `{"bytes":"%"}`, "invalid_value", "/bytes"},
		{"no number in quotes", `{"quoted":"x"}`, "invalid_value", ""},
		{"repeated", `{"any":{"a":1,"a":1}}`, "duplicate_field", "/any/a"},
		{"truncated", `{"text":"x"`, "malformed_body", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v sample
			err := web.DecodeStrict([]byte(tt.text), &v)
			if tt.code == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if bad := jsonError(t, err); bad.Code != tt.code || bad.Pointer != tt.pointer {
				t.Errorf("got %s at %q, want %s at %q (%v)", bad.Code, bad.Pointer, tt.code, tt.pointer, bad)
			}
		})
	}
}

func TestDecodeStrictValues(t *testing.T) {
	var v sample
	if err := web.DecodeStrict([]byte(`{"count":3,"children":[{"name":"a"}],"Plain":"p","maybe":7}`), &v); err != nil {
		t.Fatal(err)
	}
	if v.Count != 3 || v.Children[0].Name != "a" || v.Plain != "p" || *v.Maybe != 7 {
		t.Errorf("decoded %+v", v)
	}
	var l list
	if err := web.DecodeStrict([]byte(`[[],[null,[]]]`), &l); err != nil || len(l) != 2 {
		t.Errorf("a type of itself: %v, %v", l, err)
	}
	if bad := jsonError(t, web.DecodeStrict([]byte(`[[],[[1]]]`), &l)); bad.Code != "wrong_type" || bad.Pointer != "/1/0/0" {
		t.Errorf("a type of itself: %v", bad)
	}
	var a any
	if err := web.DecodeStrict([]byte(`{"x":[1]}`), &a); err != nil {
		t.Error(err)
	}
}

// What DecodeStrict takes, it decodes as encoding/json does.
func TestDecodeStrictDecodesAsEncodingJSON(t *testing.T) {
	for _, text := range []string{
		`{"id":"6ba7b810-9dad-11d1-80b4-00c04fd430c8","count":-1,"text":"x","flag":true,"maybe":1,"when":"2026-11-22T10:00:00Z",
			"labels":{"any name":"x","":"\u00e9\n"},"raw":{"a":[null, 1 ]},"any":[{"b":null}],"bytes":"AAEC","pair":[1,2],"quoted":"12",
			"Plain":"a\"\\\/\ud83d\ude00é","name":"root","children":[{"name":"a","children":[]},null],"by_name":{"q":{"name":"q","children":[null]}}}`,
		`{"maybe":null,"any":null,"raw":null,"bytes":"","labels":{},"children":[],"flag":false,"pair":[],"Plain":""}`,
		`{"id":"6ba7b810-9dad-11d1-80b4-00c04fd430\u00638","count":0,"any":-12,"raw":"x","pair":[1,2,3]}`,
		` { "children" : [ { "name" : "a" } , {"children":[{"by_name":{"":null}}]} ] } `,
		`{}`,
	} {
		got, want := sample{Maybe: new(int), Plain: "stays"}, sample{Maybe: new(int), Plain: "stays"}
		if err := web.DecodeStrict([]byte(text), &got); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(sample{})); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// What is decoded outlasts the text.
func TestDecodeStrictCopies(t *testing.T) {
	text := []byte(`{"text":"kept","Plain":"k\u0065pt","raw":"kept","labels":{"a":"kept"}}`)
	var v sample
	if err := web.DecodeStrict(text, &v); err != nil {
		t.Fatal(err)
	}
	clear(text)
	if v.Text != "kept" || v.Plain != "kept" || string(v.Raw) != `"kept"` || v.Labels["a"] != "kept" {
		t.Errorf("decoded %+v", v)
	}
}

func TestDecodeStrictNeedsAPointer(t *testing.T) {
	for _, v := range []any{nil, 1, (*int)(nil)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v: no panic", v)
				}
			}()
			_ = web.DecodeStrict([]byte(`1`), v)
		}()
	}
}

// What encoding/json writes is accepted, and comes back as it was.
func TestDecodeStrictTakesWhatEncodingJSONWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.String())).Draw(t, "value")
		for name, texts := range want {
			if texts == nil {
				want[name] = []string{}
			}
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string][]string
		if err := web.DecodeStrict(text, &got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// stricter are the codes with which a text that the grammar allows is refused all the same.
var stricter = map[string]bool{"inexact_number": true, "duplicate_field": true, "too_deep": true, "lone_surrogate": true}

func TestJSONTestSuite(t *testing.T) {
	tests := 0
	for name, text := range suite(t) {
		tests++
		err := web.CheckJSON(text, web.Limits{})
		var bad *web.JSONError
		if err != nil {
			bad = jsonError(t, err)
		}
		switch name[:2] {
		case "y_":
			if bad != nil && !stricter[bad.Code] {
				t.Errorf("%s is refused: %v", name, bad)
			}
		case "n_":
			if bad == nil {
				t.Errorf("%s is accepted", name)
			}
		}
		var v any
		if json.Unmarshal(text, &v) != nil && bad == nil {
			t.Errorf("%s is accepted, but encoding/json refuses it", name)
		}
	}
	if tests < 300 {
		t.Errorf("the suite has %d texts", tests)
	}
}

// suite reads the texts of the JSON test suite by their names.
func suite(t *testing.T) map[string][]byte {
	t.Helper()
	packed, err := gzip.NewReader(bytes.NewReader(hostile(t, "JSONTestSuite_parsing.tar.gz")))
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string][]byte)
	for r := tar.NewReader(packed); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatal(err)
		}
		if path.Ext(header.Name) != ".json" {
			continue
		}
		if texts[path.Base(header.Name)], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNaughtyStrings(t *testing.T) {
	var naughty []string
	if err := json.Unmarshal(hostile(t, "blns.json"), &naughty); err != nil {
		t.Fatal(err)
	}
	for _, want := range naughty {
		text, err := json.Marshal(map[string]string{"text": want})
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Text string `json:"text"`
		}
		if err := web.DecodeStrict(text, &got); err != nil || got.Text != strings.ToValidUTF8(want, "\uFFFD") {
			t.Errorf("%q became %q: %v", want, got.Text, err)
		}
		_ = web.CheckJSON([]byte(want), web.Limits{}) // it does not panic
	}
}

// hostile reads a file of hostile inputs that is not part of the project.
func hostile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(realdata.Path(t, "hostile", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzCheckJSON holds the scanner to encoding/json: what it accepts is JSON, survives a round trip, and is refused
// only for a reason.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,"x",null]}`, `{"a":1,"a":2}`, `"\ud83d\ude00"`, `"\ud83d"`, `1e400`, `-0`, `[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]`, "\xef\xbb\xbf1", "\"\xff\"", `{"` + "\\u0061" + `":0}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		err := web.CheckJSON(text, web.Limits{})
		var v sample
		_ = web.DecodeStrict(text, &v)
		if err == nil {
			if !json.Valid(text) {
				t.Fatalf("accepted, but no JSON: %q", text)
			}
			var any1 any
			if err := json.Unmarshal(text, &any1); err != nil {
				t.Fatal(err)
			}
			again, _ := json.Marshal(any1)
			if err := web.CheckJSON(again, web.Limits{}); err != nil {
				t.Fatalf("%q is accepted, %q is not: %v", text, again, err)
			}
			return
		}
		bad := jsonError(t, err)
		if len(bad.Error()) > 600 || bad.Offset > len(text) {
			t.Fatalf("the error has %d bytes and offset %d of %d", len(bad.Error()), bad.Offset, len(text))
		}
		if json.Valid(text) && utf8.Valid(text) && !stricter[bad.Code] {
			t.Fatalf("%q is JSON and refused: %v", text, bad)
		}
	})
}

func BenchmarkDecodeStrict(b *testing.B) {
	text := []byte(`{"name":"root","children":[` + strings.Repeat(`{"name":"a line of an order","children":[]},`, 20) + `{"name":"last"}]}`)
	for name, decode := range map[string]func([]byte, any) error{"strict": web.DecodeStrict, "encoding/json": json.Unmarshal} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				var v Tree
				if err := decode(text, &v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
