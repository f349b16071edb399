package commands_test

import (
	"strings"
	"testing"
)

func TestSmoke(t *testing.T) {
	s := newServer(t)
	r := s.post("/v1/orders", "k", with(plain, "personal", map[string]any{"buyer": map[string]any{"name": "X"}}))
	t.Log(r.status, r.header, r.body)
	id := r.answer(t).ID
	r = s.post("/v1/orders", "k", with(plain, "personal", map[string]any{"buyer": map[string]any{"name": "X"}}))
	t.Log(r.status, r.header, r.body)
	r = s.post("/v1/orders/"+id+"/fulfilments/f1/start", "k", "")
	t.Log(r.status, r.header, r.body)
	r = s.post("/v1/orders/"+id+"/fulfilments/f1/start", "k2", "")
	t.Log(r.status, r.header, r.body)
	r = s.post("/v1/orders/"+id+"/fulfilments/f1/start", "k3", "{}", "If-Match", `"0-1"`)
	t.Log(r.status, r.header, r.body)
	r = s.post("/v1/orders/"+id+"/fulfilments/f1/ship", "k4", `{"lines":[{"line":"1","quantity":-1}]}`)
	t.Log(r.status, r.header, r.body)
	r = s.post("/v1/orders/"+id+"/fulfilments/f1/ship", "k4", `{"lines":[{"line":"1","quantity":"-1"}]}`)
	t.Log(r.status, r.header, r.body)
	r = s.post("/v1/orders/"+id+"/cancel", "k4", ``)
	t.Log(r.status, r.header, r.body)
	r = s.send("GET", "/openapi.yaml", nil)
	t.Log(len(r.body))
	i := strings.Index(r.body, "AnswerX")
	_ = i
	t.Log(r.body[:3000])
}
