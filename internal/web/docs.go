package web

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
)

// assets has the viewer of the OpenAPI document, so that /docs works without any other host. The SHA-256 of each
// file stands in assets/SHA256SUMS.
//
//go:embed assets
var assets embed.FS

// docsPolicy lets the viewer run and style itself, and reach nothing but this server.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (s *Server) serveDocs() {
	s.serveDocument("/openapi.json", "application/openapi+json", func() ([]byte, error) { return json.Marshal(s.api.OpenAPI()) })
	s.serveDocument("/openapi.yaml", "application/openapi+yaml", func() ([]byte, error) { return s.api.OpenAPI().YAML() })
	s.router.Get("/docs", s.asset("docs.html", "text/html; charset=utf-8"))
	s.router.Get("/docs/rapidoc-min.js", s.asset("rapidoc-min.js", "text/javascript; charset=utf-8"))
	s.router.Get("/docs/rapidoc.LICENSE.txt", s.asset("rapidoc.LICENSE.txt", "text/plain; charset=utf-8"))
	s.router.Get("/docs/rapidoc-min.js.LICENSE.txt", s.asset("rapidoc-min.js.LICENSE.txt", "text/plain; charset=utf-8"))
}

// serveDocument serves what is written once, when it is first asked for: by then all operations are registered.
func (s *Server) serveDocument(path, mediaType string, write func() ([]byte, error)) {
	document := sync.OnceValues(write)
	s.router.Get(path, func(w http.ResponseWriter, r *http.Request) {
		body, err := document()
		if err != nil {
			s.WriteProblem(w, r, fmt.Errorf("writing %s: %w", path, err))
			return
		}
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(body)
	})
}

func (s *Server) asset(name, mediaType string) http.HandlerFunc {
	body, err := assets.ReadFile("assets/" + name)
	if err != nil { // it is embedded
		panic(err)
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Content-Security-Policy", docsPolicy)
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(body)
	}
}
