package readapi

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/go-chi/chi/v5"
)

//go:embed assets templates
var embedded embed.FS

// pages are the templates of the pages and the files that they refer to. A file's name has a part of its hash in it, so
// that browsers may keep it for ever.
type pages struct {
	templates map[string]*template.Template // by file name without .html
	assets    map[string][]byte             // by name with hash
	names     map[string]string             // with hash, by name without
}

// newPages panics on files that cannot work, which are embedded.
func newPages() *pages {
	p := &pages{
		templates: make(map[string]*template.Template),
		assets:    make(map[string][]byte),
		names:     make(map[string]string),
	}
	each("assets", func(name string, content []byte) {
		hash := sha256.Sum256(content)
		extension := path.Ext(name)
		hashed := strings.TrimSuffix(name, extension) + "." + hex.EncodeToString(hash[:6]) + extension
		p.assets[hashed], p.names[name] = content, hashed
	})
	layout := template.Must(template.New("layout").Funcs(functions).Funcs(template.FuncMap{"asset": p.asset}).
		ParseFS(embedded, "templates/layout.html"))
	each("templates", func(name string, content []byte) {
		t := template.Must(layout.Clone())
		p.templates[strings.TrimSuffix(name, ".html")] = template.Must(t.New(name).Parse(string(content)))
	})
	return p
}

func each(dir string, do func(name string, content []byte)) {
	files, err := fs.ReadDir(embedded, dir)
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		content, err := fs.ReadFile(embedded, path.Join(dir, f.Name()))
		if err != nil {
			panic(err)
		}
		do(f.Name(), content)
	}
}

// asset is the path under which a file is served.
func (p *pages) asset(name string) string { return "/assets/" + p.names[name] }

// mediaTypes are those of the assets, whatever the machine thinks.
var mediaTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

func (a *api) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := chi.URLParam(r, "name")
	content, ok := a.pages.assets[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", mediaTypes[path.Ext(name)])
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(content)
}
