package readapi_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/readapi"
)

// Every route is documented with its parameters and answers.
func TestOpenAPI(t *testing.T) {
	w := newWorld(t)
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string
			Summary     string
			Parameters  []struct{ Name, In, Description string }
			Responses   map[string]struct {
				Content map[string]struct{ Schema map[string]any }
			}
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]map[string]any
				Required   []string
			}
		}
	}
	rec := w.get("/openapi.json")
	if err := json.Unmarshal(rec.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Paths) != 13 {
		t.Errorf("%d paths", len(doc.Paths))
	}
	for path, methods := range doc.Paths {
		op := methods["get"]
		if len(methods) != 1 || op.OperationID == "" || op.Summary == "" {
			t.Errorf("%s: %+v", path, methods)
		}
		var names []string
		for _, p := range op.Parameters {
			names = append(names, p.Name)
			if p.Description == "" && p.Name != "limit" {
				t.Errorf("%s: %s is not described", path, p.Name)
			}
		}
		for _, name := range []string{"Orderledger-Mark", "mark", "mark_wait", "business_unit"} {
			if !slices.Contains(names, name) {
				t.Errorf("%s lacks %s", path, name)
			}
		}
		live := strings.HasSuffix(path, "/events") || strings.HasSuffix(path, "/notifications")
		answer := op.Responses["200"].Content
		if _, stream := answer["text/event-stream"]; stream != live || answer["application/json"].Schema == nil {
			t.Errorf("%s answers %v", path, answer)
		}
		if slices.Contains(names, "Last-Event-ID") != live {
			t.Errorf("%s takes %v", path, names)
		}
	}
	order := doc.Components.Schemas["Order"]
	if order.Properties["personal"]["anyOf"] == nil || !slices.Contains(order.Required, "personal") || order.Properties["purchase_order"] == nil {
		t.Errorf("an order is %v", order)
	}
}

func TestCodesAreDocumented(t *testing.T) {
	w := newWorld(t)
	for _, c := range readapi.Codes() {
		got := read[web.Code](w, "/problems/"+c.Code)
		if got.Status != c.Status || got.Meaning == "" {
			t.Errorf("%+v", got)
		}
	}
}
