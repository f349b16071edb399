package readapi

import "github.com/orderledger/orderledger/internal/web"

// Allowed says which role each route needs.
func Allowed() web.Allowed {
	return web.Allowed{
		"GET /v1/orders":                    web.RoleRead,
		"GET /v1/orders/{id}":               web.RoleRead,
		"GET /v1/orders/{id}/timeline":      web.RoleRead,
		"GET /v1/orders/{id}/events":        web.RoleRead,
		"GET /v1/notifications":             web.RoleRead,
		"GET /v1/counts":                    web.RoleRead,
		"GET /v1/status":                    web.RoleRead,
		"GET /v1/regions":                   web.RoleRead,
		"GET /v1/conflicts":                 web.RoleRead,
		"GET /v1/history/orders/{id}":       web.RoleReplay,
		"GET /v1/history/orders/{id}/state": web.RoleReplay,
		"GET /v1/history/orders/{id}/diff":  web.RoleReplay,
		"GET /v1/parked":                    web.RoleAdmin,
		"POST /v1/parked/{id}/retry":        web.RoleAdmin,
		"POST /v1/parked/{id}/skip":         web.RoleAdmin,
		"GET /":                             web.RoleRead,
		"GET /regions":                      web.RoleRead,
		"GET /conflicts":                    web.RoleRead,
		"GET /orders/{id}":                  web.RoleRead,
		"GET /orders/{id}/history":          web.RoleReplay,
		"GET /assets/{name}":                web.RoleAny,
	}
}
