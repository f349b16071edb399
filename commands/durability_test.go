package commands_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orderledger/orderledger/eventstore"
)

const durability = "Orderledger-Durability"

func TestDurability(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.regions["a"], w.regions["b"]
	var waited []string
	a.remote = func(ctx context.Context, m eventstore.Mark) error {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 5*time.Second {
			t.Errorf("it waits until %v", deadline)
		}
		waited = append(waited, m.String())
		return nil
	}
	check := func(what string, r response, want string, waits bool) {
		t.Helper()
		if r.status > 201 || r.header.Get(durability) != want || (len(waited) == 1) != waits || waits && waited[0] != r.header.Get("Orderledger-Mark") {
			t.Errorf("%s: %d %s %q, waited for %v", what, r.status, r.body, r.header.Values(durability), waited)
		}
		waited = nil
	}
	first := a.erp().post("/v1/orders", "k", plain, durability, "remote")
	check("remote", first, "remote", true)
	check("again", a.erp().post("/v1/orders", "k", plain, durability, "remote"), "remote", true)
	check("nobody asks", a.erp().post("/v1/orders", "k", plain), "", false)
	check("region", a.erp().post("/v1/orders", "k", plain, durability, "region"), "region", false)
	path := "/v1/orders/" + first.answer(t).ID
	check("a change", a.erp().post(path+"/hold", "h", `{`+reason+`}`, durability, "remote"), "remote", true)
	check("passed on", b.erp().post(path+"/release", "r", ``, durability, "remote"), "remote", true)
	a.remote = nil
	check("nobody follows", a.erp().post("/v1/orders", "k2", plain, durability, "remote"), "region", false)
	if r := newServer(t).post("/v1/orders", "k", plain, durability, "remote"); r.status != http.StatusCreated || r.header.Get(durability) != "region" {
		t.Errorf("in one region: %d %v", r.status, r.header)
	}
	events := len(a.stored())
	for _, bad := range []string{"Remote", "disk", " region", "region, remote", "remote;q=1"} {
		r := a.erp().post("/v1/orders", "k3", plain, durability, bad)
		if r.status != http.StatusBadRequest || r.code() != "invalid_parameter" || !strings.Contains(r.body, `"header.Orderledger-Durability"`) {
			t.Errorf("%q: %d %s", bad, r.status, r.body)
		}
	}
	if len(a.stored()) != events {
		t.Error("something was stored")
	}
}

// Who waits for a region that does not answer is told after five seconds what has been reached.
func TestDurabilityIsBounded(t *testing.T) {
	a := newWorld(t, "a").regions["a"]
	a.erp().submit("k", plain) // outside the bubble: the ledger has a life of its own
	synctest.Test(t, func(t *testing.T) {
		a.t = t
		a.remote = func(ctx context.Context, _ eventstore.Mark) error {
			<-ctx.Done()
			return ctx.Err()
		}
		began := time.Now()
		r := a.erp().post("/v1/orders", "k", plain, durability, "remote")
		if took := time.Since(began); r.status != http.StatusCreated || r.header.Get(durability) != "region" || took != 5*time.Second {
			t.Errorf("%d %v after %v", r.status, r.header, took)
		}
	})
}

// The document tells about the header where it is taken.
func TestDurabilityDocumented(t *testing.T) {
	r := newServer(t).send(http.MethodGet, "/openapi.json", nil)
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Name   string
				Schema struct{ Enum []string }
			}
		}
	}
	if err := json.Unmarshal([]byte(r.body), &doc); err != nil {
		t.Fatal(err)
	}
	for _, p := range doc.Paths["/v1/orders"]["post"].Parameters {
		if p.Name == durability && strings.Join(p.Schema.Enum, " ") == "region remote" {
			return
		}
	}
	t.Error("the header is not in the document")
}
