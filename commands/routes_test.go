package commands_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A routeCase is one route with a body that it takes, one that the order's state refuses and one that is malformed.
type routeCase struct {
	path      string   // after /v1/orders/ID/
	before    []string // paths and bodies that bring a new order to where the route is legal
	good      string
	events    string // that good leads to
	status    domain.Status
	refused   []string // path and body that make a repetition under another key be refused; none: repeating good does
	code      string   // of the refusal
	malformed string
	fault     string // code of the malformed body
	location  string
}

const reason = `"reason":{"code":"x"}`

var (
	ship    = []string{"fulfilments/f1/ship", `{}`}
	deliver = slices.Concat(ship, []string{"fulfilments/f1/deliver", `{}`})
)

var routeCases = []routeCase{
	{path: "amend", good: `{"lines":[{"line":"1","quantity":"5"}],` + reason + `}`, events: "amended routed", status: domain.StatusRouted,
		refused: []string{`{}`}, code: "nothing_changed", malformed: `{"lines":[{"line":"1","quantity":"-5"}]}`, fault: "negative", location: "/lines/0/quantity"},
	{path: "hold", good: `{` + reason + `}`, events: "held", status: domain.StatusOnHold,
		refused: []string{"cancel", `{` + reason + `}`}, code: "order_cancelled", malformed: `{"reason":{}}`, fault: "missing", location: "/reason/code"},
	{path: "release", before: []string{"hold", `{` + reason + `}`}, good: ``, events: "released", status: domain.StatusRouted,
		code: "unknown_hold", malformed: `{"hold":"h\u0001"}`, fault: "control_character", location: "/hold"},
	{path: "cancel", good: `{` + reason + `}`, events: "cancelled", status: domain.StatusCancelled,
		code: "order_cancelled", malformed: `{"lines":[{"line":"1","quantity":"0"}],` + reason + `}`, fault: "zero", location: "/lines/0/quantity"},
	{path: "route", before: []string{"fulfilments/f1/fail", `{` + reason + `}`, "fulfilments/f2/fail", `{` + reason + `}`, "fulfilments/f3/fail", `{` + reason + `}`,
		"release", `{"hold":"h1"}`}, good: `{"site":"z"}`, events: "routed", status: domain.StatusRouted,
		code: "nothing_to_route", malformed: `{"site":1}`, fault: "wrong_type", location: "/site"},
	{path: "return", before: deliver, good: `{"lines":[{"line":"2","quantity":"3"}],` + reason + `,"occurred":"2026-11-20T10:00:00Z"}`, events: "returned", status: domain.StatusDelivered,
		code: "over_return", malformed: `{"lines":[],` + reason + `}`, fault: "missing", location: "/lines"},
	{path: "close", before: ship, good: ``, events: "closed", status: domain.StatusClosed,
		code: "order_closed", malformed: `{"reason":{"text":"why"}}`, fault: "missing", location: "/reason/code"},
	{path: "fulfilments/f1/confirm", good: `{"outcome":"accepted","occurred":"2026-11-20T10:00:00+01:00"}`, events: "confirmed", status: domain.StatusConfirmed,
		refused: []string{`{"outcome":"accepted","lines":[{"line":"1","cancelled":"9"}]}`}, code: "over_confirmation", malformed: `{"outcome":"maybe"}`, fault: "unknown_value", location: "/outcome"},
	{path: "fulfilments/f1/start", good: `{"occurred":"2026-11-20T10:00:00Z"}`, events: "fulfilment_started", status: domain.StatusInFulfilment,
		code: "already_started", malformed: `{"occurred":"yesterday"}`, fault: "invalid_value", location: "/occurred"},
	{path: "fulfilments/f1/ship", good: `{"id":"S","lines":[{"line":"1","quantity":"2"}]}`, events: "shipped", status: domain.StatusPartiallyShipped,
		code: "over_shipment", malformed: `{"occurred":"1066-10-14T09:00:00Z"}`, fault: "out_of_range", location: "/occurred"},
	{path: "fulfilments/f1/deliver", before: ship, good: `{"lines":[{"line":"1","quantity":"2"},{"line":"2","quantity":"3"}]}`, events: "delivered", status: domain.StatusDelivered,
		code: "already_delivered", malformed: `{"occurred":"2027-01-01T00:00:00Z"}`, fault: "in_future", location: "/occurred"},
	{path: "fulfilments/f1/fail", good: `{` + reason + `}`, events: "fulfilment_failed routed", status: domain.StatusRouted,
		code: "fulfilment_ended", malformed: `{}`, fault: "missing", location: "/reason/code"},
	{path: "fulfilments/f1/reroute", good: `{"site":"z",` + reason + `}`, events: "unrouted routed", status: domain.StatusRouted,
		code: "fulfilment_ended", malformed: `{"site":"z","sight":"z",` + reason + `}`, fault: "unknown_field", location: "/sight"},
}

func TestRoutes(t *testing.T) {
	for _, c := range routeCases {
		t.Run(strings.ReplaceAll(c.path, "/", " "), func(t *testing.T) {
			s := newServer(t)
			id := s.submit("k", plain)
			for i := 0; i < len(c.before); i += 2 {
				s.mustPost(id, c.before[i], fmt.Sprint("before", i), c.before[i+1])
			}
			c.checkMalformed(s, id)
			good := c.checkGood(s, id)

			refused := []string{c.path, c.good}
			switch len(c.refused) {
			case 1:
				refused[1] = c.refused[0]
			case 2:
				s.mustPost(id, c.refused[0], "r0", c.refused[1])
			}
			before := len(s.stored())
			if r := s.post("/v1/orders/"+id+"/"+refused[0], "r", refused[1]); r.status != http.StatusConflict || r.code() != c.code {
				t.Errorf("refused: %d %s, want %s", r.status, r.body, c.code)
			}
			c.checkRepeated(s, id, good)
			if after := len(s.stored()); after != before {
				t.Errorf("%d events were stored", after-before)
			}
		})
	}
}

func (s *server) mustPost(id, path, key, body string) {
	s.t.Helper()
	if r := s.post("/v1/orders/"+id+"/"+path, key, body); r.status != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, r.status, r.body)
	}
}

// checkMalformed sends what is wrong whatever the order's state.
func (c routeCase) checkMalformed(s *server, id string) {
	s.t.Helper()
	path := "/v1/orders/" + id + "/" + c.path
	before := len(s.stored())
	r := s.post(path, "m", c.malformed)
	if r.status != http.StatusBadRequest || r.code() != c.fault || !strings.Contains(r.body, `"location":"`+c.location+`"`) {
		s.t.Errorf("malformed: %d %s, want %s at %s", r.status, r.body, c.fault, c.location)
	}
	if r := s.post(path, "", c.good); r.status != http.StatusBadRequest || r.code() != "missing_idempotency_key" {
		s.t.Errorf("without a key: %d %s", r.status, r.body)
	}
	if r := s.post(path, "s", c.good, "If-Match", `"0-99"`); r.status != http.StatusPreconditionFailed || r.code() != "stale_revision" {
		s.t.Errorf("stale: %d %s", r.status, r.body)
	}
	if r := s.post(strings.Replace(path, id, "0d3ac5a5-9a4b-5a0c-8a55-3f8f5b6f2c11", 1), "u", c.good); r.status != http.StatusNotFound || r.code() != "unknown_order" {
		s.t.Errorf("unknown order: %d %s", r.status, r.body)
	}
	if r := s.post(strings.Replace(path, id, "x", 1), "u", c.good); r.status != http.StatusBadRequest || r.code() != "invalid_parameter" {
		s.t.Errorf("no id: %d %s", r.status, r.body)
	}
	if after := len(s.stored()); after != before {
		s.t.Errorf("%d events were stored", after-before)
	}
}

// checkGood sends what the route takes.
func (c routeCase) checkGood(s *server, id string) response {
	s.t.Helper()
	r := s.post("/v1/orders/"+id+"/"+c.path, "g", c.good)
	if r.status != http.StatusOK {
		s.t.Fatalf("good: %d %s", r.status, r.body)
	}
	a := r.answer(s.t)
	var events []string
	for _, e := range a.Events {
		events = append(events, strings.TrimSuffix(strings.TrimPrefix(e, "order."), ".v1"))
	}
	if got := strings.Join(events, " "); got != c.events || a.Status != c.status || a.ID != id {
		s.t.Errorf("led to %s and %s, want %s and %s", got, a.Status, c.events, c.status)
	}
	if tag := fmt.Sprintf(`"0-%d"`, a.Revision); r.header.Get("ETag") != tag || r.header.Get("Location") != "/v1/orders/"+id {
		s.t.Errorf("headers %v", r.header)
	}
	if mark, err := eventstore.ParseMark(r.header.Get("Orderledger-Mark")); err != nil || mark.Revision != a.Revision || mark.Position == 0 {
		s.t.Errorf("mark %v, %v", mark, err)
	}
	return r
}

// checkRepeated sends once more what was answered with first.
func (c routeCase) checkRepeated(s *server, id string, first response) {
	s.t.Helper()
	again := s.post("/v1/orders/"+id+"/"+c.path, "g", c.good)
	if again.status != first.status || again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" {
		s.t.Errorf("repeated: %d %s, first %s", again.status, again.body, first.body)
	}
	for _, name := range []string{"ETag", "Location", "Orderledger-Mark"} {
		if again.header.Get(name) != first.header.Get(name) {
			s.t.Errorf("repeated: %s is %s, first %s", name, again.header.Get(name), first.header.Get(name))
		}
	}
}

func TestSubmit(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct {
		order  string
		status domain.Status
	}{
		{plain, domain.StatusRouted},
		{with(plain, "purchase_order", "reject"), domain.StatusRejected},
		{with(plain, "purchase_order", "hold"), domain.StatusOnHold},
	} {
		key := string(c.status)
		r := s.post("/v1/orders", key, c.order)
		a := r.answer(t)
		if r.status != http.StatusCreated || a.Status != c.status || a.ID != domain.OrderID("main", "local", key).String() {
			t.Errorf("%d %s, want %s", r.status, r.body, c.status)
		}
		if r.header.Get("Location") != "/v1/orders/"+a.ID || r.header.Get("ETag") == "" || r.header.Get("Orderledger-Mark") == "" {
			t.Errorf("headers %v", r.header)
		}
		if again := s.post("/v1/orders", `"`+key+`"`, c.order); again.status != r.status || again.body != r.body {
			t.Errorf("repeated: %d %s", again.status, again.body)
		}
	}
	// The same key names another order in another business unit.
	r := s.post("/v1/orders", string(domain.StatusRouted), plain, "Business-Unit", "other")
	if r.status != http.StatusCreated || r.answer(t).ID == domain.OrderID("main", "local", string(domain.StatusRouted)).String() {
		t.Errorf("another business unit: %d %s", r.status, r.body)
	}
}

func TestSubmitRefusesHistory(t *testing.T) {
	s := newServer(t)
	for body, code := range map[string]string{
		with(plain, "channel", "import"):                  "unexpected",
		with(plain, "settled", true):                      "unknown_field",
		with(plain, "occurred", "2011-12-09T12:50:00Z"):   "unknown_field",
		with(plain, "parties", map[string]any{}):          "missing",
		with(plain, "currency", "XXX"):                    "unknown_currency",
		strings.Replace(plain, `"DE"`, `"XX"`, 1):         "unknown_country",
		strings.Replace(plain, `"2"`, `2`, 1):             "wrong_type",
		strings.Replace(plain, `"2"`, `"2e9"`, 1):         "invalid_value",
		strings.Replace(plain, `"2"`, `"99999999999"`, 1): "out_of_range",
		strings.Replace(plain, `"A"`, "\"\xff\"", 1):      "invalid_utf8",
		strings.Replace(plain, `"A"`, `"A","sku":"B"`, 1): "duplicate_field",
		strings.Replace(plain, `"A"`, `"A","id":"7"`, 1):  "unexpected",
		`{`: "malformed_body",
		``:  "empty_body",
	} {
		if r := s.post("/v1/orders", "k", body); r.status != http.StatusBadRequest || r.code() != code {
			t.Errorf("%.80q: %d %s, want %s", body, r.status, r.body, code)
		}
	}
	for path, body := range map[string]string{
		"/v1/import/orders": with(plain, "settled", true), // only the channel import is settled
	} {
		if r := s.post(path, "k", body); r.status != http.StatusBadRequest || r.code() != "unexpected" {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if stored := s.stored(); len(stored) != 0 {
		t.Errorf("%d events were stored", len(stored))
	}
}

func TestImport(t *testing.T) {
	s := newServer(t)
	body := with(plain, "channel", "import", "settled", true, "occurred", "2011-12-09T12:50:00Z", "purchase_order", "reject",
		"personal", map[string]any{"buyer": map[string]any{"name": "Ada"}})
	r := s.post("/v1/import/orders", "k", body)
	if r.status != http.StatusCreated || r.answer(t).Status != domain.StatusClosed {
		t.Fatalf("%d %s", r.status, r.body)
	}
	for _, e := range s.stored() {
		meta, err := domain.DecodeMeta(e.Metadata)
		if err != nil || meta.Occurred.Year() != 2011 {
			t.Errorf("%s occurred %v, %v", e.Type, meta.Occurred, err)
		}
		if bytes.Contains(e.Data, []byte("Ada")) {
			t.Error("personal data stands in the clear")
		}
	}
	// An order that is imported and not of the channel import is judged.
	if r := s.post("/v1/import/orders", "k2", with(plain, "purchase_order", "reject")); r.answer(t).Status != domain.StatusRejected {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestIfMatch(t *testing.T) {
	s := newServer(t)
	id := s.submit("k", plain)
	path := "/v1/orders/" + id + "/hold"
	for i, c := range []struct {
		header string
		status int
		code   string
	}{
		{`"0-2"`, 200, ""},
		{`"0-2"`, 412, "stale_revision"},
		{`"1-3"`, 412, "stale_revision"},
		{`"99999999999-3"`, 412, "stale_revision"},
		{`W/"0-3"`, 412, "stale_revision"},
		{`"foreign"`, 412, "stale_revision"},
		{`*`, 200, ""},
		{`0-4`, 400, "invalid_etag"},
		{`"0-3", "0-4"`, 400, "invalid_etag"},
		{`"foreign", "0-4"`, 200, ""},
	} {
		r := s.post(path, fmt.Sprint(i), `{`+reason+`}`, "If-Match", c.header)
		if r.status != c.status || r.code() != c.code {
			t.Errorf("If-Match: %s: %d %s, want %d %s", c.header, r.status, r.body, c.status, c.code)
		}
	}
	// A retry gets its answer although the order has moved on.
	if r := s.post(path, "0", `{`+reason+`}`, "If-Match", `"0-2"`); r.status != 200 || r.answer(t).Revision != 3 {
		t.Errorf("retry: %d %s", r.status, r.body)
	}
}

func TestOrderIsNamedByItsID(t *testing.T) {
	s := newServer(t)
	id := s.submit("k", plain)
	number := domain.Number(domain.OrderID("main", "local", "k"))
	for name, want := range map[string]int{
		strings.ToUpper(id):                    200,
		number:                                 404,
		strings.ToLower(number):                404,
		"{" + id[:34] + "}":                    400,
		"urn:uuid:" + id:                       400,
		strings.ReplaceAll(id, "-", ""):        400,
		"%00":                                  400,
		"00000000-0000-0000-0000-000000000000": 404,
	} {
		r := s.post("/v1/orders/"+name+"/hold", "h", `{`+reason+`}`)
		if r.status != want || want == 404 && r.code() != "unknown_order" {
			t.Errorf("%s: %d %s, want %d", name, r.status, r.body, want)
		}
	}
}

func TestFulfilmentInPath(t *testing.T) {
	s := newServer(t)
	id := s.submit("k", plain)
	for name, want := range map[string]string{
		strings.Repeat("f", 201): "400 too_long",
		"f2":                     "409 unknown_fulfilment",
		"f1%2Fx":                 "409 unknown_fulfilment",
	} {
		r := s.post("/v1/orders/"+id+"/fulfilments/"+name+"/start", "h", "")
		if fmt.Sprint(r.status, " ", r.code()) != want || r.status == 400 && !strings.Contains(r.body, `"path.fulfilment"`) {
			t.Errorf("%s: %d %s, want %s", name, r.status, r.body, want)
		}
	}
}

func TestKeyInHeader(t *testing.T) {
	s := newServer(t)
	for _, key := range []string{" ", `""`, "a b", `"a`, strings.Repeat("x", 300), "ü", "\x7f"} {
		if r := s.post("/v1/orders", key, plain); r.status != http.StatusBadRequest || !strings.HasSuffix(r.code(), "idempotency_key") {
			t.Errorf("key %q: %d %s", key, r.status, r.body)
		}
		if r := s.post("/v1/erasures", key, `{}`); r.status != http.StatusBadRequest || !strings.HasSuffix(r.code(), "idempotency_key") {
			t.Errorf("erasure with key %q: %d %s", key, r.status, r.body)
		}
	}
}

func TestLedgerErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{&eventstore.Conflict{}, 503, "order_busy"},
		{eventstore.ErrFull, 503, "ledger_unavailable"},
		{eventstore.ErrTooLarge, 413, "append_too_large"},
		{errors.New("lost"), 503, "outcome_unknown"},
	} {
		store := &meddled{Store: openLedger(t)}
		store.append = func(context.Context, []eventstore.Event, func() (eventstore.Appended, error)) (eventstore.Appended, error) {
			return eventstore.Appended{}, c.err
		}
		s := serve(t, store, openKeys(t), nil)
		r := s.post("/v1/orders", "k", plain)
		if r.status != c.status || r.code() != c.code || (c.status == 503) != (r.header.Get("Retry-After") != "") {
			t.Errorf("%v: %d %v %s", c.err, r.status, r.header, r.body)
		}
		if r := s.post("/v1/erasures", "k", erasureOfC1); r.status != c.status || r.code() != c.code {
			t.Errorf("erasure, %v: %d %s", c.err, r.status, r.body)
		}
	}
}

// TestOpenAPI compares the routes of the document with a golden file.
func TestTransitions(t *testing.T) {
	r := newServer(t).send(http.MethodGet, "/transitions", nil)
	if r.status != http.StatusOK || r.body != domain.Transitions || !strings.Contains(r.body, "order.submitted.v1") {
		t.Errorf("%d %.200s", r.status, r.body)
	}
}

func TestOpenAPI(t *testing.T) {
	s := newServer(t)
	active := newRules(t, s.store)
	s = serve(t, s.store, s.keys, active)
	r := s.send(http.MethodGet, "/openapi.yaml", nil)
	var document struct {
		Paths map[string]map[string]struct {
			OperationID string                      `yaml:"operationId"`
			Summary     string                      `yaml:"summary"`
			Description string                      `yaml:"description"`
			Tags        []string                    `yaml:"tags"`
			Parameters  []struct{ Name, In string } `yaml:"parameters"`
			RequestBody struct {
				Required bool
				Content  map[string]struct{ Example any }
			} `yaml:"requestBody"`
			Responses map[string]struct{ Content map[string]any } `yaml:"responses"`
		}
	}
	if err := yaml.Unmarshal([]byte(r.body), &document); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, path := range sorted(document.Paths) {
		for _, method := range sorted(document.Paths[path]) {
			op := document.Paths[path][method]
			fmt.Fprintf(&b, "%s %s\n  %s, %s: %s\n", strings.ToUpper(method), path, op.OperationID, strings.Join(op.Tags, " "), op.Summary)
			var parameters []string
			for _, p := range op.Parameters {
				parameters = append(parameters, p.In+"."+p.Name)
			}
			fmt.Fprintf(&b, "  parameters %s\n", strings.Join(parameters, " "))
			for mediaType, content := range op.RequestBody.Content {
				fmt.Fprintf(&b, "  body %s required %v\n", mediaType, op.RequestBody.Required)
				if content.Example == nil && mediaType == "application/json" {
					t.Errorf("%s has no example", path)
				}
			}
			fmt.Fprintf(&b, "  answers %s\n", strings.Join(sorted(op.Responses), " "))
			if op.Summary == "" || op.Description == "" && method != "get" {
				t.Errorf("%s %s is not described", method, path)
			}
			for status, answer := range op.Responses {
				if _, ok := answer.Content["application/problem+json"]; status >= "400" && !ok {
					t.Errorf("%s %s: %s is no problem", method, path, status)
				}
			}
		}
	}
	golden := filepath.Join("testdata", "routes.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the routes differ from %s (rewrite it with -update):\n%s", golden, b.String())
	}
}

// TestExamples sends the examples of the document: each must be what its route takes.
func TestExamples(t *testing.T) {
	s := newServer(t)
	r := s.send(http.MethodGet, "/openapi.yaml", nil)
	var document struct {
		Paths map[string]map[string]struct {
			RequestBody struct {
				Content map[string]struct{ Example any }
			} `yaml:"requestBody"`
		}
	}
	if err := yaml.Unmarshal([]byte(r.body), &document); err != nil {
		t.Fatal(err)
	}
	id := s.submit("k", plain)
	examples := 0
	for path, methods := range document.Paths {
		example := methods["post"].RequestBody.Content["application/json"].Example
		if example == nil {
			continue
		}
		examples++
		body := with(`{}`)
		if m, ok := example.(map[string]any); ok {
			var members []any
			for k, v := range m {
				members = append(members, k, v)
			}
			body = with(`{}`, members...)
		}
		path = strings.NewReplacer("{id}", id, "{fulfilment}", "f9").Replace(path)
		if r := s.post(path, "example", body); r.status >= 500 || r.status == http.StatusBadRequest {
			t.Errorf("%s refuses its own example: %d %s", path, r.status, r.body)
		}
	}
	if examples < 12 {
		t.Errorf("%d examples", examples)
	}
}

// TestCodes checks that every code which the routes may answer is documented, once.
func TestCodes(t *testing.T) {
	s := newServer(t)
	seen := map[string]bool{}
	for _, c := range commands.Codes() {
		if seen[c.Code] || c.Meaning == "" || c.Status < 400 {
			t.Errorf("%+v is documented badly", c)
		}
		seen[c.Code] = true
	}
	for _, c := range routeCases {
		for _, code := range []string{c.code, c.fault} {
			if r := s.send(http.MethodGet, "/problems/"+code, nil); r.status != http.StatusOK {
				t.Errorf("%s is not documented", code)
			}
		}
	}
	// Every code that the domain can answer stands in its source.
	for _, file := range []string{"check.go", "decide.go", "decide_lines.go", "decide_fulfilment.go"} {
		source, err := os.ReadFile(filepath.Join("..", "domain", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range faultPattern.FindAllStringSubmatch(string(source), -1) {
			if code := m[1]; code != "unknown_action" && !seen[code] && s.send(http.MethodGet, "/problems/"+code, nil).status != http.StatusOK {
				t.Errorf("%s: %s is not documented", file, code)
			}
		}
	}
	source, err := os.ReadFile(filepath.Join("..", "domain", "refused.go"))
	if err != nil {
		t.Fatal(err)
	}
	refusals := refusalPattern.FindAllStringSubmatch(string(source), -1)
	if len(refusals) < 30 {
		t.Errorf("found %d codes of refusals", len(refusals))
	}
	for _, m := range refusals {
		if !seen[m[1]] {
			t.Errorf("%s is not documented", m[1])
		}
	}
}
