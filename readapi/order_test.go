package readapi_test

import (
	"testing"

	"github.com/orderledger/orderledger/readapi"
)

func TestOrder(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	rec := w.get("/v1/orders/" + id.String())
	t.Log(rec.Code, rec.Header(), rec.Body)
	_ = read[readapi.Timeline](w, "/v1/orders/"+id.String()+"/timeline")
	t.Log(w.get("/v1/orders?q=lens").Body)
	t.Log(w.get("/v1/counts").Body)
	t.Log(w.get("/v1/status").Body)
	t.Log(w.get("/v1/history/orders/" + id.String()).Body)
	t.Log(w.get("/v1/history/orders/" + id.String() + "/diff?from=0").Body)
	t.Log(w.get("/v1/notifications?after=0", "Accept: application/json").Body)
	t.Log(w.get("/v1/orders/"+id.String()+"/events", "Accept: application/json").Body)
}

func TestPagesRender(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	for _, p := range []string{"/", "/orders/" + id.String(), "/orders/" + id.String() + "/history", "/orders/x"} {
		rec := w.get(p)
		t.Log(rec.Code, rec.Body)
	}
}
