package commands

import "github.com/orderledger/orderledger/internal/web"

// Allowed says which role each route needs.
func Allowed() web.Allowed {
	allowed := web.Allowed{
		"POST /v1/orders":        web.RoleSubmit,
		"GET /v1/commands/{id}":  web.RoleSubmit,
		"POST /v1/import/orders": web.RoleAdmin, // its orders are not judged
		"POST /v1/erasures":      web.RoleAdmin,

		"POST /v1/regions/{region}/takeover": web.RoleAdmin,
		"POST /v1/regions/{region}/return":   web.RoleAdmin,

		"PUT /v1/rules":    web.RoleAdmin,
		"GET /v1/rules":    web.RoleRead,
		"GET /transitions": web.RoleAny,
	}
	for _, change := range []string{"amend", "cancel", "close", "hold", "release", "return", "route"} {
		allowed["POST /v1/orders/{id}/"+change] = web.RoleSubmit
	}
	allowed["POST /v1/orders/{id}/conflicts/{conflict}/settle"] = web.RoleSubmit
	for _, report := range []string{"confirm", "deliver", "fail", "reroute", "ship", "start"} {
		allowed["POST /v1/orders/{id}/fulfilments/{fulfilment}/"+report] = web.RoleSubmit
	}
	return allowed
}
