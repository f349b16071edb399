package message_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/message"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var ledger = uuid.MustParse("0b7e6c0a-1f35-4d0e-9a44-5a3b8a6f1c11")

// shipped is an event as the domain writes it.
func shipped() eventstore.Delivery {
	e := &eventstore.Recorded{
		Event: eventstore.Event{
			ID:   uuid.MustParse("9d5a4f2e-6c7b-5e1d-8f3a-2b1c0d9e8f7a"),
			Type: "order.shipped.v1",
			Metadata: []byte(`{"command":"5f0c1c5e-64b5-4a86-8b3f-4c1f6a1f0a52","digest":"c0ffee","actor":{"kind":"system","issuer":"local","subject":"plant-jena"},` +
				`"business_unit":"optics-eu","correlation":"c-77","causation":"5f0c1c5e-64b5-4a86-8b3f-4c1f6a1f0a52",` +
				`"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","occurred":"2026-11-22T09:58:15.5+01:00","epoch":2}`),
			Data: []byte(`{"fulfilment": "f1","note":"<b>&\u00e9","lines":[{"line":"1","quantity":"2"}]}`),
		},
		Stream:   "order-7c9e6679-7425-40de-944b-e07fc1f90ae7",
		Revision: 5,
		Position: 123456789012,
		Time:     time.Date(2026, 11, 22, 8, 58, 16, 123456789, time.UTC),
	}
	return chained(eventstore.Delivery{Source: ledger, Incarnation: 1, Previous: 123456789001, Position: e.Position, Event: e})
}

// chained fills in what follows from the event.
func chained(d eventstore.Delivery) eventstore.Delivery {
	d.Event.Chain = eventstore.Chain(eventstore.Hash{}, d.Event)
	d.Lane = eventstore.Lane(d.Event.Stream, eventstore.DefaultLanes)
	return d
}

func activated() eventstore.Delivery {
	d := shipped()
	d.Event.Stream, d.Event.Type, d.Event.Metadata = "rules-optics-eu", "ruleset.activated.v1", nil
	d.Event.Data = []byte("not JSON")
	return chained(d)
}

func large() eventstore.Delivery {
	d := shipped()
	d.Event.Data = []byte(`"` + strings.Repeat("x", message.MaxBody) + `"`)
	return chained(d)
}

func tick() eventstore.Delivery {
	d := shipped()
	d.Event = nil
	return d
}

func TestGoldenMessages(t *testing.T) {
	for name, d := range map[string]eventstore.Delivery{
		"event": shipped(), "other-stream": activated(), "large": large(), "tick": tick(),
	} {
		t.Run(name, func(t *testing.T) {
			got := bodyOf(d, "eu-central")
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("the message has changed (-%s +now):\n%s", file, diff)
			}
			decoded, whole, err := message.Decode(want)
			if err != nil {
				t.Fatal(err)
			}
			if name == "large" {
				d.Event.Data, d.Event.Metadata = nil, nil
			}
			if whole != (name != "large") {
				t.Errorf("whole = %v", whole)
			}
			if diff := cmp.Diff(d, decoded, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("read back (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheContractNamesEveryMember(t *testing.T) {
	contract, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	odd := shipped()
	odd.Event.Metadata, odd.Event.Data = []byte("\xff"), []byte("null")
	for _, d := range []eventstore.Delivery{shipped(), activated(), large(), tick(), odd} {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(bodyOf(d, "eu"), &members); err != nil {
			t.Fatal(err)
		}
		for name := range members {
			if !strings.Contains(string(contract), "| `"+name+"` |") {
				t.Errorf("docs/events.md has no row for %s", name)
			}
		}
	}
}

func TestDataAndMetadataTravelUnchanged(t *testing.T) {
	for _, data := range []string{
		"", `{}`, `{ "a" : 1 ,"a":2}`, ` {"a":1}`, "{}\n", "null", "0", `"<>&\u2028"`, "\"\u2028\"", `"\ud800"`, "\"\xff\"", "{", "1 2",
		strings.Repeat("[", 9000) + strings.Repeat("]", 9000), `1e400`, `-0.10`,
	} {
		d := shipped()
		d.Event.Data, d.Event.Metadata = []byte(data), []byte(data)
		got, whole, err := message.Decode(bodyOf(d, ""))
		if err != nil || !whole {
			t.Errorf("%.40q: whole %v, error %v", data, whole, err)
			continue
		}
		if diff := cmp.Diff(d, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%.40q (-want +got):\n%s", data, diff)
		}
	}
}

// deliveries draws any delivery that a ledger can give, and those that it should not.
func deliveries() *rapid.Generator[eventstore.Delivery] {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"order-", "order", "-", "tick.v1", "\x00", `"\`, "ü"}))
	ids := rapid.Map(rapid.SliceOfN(rapid.Byte(), 16, 16), func(b []byte) uuid.UUID { return uuid.UUID(b) })
	content := rapid.OneOf(
		rapid.SliceOf(rapid.Byte()),
		rapid.Map(rapid.String(), func(s string) []byte {
			b, _ := json.Marshal(map[string]string{"business_unit": s, "occurred": s})
			return b
		}),
		rapid.SampledFrom([][]byte{nil, []byte("null"), []byte(" {}"), []byte(`{"epoch":3,"occurred":"2020-01-01T00:00:00Z"}`)}),
	)
	return rapid.Custom(func(t *rapid.T) eventstore.Delivery {
		position := rapid.Uint64Min(1).Draw(t, "position")
		d := eventstore.Delivery{
			Source:      ids.Draw(t, "source"),
			Incarnation: rapid.Uint32().Draw(t, "incarnation"),
			Lane:        rapid.IntRange(0, message.MaxLanes-1).Draw(t, "lane"),
			Previous:    eventstore.Position(rapid.Uint64Max(position-1).Draw(t, "previous")),
			Position:    eventstore.Position(position),
		}
		if rapid.Bool().Draw(t, "tick") {
			return d
		}
		stream := rapid.SampledFrom([]string{"", "order-", "rules-"}).Draw(t, "prefix") + text.Draw(t, "stream")
		d.Event = &eventstore.Recorded{
			Event: eventstore.Event{
				ID:       ids.Draw(t, "id"),
				Type:     rapid.OneOf(rapid.Just("tick.v1"), rapid.Map(text, func(s string) string { return "a" + s })).Draw(t, "type"),
				Metadata: content.Draw(t, "metadata"),
				Data:     content.Draw(t, "data"),
			},
			Stream:   "s" + stream,
			Revision: rapid.Uint64().Draw(t, "revision"),
			Position: d.Position,
			Time:     time.Unix(rapid.Int64Range(-1<<32, 1<<33).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC(),
		}
		if stream != "" {
			d.Event.Stream = stream
		}
		if rapid.Bool().Draw(t, "chained") {
			d.Event.Chain = eventstore.Chain(eventstore.Hash{}, d.Event)
		}
		return d
	})
}

func TestEveryDeliveryIsReadBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := deliveries().Draw(t, "delivery")
		if d.Event != nil && (len(d.Event.Stream) > eventstore.MaxStreamName || len(d.Event.Type) > eventstore.MaxTypeName) {
			t.Skip("no ledger takes it")
		}
		body := bodyOf(d, rapid.String().Draw(t, "region"))
		if !json.Valid(body) {
			t.Fatalf("not JSON: %q", body)
		}
		got, whole, err := message.Decode(body)
		if err != nil || !whole {
			t.Fatalf("whole %v, error %v: %s", whole, err, body)
		}
		if diff := cmp.Diff(d, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-want +got):\n%s\n%s", diff, body)
		}
	})
}

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	event := string(bodyOf(shipped(), "eu"))
	tick := string(bodyOf(tick(), "eu"))
	reference := string(bodyOf(large(), "eu"))
	other := string(bodyOf(activated(), "eu"))
	// change replaces the value of a member, or removes it.
	change := func(body, name, value string) string {
		t.Helper()
		var m map[string]json.RawMessage
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			t.Fatal(err)
		}
		delete(m, name)
		if value != "" {
			m[name] = json.RawMessage(value)
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	type test struct{ body, want string }
	tests := []test{
		{"", "not a JSON object"},
		{"[]", "not a JSON object"},
		{"{", "not a JSON object"},
		{`{"a":1`, "not a JSON object"},
		{`{"a" 1}`, `"a" is not JSON`},
		{`{"a":{]}`, `"a" is not JSON`},
		{`{1:2}`, "not a JSON object"},
		{"{}{}", "something follows"},
		{"{\"a\":\"\xff\"}", "not UTF-8"},
		{strings.Repeat(" ", message.MaxBody+1), "at most"},
		{`{"specversion":"1.0",` + event[1:], `"specversion" occurs twice`},
		{`{"x":1,"x":2}`, `"x" occurs twice`},
		{`{"x":1,"\u0078":2}`, `"x" occurs twice`},
		{change(event, "specversion", `"0.3"`), "specversion is not"},
		{change(event, "specversion", `1.0`), "specversion is not a string"},
		{change(event, "type", `"com.other.order.shipped.v1"`), "type is not"},
		{change(event, "type", `"com.orderledger."`), "type is not"},
		{change(event, "type", `"com.orderledger.`+strings.Repeat("x", 129)+`"`), "type is not"},
		{change(event, "source", `"/elsewhere/`+ledger.String()+`"`), "source does not"},
		{change(event, "source", `"/ledgers/7"`), "source is not a UUID"},
		{change(event, "source", `"/ledgers/`+strings.ToUpper(ledger.String())+`"`), "source is not a UUID"},
		{change(event, "id", `"1"`), "id is not a UUID"},
		{change(event, "subject", `""`), "subject is empty"},
		{change(event, "subject", `"`+strings.Repeat("x", 300)+`"`), "subject is empty or too long"},
		{change(event, "revision", `5`), "revision is not a string"},
		{change(event, "revision", `"05"`), "revision is not a whole number"},
		{change(event, "revision", `"-1"`), "revision is not a whole number"},
		{change(event, "revision", `null`), "revision is missing"},
		{change(event, "position", `"18446744073709551616"`), "position is not a whole number"},
		{change(event, "previousposition", `"123456789012"`), "previousposition is not below position"},
		{change(event, "incarnation", `"4294967296"`), "incarnation is not a whole number of 32 bits"},
		{change(event, "lane", `"0"`), "lane is not two"},
		{change(event, "lane", `"0A"`), "lane is not two"},
		{change(event, "lane", `"100"`), "lane is not two"},
		{change(event, "chain", `"00"`), "chain is not"},
		{change(event, "chain", `"`+strings.Repeat("g", 64)+`"`), "chain is not"},
		{change(event, "recordedtime", `"today"`), "recordedtime is not a time"},
		{change(event, "metadata", `{}`), "metadata is not a string"},
		{change(event, "metadatabase64", `"e30="`), "metadatabase64 stands beside"},
		{change(event, "data_base64", `"e30="`), "data_base64 stands beside"},
		{change(event, "dataref", `"/elsewhere"`), "dataref is not"},
		{change(event, "stream", `"order-7c9e6679-7425-40de-944b-e07fc1f90ae7"`), "stream repeats"},
		{change(other, "subject", `"rules-us"`), "subject does not fit"},
		{change(other, "data_base64", `"e30"`), "data_base64 is not base64"},
		{change(other, "data_base64", `"e31="`), "data_base64 is not base64"}, // two spellings of the same bytes
		{change(reference, "data", `{}`), "data stands beside dataref"},
		{change(reference, "metadata", `"{}"`), "metadata stands beside dataref"},
		{change(tick, "id", `"tick"`), "id is not"},
		{change(tick, "type", `"com.orderledger.tick.v2"`), "id is not a UUID"},
	}
	for _, name := range []string{"specversion", "id", "type", "source", "subject", "revision", "position", "previousposition", "incarnation", "lane", "chain", "recordedtime"} {
		tests = append(tests, test{change(event, name, ""), name + " is missing"})
	}
	many := event
	for i := range 64 {
		many = change(many, "x"+string(rune('a'+i%26))+string(rune('a'+i/26)), "0")
	}
	tests = append(tests, test{many, "more than 64 members"})
	for _, tt := range tests {
		d, whole, err := message.Decode([]byte(tt.body))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.120s\nerror %v, want one with %q", tt.body, err, tt.want)
		}
		if whole || d.Event != nil || d.Position != 0 {
			t.Errorf("%.120s\nan unreadable message brought something", tt.body)
		}
	}
	for _, body := range []string{
		change(event, "comexampleunknown", `{"a":[1]}`), // later versions add attributes
		change(event, "epoch", ""), change(event, "time", ""), change(event, "traceparent", `"00-other"`),
	} {
		if _, whole, err := message.Decode([]byte(body)); err != nil || !whole {
			t.Errorf("%s\nwhole %v, error %v", body, whole, err)
		}
	}
}

func TestErrorsQuoteNoPersonalData(t *testing.T) {
	body := strings.ReplaceAll(string(bodyOf(shipped(), "")), `"`+ledger.String(), `"Erika Mustermann`)
	body = strings.Replace(body, `"lane":"`, `"lane":"Erika Mustermann`, 1)
	if _, _, err := message.Decode([]byte(body)); err == nil || strings.Contains(err.Error(), "Erika") {
		t.Errorf("error %v", err)
	}
}

func TestMetadataOfAMessage(t *testing.T) {
	m := message.New(shipped(), "eu-central")
	want := map[string]string{
		message.KeyMessageID:    "9d5a4f2e-6c7b-5e1d-8f3a-2b1c0d9e8f7a",
		message.KeySession:      message.LaneName(shipped().Lane),
		message.KeySubject:      "7c9e6679-7425-40de-944b-e07fc1f90ae7",
		message.KeyContentType:  "application/cloudevents+json",
		message.KeyType:         "com.orderledger.order.shipped.v1",
		message.KeyRegion:       "eu-central",
		message.KeyBusinessUnit: "optics-eu",
	}
	if diff := cmp.Diff(want, map[string]string(m.Metadata)); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if m.UUID != want[message.KeyMessageID] {
		t.Errorf("UUID %s", m.UUID)
	}
	if string(m.Payload) != string(bodyOf(shipped(), "eu-central")) {
		t.Error("the payload is not the encoded delivery")
	}
	d := shipped()
	d.Event.Metadata = []byte(`{"business_unit":"a\u0000b","correlation":"` + strings.Repeat("x", 257) + `"}`)
	m = message.New(d, "")
	if _, ok := m.Metadata[message.KeyBusinessUnit]; ok || strings.Contains(string(m.Payload), "correlationid") {
		t.Error("a value that no broker takes went into an attribute")
	}
	m = message.New(tick(), "eu-central")
	want = map[string]string{
		message.KeyMessageID:   m.UUID,
		message.KeySession:     message.LaneName(tick().Lane),
		message.KeyContentType: message.ContentType,
		message.KeyType:        message.TickType,
		message.KeyRegion:      "eu-central",
	}
	if diff := cmp.Diff(want, map[string]string(m.Metadata)); diff != "" {
		t.Errorf("tick (-want +got):\n%s", diff)
	}
}

func TestTimeIsAlwaysATime(t *testing.T) {
	for occurred, want := range map[string]string{
		"2026-11-22T09:58:15.5+01:00": "2026-11-22T08:58:15.5Z",
		"9999-12-31T23:59:59-10:00":   "2026-11-22T08:58:16.123456789Z", // year 10000 in UTC
		"0000-01-01T00:00:00+10:00":   "2026-11-22T08:58:16.123456789Z",
		"yesterday":                   "2026-11-22T08:58:16.123456789Z",
	} {
		d := shipped()
		d.Event.Metadata = []byte(`{"occurred":"` + occurred + `"}`)
		var m struct{ Time string }
		if err := json.Unmarshal(bodyOf(d, ""), &m); err != nil || m.Time != want {
			t.Errorf("occurred %s: time %s, want %s (error %v)", occurred, m.Time, want, err)
		}
	}
}

func TestNoMessageIsLargerThanItMayBe(t *testing.T) {
	for _, size := range []int{message.MaxBody - 4000, message.MaxBody - 1000, message.MaxBody, 3 * message.MaxBody} {
		for _, content := range []string{"x", "\x01", "\xff"} {
			d := shipped()
			d.Event.Metadata = []byte(strings.Repeat(content, size))
			if body := bodyOf(d, ""); len(body) > message.MaxBody {
				t.Errorf("%d bytes of %q make a message of %d", size, content, len(body))
			} else if _, _, err := message.Decode(body); err != nil {
				t.Error(err)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, d := range []eventstore.Delivery{shipped(), activated(), large(), tick()} {
		f.Add(bodyOf(d, "eu"))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, whole, err := message.Decode(body)
		if err != nil {
			return
		}
		if !whole {
			return
		}
		again, whole, err := message.Decode(bodyOf(d, ""))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, again, cmpopts.EquateEmpty()); whole && diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
	})
}

// bodyOf is that of a delivery's message.
func bodyOf(d eventstore.Delivery, region string) []byte { return message.New(d, region).Payload }

func BenchmarkDecode(b *testing.B) {
	body := bodyOf(shipped(), "eu-central")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := message.Decode(body); err != nil {
			b.Fatal(err)
		}
	}
}
