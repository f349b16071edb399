package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/orderledger/orderledger/internal/web"
)

// access is which role every route needs. A route that is missing here fails the test, and so does one that is gone.
var access = map[string]web.Role{
	"GET /":                                web.RoleRead,
	"GET /assets/{name}":                   web.RoleAny,
	"GET /docs":                            web.RoleAny,
	"GET /docs/rapidoc-min.js":             web.RoleAny,
	"GET /docs/rapidoc-min.js.LICENSE.txt": web.RoleAny,
	"GET /docs/rapidoc.LICENSE.txt":        web.RoleAny,
	"GET /healthz":                         web.RoleNobody,
	"GET /metrics":                         web.RoleAdmin,
	"GET /openapi.json":                    web.RoleAny,
	"GET /openapi.yaml":                    web.RoleAny,
	"GET /orders/{id}":                     web.RoleRead,
	"GET /orders/{id}/history":             web.RoleReplay,
	"GET /regions":                         web.RoleRead,
	"GET /conflicts":                       web.RoleRead,
	"GET /problems":                        web.RoleAny,
	"GET /problems/{code}":                 web.RoleAny,
	"GET /readyz":                          web.RoleNobody,
	"GET /transitions":                     web.RoleAny,
	"GET /v1/commands/{id}":                web.RoleSubmit,
	"GET /v1/conflicts":                    web.RoleRead,
	"GET /v1/counts":                       web.RoleRead,
	"POST /v1/erasures":                    web.RoleAdmin,
	"GET /v1/feed/*":                       web.RolePeer,
	"GET /v1/history/orders/{id}":          web.RoleReplay,
	"GET /v1/history/orders/{id}/diff":     web.RoleReplay,
	"GET /v1/history/orders/{id}/state":    web.RoleReplay,
	"POST /v1/import/orders":               web.RoleAdmin,
	"GET /v1/notifications":                web.RoleRead,
	"POST /v1/orders":                      web.RoleSubmit,
	"GET /v1/orders":                       web.RoleRead,
	"GET /v1/orders/{id}":                  web.RoleRead,
	"GET /v1/orders/{id}/events":           web.RoleRead,
	"GET /v1/orders/{id}/timeline":         web.RoleRead,
	"GET /v1/parked":                       web.RoleAdmin,
	"POST /v1/parked/{id}/retry":           web.RoleAdmin,
	"POST /v1/parked/{id}/skip":            web.RoleAdmin,
	"PUT /v1/rules":                        web.RoleAdmin,
	"GET /v1/rules":                        web.RoleRead,
	"GET /v1/status":                       web.RoleRead,
	"GET /v1/regions":                      web.RoleRead,
	"GET /version":                         web.RoleAny,

	"POST /v1/orders/{id}/amend":   web.RoleSubmit,
	"POST /v1/orders/{id}/cancel":  web.RoleSubmit,
	"POST /v1/orders/{id}/close":   web.RoleSubmit,
	"POST /v1/orders/{id}/hold":    web.RoleSubmit,
	"POST /v1/orders/{id}/release": web.RoleSubmit,
	"POST /v1/orders/{id}/return":  web.RoleSubmit,
	"POST /v1/orders/{id}/route":   web.RoleSubmit,

	"POST /v1/orders/{id}/conflicts/{conflict}/settle": web.RoleSubmit,

	"POST /v1/orders/{id}/fulfilments/{fulfilment}/confirm": web.RoleSubmit,
	"POST /v1/orders/{id}/fulfilments/{fulfilment}/deliver": web.RoleSubmit,
	"POST /v1/orders/{id}/fulfilments/{fulfilment}/fail":    web.RoleSubmit,
	"POST /v1/orders/{id}/fulfilments/{fulfilment}/reroute": web.RoleSubmit,
	"POST /v1/orders/{id}/fulfilments/{fulfilment}/ship":    web.RoleSubmit,
	"POST /v1/orders/{id}/fulfilments/{fulfilment}/start":   web.RoleSubmit,
}

// unscoped are routes that are about no business unit.
func unscoped(route string) bool {
	_, path, _ := strings.Cut(route, " ")
	return !strings.HasPrefix(path, "/v1/") && path != "/" && path != "/regions" && path != "/conflicts" && !strings.HasPrefix(path, "/orders/")
}

// TestWhoMayDoWhat tries every route with every role, in the token's business unit, in another one, without a token and
// with a wrong one.
func TestWhoMayDoWhat(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.yaml")
	tokens := make(map[string]web.Role)
	var entries strings.Builder
	for _, role := range []web.Role{web.RoleSubmit, web.RoleRead, web.RoleReplay, web.RoleAdmin, web.RolePeer} {
		for _, units := range [][]string{{"north"}, nil} {
			token, entry, err := web.NewToken(fmt.Sprintf("%s-%d", role, len(units)), units, []web.Role{role})
			check(t, err)
			tokens[token] = role
			entries.WriteString(entry)
			if units == nil {
				tokens[token] += " everywhere"
			}
		}
	}
	check(t, os.WriteFile(file, []byte(entries.String()), 0o600))
	opened, err := web.OpenTokens(file)
	check(t, err)
	n, err := openNode(t.Context(), nodeConfig{globals: globals{Ledger: "memory:"}, Log: slog.New(slog.DiscardHandler), Tokens: opened, Rate: -1})
	check(t, err)
	defer func() { check(t, n.close()) }()

	routes := n.web.Routes()
	for route := range access {
		if !slices.Contains(routes, route) {
			t.Errorf("there is no route %s any more", route)
		}
	}
	ask := func(route, token, unit string, headers ...string) int {
		method, path, _ := strings.Cut(route, " ")
		for name, value := range map[string]string{
			"{id}": "6ba7b810-9dad-51d1-80b4-00c04fd430c8", "{fulfilment}": "f1", "{conflict}": "c1", "{name}": "page.css", "{code}": "forbidden", "*": "head",
		} {
			path = strings.ReplaceAll(path, name, value)
		}
		r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path+"?wait=1ms", nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		r.Header.Set("Business-Unit", unit)
		r.Header.Set("Accept", "application/json")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		n.web.ServeHTTP(w, r)
		_, _ = io.Copy(io.Discard, w.Body) // it is in memory
		return w.Code
	}
	for _, route := range routes {
		needs, ok := access[route]
		if !ok {
			t.Errorf("nobody has said who may use %s", route)
			continue
		}
		for _, token := range []string{"", "olt_wrong", "olt_" + strings.Repeat("A", 43)} {
			if got := ask(route, token, "north"); (got == http.StatusUnauthorized) != (needs != web.RoleNobody) {
				t.Errorf("%s with token %q: %d", route, token, got)
			}
		}
		for token, has := range tokens {
			role, everywhere := strings.CutSuffix(string(has), " everywhere")
			allowed := needs == web.RoleAny || needs == web.RoleNobody || needs == web.Role(role)
			for _, unit := range []string{"north", "south"} {
				may := allowed && (everywhere || needs != web.RolePeer && (unit == "north" || unscoped(route)))
				got := ask(route, token, unit)
				if refused := got == http.StatusForbidden || got == http.StatusUnauthorized; refused == may {
					t.Errorf("%s by %s in unit %s: %d", route, has, unit, got)
				}
				if needs == web.RoleNobody {
					continue
				}
				// Peers of the whole company pass on commands, and nothing else, for every business unit.
				may = has == web.RolePeer+" everywhere" && needs == web.RoleSubmit && strings.HasPrefix(route, "POST ")
				got = ask(route, token, unit, web.OnBehalfHeader, web.Principal{Kind: "service", Issuer: "tokens", Subject: "shop"}.OnBehalf())
				if refused := got == http.StatusForbidden || got == http.StatusUnauthorized; refused == may {
					t.Errorf("%s by %s on behalf of another one in unit %s: %d", route, has, unit, got)
				}
			}
		}
	}
	if got := ask("GET /v1/nothing", "", "north"); got != http.StatusUnauthorized {
		t.Errorf("a path that is none tells a stranger so: %d", got)
	}
}
