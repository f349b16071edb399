package web

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// A Role is something that a principal may do.
type Role string

// The roles. They do not contain one another.
const (
	RoleSubmit Role = "submit" // send commands on orders, for shops and sites
	RoleRead   Role = "read"   // ask where orders are, and follow them
	RoleReplay Role = "replay" // see every step of an order's history
	RoleAdmin  Role = "admin"  // rules, imports, erasures, parked orders, metrics
	// RolePeer is for other processes and regions of the same company: read the whole ledger, and pass on commands that
	// others have sent there, see [OnBehalfHeader].
	RolePeer Role = "peer"

	// RoleAny is for routes that show nothing of anybody's orders: everybody with a token has it.
	RoleAny Role = "any"
	// RoleNobody is for routes that need no token.
	RoleNobody Role = "nobody"
)

var roles = []Role{RoleSubmit, RoleRead, RoleReplay, RoleAdmin, RolePeer}

// Allowed says which role each route needs, by method and pattern such as "GET /v1/orders/{id}". A route that is missing
// is refused to everybody while there is authentication.
type Allowed map[string]Role

func ownRoutes() Allowed {
	return Allowed{
		"GET /healthz":      RoleNobody,
		"GET /readyz":       RoleNobody,
		"GET /metrics":      RoleAdmin,
		"GET /version":      RoleAny,
		"GET /openapi.json": RoleAny,
		"GET /openapi.yaml": RoleAny,
		"GET /docs":         RoleAny,

		"GET /docs/rapidoc-min.js":             RoleAny,
		"GET /docs/rapidoc-min.js.LICENSE.txt": RoleAny,
		"GET /docs/rapidoc.LICENSE.txt":        RoleAny,

		"GET /problems":        RoleAny,
		"GET /problems/{code}": RoleAny,
	}
}

// mayDo reports whether a principal has a role.
func (p Principal) mayDo(role Role) bool {
	return role == RoleAny || p.Roles == nil || slices.Contains(p.Roles, role)
}

// mayActFor reports whether a principal may act for a business unit.
func (p Principal) mayActFor(unit string) bool {
	return p.BusinessUnits == nil || slices.Contains(p.BusinessUnits, unit)
}

type asKey struct{}

// As makes a request that is served with this context one of a principal, whatever its headers say: a command that came
// by another way than HTTP.
func As(ctx context.Context, p Principal) context.Context { return context.WithValue(ctx, asKey{}, p) }

// authenticate finds out who sends a request, and refuses who may not. Without tokens everybody is local.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := requestFrom(r.Context())
		if p, ok := r.Context().Value(asKey{}).(Principal); ok {
			q.principal = p
			next.ServeHTTP(w, r)
			return
		}
		if s.cfg.Tokens == nil {
			p, refused := s.onBehalf(r, q.principal)
			if refused != nil {
				s.WriteProblem(w, r, refused)
				return
			}
			q.principal = p
			next.ServeHTTP(w, r)
			return
		}
		role, known := s.allowed[s.route(r)]
		if role == RoleNobody {
			next.ServeHTTP(w, r)
			return
		}
		p, ok := s.cfg.Tokens.Principal(bearer(r))
		if !ok {
			// Browsers ask for a name and a password; the token is the password.
			w.Header()["Www-Authenticate"] = []string{`Bearer realm="orderledger"`, `Basic realm="orderledger", charset="UTF-8"`}
			s.WriteProblem(w, r, &Error{Status: http.StatusUnauthorized, Code: "unauthenticated",
				Detail: "The request needs a token that this server knows: Authorization: Bearer …"})
			return
		}
		p, refused := s.onBehalf(r, p)
		q.principal = p
		switch {
		case refused != nil:
			s.WriteProblem(w, r, refused)
			return
		case !known && s.route(r) == "":
			// There is no such route, or not with this method: the router says so.
		case !known || !p.mayDo(role):
			s.WriteProblem(w, r, &Error{Status: http.StatusForbidden, Code: codeForbidden,
				Detail: "The token lacks the role that this route needs: " + string(role) + "."})
			return
		case role == RolePeer && p.BusinessUnits != nil:
			s.WriteProblem(w, r, &Error{Status: http.StatusForbidden, Code: codeForbidden,
				Detail: "The whole ledger is for tokens that may act for all business units."})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// route is the method and pattern of the route that a request is for; empty if there is none.
func (s *Server) route(r *http.Request) string {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return s.find(method, r.URL.Path)
}

// bearer is the token of a request.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	return ""
}
