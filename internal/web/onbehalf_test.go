package web_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/internal/web"
)

// withCommands makes a server with a route that takes commands and one that does not, both of which say who asks.
func withCommands(t *testing.T, tokens *web.Tokens) *web.Server {
	t.Helper()
	s := web.New(web.Config{Rate: -1, Tokens: tokens, Allowed: []web.Allowed{{"POST /v1/orders": web.RoleSubmit, "GET /v1/orders": web.RoleSubmit, "POST /v1/imports": web.RoleAdmin}}})
	for _, route := range []string{"POST /v1/orders", "GET /v1/orders", "POST /v1/imports"} {
		method, path, _ := strings.Cut(route, " ")
		type who struct {
			Body struct{ Who, Unit string }
		}
		huma.Register(s.API(), huma.Operation{OperationID: route, Method: method, Path: path}, func(ctx context.Context, _ *struct{}) (*who, error) {
			p := web.PrincipalFrom(ctx)
			w := new(who)
			w.Body.Who, w.Body.Unit = p.OnBehalf(), web.BusinessUnit(ctx)
			return w, nil
		})
	}
	return s
}

func TestOnBehalf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.yaml")
	tokens := map[string]string{}
	var entries strings.Builder
	for name, granted := range map[string][]web.Role{"peer": {web.RolePeer}, "all": {web.RoleSubmit, web.RoleRead, web.RoleReplay, web.RoleAdmin}, "both": {web.RolePeer, web.RoleSubmit}} {
		token, entry, err := web.NewToken(name, nil, granted)
		if err != nil {
			t.Fatal(err)
		}
		tokens[name] = token
		entries.WriteString(entry)
	}
	token, entry, err := web.NewToken("narrow", []string{"main"}, []web.Role{web.RolePeer, web.RoleSubmit})
	if err != nil {
		t.Fatal(err)
	}
	tokens["narrow"] = token
	entries.WriteString(entry)
	if err := os.WriteFile(file, []byte(entries.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := web.OpenTokens(file)
	if err != nil {
		t.Fatal(err)
	}
	const shop = `service;issuer=%"tokens";subject=%"webshop"`
	authenticated, open := withCommands(t, opened), withCommands(t, nil)
	for _, tc := range []struct {
		token, route, header string // more than one header: with a | between
		status               int
		who                  string // in the answer
	}{
		{"peer", "POST /v1/orders", shop, 200, shop},
		{"both", "POST /v1/orders", shop, 200, shop},
		{"peer", "POST /v1/orders", `local;issuer=%"local";subject=%"local"`, 200, `local;issuer=%"local";subject=%"local"`},
		{"both", "POST /v1/orders", "", 200, `service;issuer=%"tokens";subject=%"both"`},
		{"peer", "POST /v1/orders", "", 403, ""},
		{"all", "POST /v1/orders", shop, 403, ""},
		{"all", "POST /v1/imports", shop, 403, ""},
		{"narrow", "POST /v1/orders", shop, 403, ""},
		{"peer", "GET /v1/orders", shop, 403, ""},
		{"peer", "POST /v1/imports", shop, 403, ""},
		{"peer", "POST /v1/nothing", shop, 403, ""},
		{"none", "POST /v1/orders", shop, 401, ""},
		{"peer", "POST /v1/orders", shop + "|" + shop, 400, ""},
		{"peer", "POST /v1/orders", "|", 400, ""},
		{"peer", "POST /v1/orders", "webshop", 400, ""},
		// Without tokens everybody may say who they are.
		{"", "POST /v1/orders", shop, 200, shop},
		{"", "POST /v1/orders", "", 200, `local;issuer=%"local";subject=%"local"`},
		{"", "POST /v1/imports", shop, 403, ""},
		{"", "GET /v1/orders", shop, 403, ""},
		{"", "POST /v1/orders", "webshop", 400, ""},
	} {
		method, path, _ := strings.Cut(tc.route, " ")
		s, headers := open, []string{"Business-Unit", "north"}
		if tc.token != "" {
			s, headers = authenticated, append(headers, "Authorization", "Bearer "+tokens[tc.token])
		}
		w := sendAll(s, method, path, headers, strings.Split(tc.header, "|"), tc.header != "")
		if w.status != tc.status || w.who != tc.who || tc.status == 200 && w.unit != "north" {
			t.Errorf("%s with token %q for %q: %d %s", tc.route, tc.token, tc.header, w.status, w.body)
		}
	}
}

type told struct {
	status    int
	body      string
	who, unit string // as the route knows them
}

// sendAll sends a request with each of several values of the header that is under test.
func sendAll(s http.Handler, method, path string, headers, onBehalf []string, has bool) told {
	w := send(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if has {
			r.Header[web.OnBehalfHeader] = onBehalf
		}
		s.ServeHTTP(w, r)
	}), method, path, "", headers...)
	var body struct{ Who, Unit string }
	_ = json.Unmarshal(w.Body.Bytes(), &body) // a problem has neither
	return told{w.Code, w.Body.String(), body.Who, body.Unit}
}

// What one server writes another one reads, whatever the name.
func TestOnBehalfComesBack(t *testing.T) {
	s := withCommands(t, nil)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[^\x00-\x1f\x7f]{1,40}`).Filter(func(s string) bool { return len(s) <= 200 })
		p := web.Principal{Kind: rapid.SampledFrom([]string{"user", "service", "local"}).Draw(t, "kind"), Issuer: name.Draw(t, "issuer"), Subject: name.Draw(t, "subject")}
		header := p.OnBehalf()
		if strings.ContainsFunc(header, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q is no header", header)
		}
		if w := sendAll(s, "POST", "/v1/orders", nil, []string{header}, true); w.status != 200 || w.who != header {
			t.Fatalf("%q: %d %s", header, w.status, w.body)
		}
	})
}

// Nothing else is read.
func TestOnBehalfIsStrict(t *testing.T) {
	s := withCommands(t, nil)
	good := web.Principal{Kind: "service", Issuer: "i", Subject: "ü"}.OnBehalf()
	long := strings.Repeat("x", 201)
	bad := []string{
		"", " " + good, good + " ", good + ";x", strings.ToUpper(good), strings.Replace(good, "service", "admin", 1),
		strings.Replace(good, ";issuer", "; issuer", 1), strings.Replace(good, "%c3", "%C3", 1), strings.Replace(good, "%c3", "%zz", 1),
		strings.Replace(good, "%c3", "%", 1), strings.Replace(good, "%c3%bc", "%ff", 1), strings.Replace(good, "%c3%bc", "%0a", 1),
		strings.Replace(good, "%c3%bc", "ü", 1), strings.Replace(good, "%c3%bc", "%61", 1), strings.Replace(good, "%c3%bc", "", 1),
		strings.Replace(good, "%c3%bc", long, 1), strings.Replace(good, `"i"`, `"`+long+`"`, 1),
		`service;subject=%"a";issuer=%"b"`, `service;issuer="a";subject="b"`, `service;issuer=%"a"`,
	}
	for _, header := range bad {
		if w := sendAll(s, "POST", "/v1/orders", nil, []string{header}, true); w.status != 400 || !strings.Contains(w.body, `"header.Orderledger-On-Behalf-Of"`) {
			t.Errorf("%q: %d %s", header, w.status, w.body)
		}
	}
}

// Outside a server there is a principal all the same.
func TestPrincipalWithoutRequest(t *testing.T) {
	p := web.Principal{Kind: "service", Issuer: "bus", Subject: "erp"}
	if got := web.PrincipalFrom(web.As(t.Context(), p)); got.Subject != "erp" || got.Issuer != "bus" {
		t.Errorf("%+v", got)
	}
	if got := web.PrincipalFrom(t.Context()); got.Subject != "local" {
		t.Errorf("%+v", got)
	}
}
