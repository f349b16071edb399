package message_test

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/message"
)

// A body is split as encoding/json splits it: what that refuses is refused, and what that takes says the same when it
// is put together again without white space or escapes in names.
func TestDecodeReadsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := deliveries().Draw(t, "delivery")
		if d.Event != nil && (len(d.Event.Stream) > eventstore.MaxStreamName || len(d.Event.Type) > eventstore.MaxTypeName) {
			t.Skip("no ledger takes it")
		}
		whole := bodyOf(d, "eu")
		for range 20 {
			body := damaged(t, whole)
			got, gotWhole, err := message.Decode(body)
			plain, ok := rebuilt(body)
			if !ok {
				if err == nil {
					t.Fatalf("taken: %q", body)
				}
				continue
			}
			want, wantWhole, wantErr := message.Decode(plain)
			if diff := cmp.Diff(want, got); diff != "" || gotWhole != wantWhole || (err == nil) != (wantErr == nil) {
				t.Fatalf("error %v, want %v; (-want +got):\n%s\n%q\n%q", err, wantErr, diff, body, plain)
			}
		}
	})
}

// rebuilt returns a JSON object as encoding/json reads it. It reports false for what is no object in UTF-8, or has a
// member twice.
func rebuilt(body []byte) ([]byte, bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	if open, err := d.Token(); err != nil || open != json.Delim('{') || !json.Valid(body) || !utf8.Valid(body) {
		return nil, false
	}
	seen := map[string]bool{}
	out := []byte("{")
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil || seen[name.(string)] {
			return nil, false
		}
		if len(seen) > 0 {
			out = append(out, ',')
		}
		seen[name.(string)] = true
		quoted, _ := json.Marshal(name)
		out = append(append(append(out, quoted...), ':'), value...)
	}
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	_, err := d.Token()
	return append(out, '}'), err == io.EOF
}

// damaged returns a body with up to three changes.
func damaged(t *rapid.T, body []byte) []byte {
	body = bytes.Clone(body)
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		i := rapid.IntRange(0, len(body)).Draw(t, "at")
		j := min(len(body), i+rapid.IntRange(0, 8).Draw(t, "length"))
		if rapid.Bool().Draw(t, "whole member") {
			i = bytes.LastIndexByte(body[:i], ',') + 1
			j = i + bytes.IndexByte(append(body[i:len(body):len(body)], ','), ',')
		}
		var by []byte
		switch rapid.IntRange(0, 2).Draw(t, "change") {
		case 0:
		case 1:
			by = append(append(bytes.Clone(body[i:j]), ','), body[i:j]...)
		case 2:
			by = []byte(rapid.SampledFrom([]string{
				`"`, `\`, `\"`, `\n`, `\u0061`, `\ud800`, `\/`, `\x`, "{", "}", "[", "]", "{}", "{]", "[}", ",", ":", " ", "\t", "\n", "\r", "\x00", "\xff",
				"1", "-", "1e", "null", "true", `"x":1,`, `,"x":{"a":["}"]}`, `,"\u0078":"\\"`, "é",
			}).Draw(t, "token"))
		}
		body = slices.Replace(body, i, j, by...)
	}
	return body
}

func TestDecodeFindsTheEndOfEveryValue(t *testing.T) {
	for _, value := range []string{
		`{}`, `[]`, `{"a":"}"}`, `["]",[{"b":"\\"}]]`, `"\\"`, `"\""`, `"a,b:c"`, `0`, `-1.5e+3`, `true`, `null`, `[ 1 , 2 ]`,
	} {
		for _, space := range []string{"", " ", "\n\t\r "} {
			d := shipped()
			body := bodyOf(d, "eu")
			for _, at := range []int{1, len(body) - 1} {
				member := space + strconv.Quote("unknown") + space + ":" + space + value + space
				if at == 1 {
					member += ","
				} else {
					member = "," + member
				}
				got, whole, err := message.Decode(slices.Insert(bytes.Clone(body), at, []byte(member)...))
				if err != nil || !whole {
					t.Fatalf("%q: whole %v, error %v", member, whole, err)
				}
				if diff := cmp.Diff(d, got); diff != "" {
					t.Errorf("%q (-want +got):\n%s", member, diff)
				}
			}
		}
	}
}

func TestDecodeRefusesWhatIsNoValue(t *testing.T) {
	body := bodyOf(shipped(), "eu")
	for _, name := range []string{`[1]`, `{}`, `null `, `1 `, `"a" "b"`, ``} {
		if _, _, err := message.Decode([]byte(`{` + name + `:2,` + string(body[1:]))); err == nil {
			t.Errorf("took %q as a name", name)
		}
	}
	for _, value := range []string{
		"", "\"\n\"", "\"a\x00b\"", `"\x"`, `"a`, `"a"b"`, `"a\`, `01`, `1 2`, `tru`, `nulls`, `{"a":}`, `{"a" 1}`, `[1,]`, `[}`, `{]`, `{"a":1}}`, `\"`, `,`,
	} {
		for _, text := range []string{`{"unknown":` + value + `,` + string(body[1:]), string(body[:len(body)-1]) + `,"unknown":` + value + `}`} {
			if _, _, err := message.Decode([]byte(text)); err == nil {
				t.Errorf("took %q", value)
			}
		}
	}
}
