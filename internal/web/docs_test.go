package web_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"gopkg.in/yaml.v3"

	"github.com/orderledger/orderledger/internal/web"
)

func TestOpenAPI(t *testing.T) {
	s, _ := newServer(t, web.Config{Title: "Things", Description: "All of them.", Version: "1.2.3", Tags: []*huma.Tag{{Name: "things"}}})
	w := send(s, "GET", "/openapi.json", "")
	if got := w.Header().Get("Content-Type"); got != "application/openapi+json" {
		t.Errorf("content type %q", got)
	}
	var doc struct {
		OpenAPI string
		Info    struct {
			Title, Description, Version string
			License                     struct{ Identifier string }
		}
		Servers []struct{ URL string }
		Tags    []struct{ Name string }
		Paths   map[string]map[string]struct {
			Parameters  []struct{ Name, In string }
			RequestBody struct {
				Content map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					}
				}
			}
			Responses map[string]struct{ Content map[string]any }
		}
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || doc.Info.Title != "Things" || doc.Info.Description != "All of them." || doc.Info.Version != "1.2.3" ||
		doc.Info.License.Identifier != "Apache-2.0" || doc.Servers[0].URL != "/" || doc.Tags[0].Name != "things" {
		t.Errorf("%+v", doc.Info)
	}
	create := doc.Paths["/v1/things"]["post"]
	if ref := create.RequestBody.Content["application/json"].Schema.Ref; ref != "#/components/schemas/Thing" {
		t.Errorf("the body of create is %q", ref)
	}
	if doc.Components.Schemas["Thing"].Properties["name"] == nil {
		t.Error("the schema of the body lacks its members")
	}
	if create.Responses["default"].Content["application/problem+json"] == nil {
		t.Errorf("the responses of create are %v", create.Responses)
	}
	if doc.Components.Schemas["Problem"].Properties["code"] == nil {
		t.Error("problems have no schema")
	}
	get := doc.Paths["/v1/things/{id}"]["get"]
	if _, wrong := get.Responses["422"]; wrong || get.Responses["404"].Content["application/problem+json"] == nil {
		t.Errorf("the responses of get are %v", get.Responses)
	}
	found := 0
	for _, p := range get.Parameters {
		if p.Name == "Business-Unit" && p.In == "header" || p.Name == "business_unit" && p.In == "query" {
			found++
		}
	}
	if found != 2 {
		t.Errorf("the parameters of get are %v", get.Parameters)
	}

	w = send(s, "GET", "/openapi.yaml", "")
	var fromYAML struct{ OpenAPI string }
	if err := yaml.Unmarshal(w.Body.Bytes(), &fromYAML); err != nil || fromYAML.OpenAPI != "3.1.0" {
		t.Errorf("/openapi.yaml: %v, %+v", err, fromYAML)
	}
}

// The page shows the document without help from any other host.
func TestDocs(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	page := send(s, "GET", "/docs", "")
	if page.Code != 200 || !strings.HasPrefix(page.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("/docs: %d %v", page.Code, page.Header())
	}
	policy := page.Header().Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "http") || strings.Contains(policy, "unsafe-eval") {
		t.Errorf("policy %q", policy)
	}
	if text := page.Body.String(); strings.Contains(text, "//") || !strings.Contains(text, `load-fonts="false"`) {
		t.Errorf("the page reaches out:\n%s", text)
	}
	for _, path := range []string{"/docs/rapidoc-min.js", "/docs/rapidoc.LICENSE.txt", "/docs/rapidoc-min.js.LICENSE.txt"} {
		if w := send(s, "GET", path, ""); w.Code != 200 || w.Body.Len() < 500 {
			t.Errorf("%s: %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
}

// What was copied from elsewhere is what was copied.
func TestVendoredFiles(t *testing.T) {
	sums, err := os.ReadFile(filepath.Join("assets", "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{"SHA256SUMS": true, "docs.html": true} // ours
	for lines := bufio.NewScanner(bytes.NewReader(sums)); lines.Scan(); {
		want, name, ok := strings.Cut(lines.Text(), "  ")
		if !ok {
			t.Fatalf("malformed: %s", lines.Text())
		}
		content, err := os.ReadFile(filepath.Join("assets", name))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s has the SHA-256 %s, not %s", name, got, want)
		}
		files[name] = true
	}
	entries, err := os.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !files[e.Name()] {
			t.Errorf("%s has no checksum", e.Name())
		}
	}
}
