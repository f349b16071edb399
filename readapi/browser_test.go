package readapi_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/web"
)

// browse starts a browser, or skips the test where there is none.
func browse(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium on this machine: pages are checked by their text only")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 1000))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}

// serve listens on a port of this machine and returns the address.
func (w *world) serve() string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	server := web.HTTPServer(w.server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			w.t.Errorf("stopping the server: %v", err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			w.t.Errorf("serving: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// eventful is an order that a site failed and that is partly on its way.
func (w *world) eventful() uuid.UUID {
	person := domain.Person{Name: "Optik Huber GmbH", Contact: "Maria Huber", Street: []string{"Mariahilfer Straße 12"}, PostalCode: "1060", City: "Wien", Email: "maria@huber.example"}
	id, _ := w.submit("eventful", func(s *domain.Submit) {
		s.Personal = w.seal(domain.Personal{Buyer: person, ShipTo: person, Instructions: "Please ring twice."}, orderID("main", "eventful"), "key-1")
	})
	w.do("main", id, domain.ReportFailure{Fulfilment: "f1", Reason: domain.Reason{Code: "machine_down", Text: "the coating machine is down"}})
	promise := func(line string, n int64) domain.LineConfirmation {
		return domain.LineConfirmation{Line: line, Promises: []domain.Promise{{Quantity: domain.Whole(n), Kind: "deliver", Date: domain.Date{Day: "2026-12-03"}}}}
	}
	w.do("main", id, domain.Confirm{Fulfilment: "f2", Confirmation: domain.Confirmation{Outcome: domain.Accepts, Reference: "W-99120",
		Lines: []domain.LineConfirmation{promise("1", 3), promise("2", 25)}}})
	w.do("main", id, domain.StartFulfilment{Fulfilment: "f2"})
	w.do("main", id, domain.Ship{Fulfilment: "f2", Shipment: domain.Shipment{Carrier: "DHL", Tracking: "00340434161094042557",
		Lines: []domain.LineQuantity{{Line: "1", Quantity: domain.Whole(2)}}}})
	w.do("main", id, domain.Deliver{Fulfilment: "f2", Lines: []domain.LineQuantity{{Line: "1", Quantity: domain.Whole(1)}}})
	return id
}

// A page that somebody looks at moves when the order does, and nothing in it breaks the content policy.
func TestPageMovesByItself(t *testing.T) {
	ctx := browse(t)
	w := newWorld(t)
	id := w.eventful()
	for _, k := range []string{"b", "c", "d"} {
		w.submit(k)
	}
	w.submit("e", func(s *domain.Submit) { s.Channel = "bad" })
	w.submit("f", func(s *domain.Submit) { s.Channel = "watched" })
	base := w.serve()
	show := func(path string) {
		t.Helper()
		browser(t, ctx, chromedp.Navigate(base+path), chromedp.WaitVisible(`html[data-live="on"]`))
	}

	show("/orders/" + id.String())
	screenshot(t, ctx, "order")
	w.do("main", id, domain.Ship{Fulfilment: "f2"})
	browser(t, ctx, chromedp.WaitVisible(`.hero .status.is-shipped`))

	browser(t, ctx, chromedp.Navigate(base+"/orders/"+id.String()+"/history?revision=5"), chromedp.WaitVisible(`.diff`))
	screenshot(t, ctx, "history")

	show("/")
	w.do("main", id, domain.Deliver{Fulfilment: "f2"})
	browser(t, ctx, chromedp.WaitVisible(`#feed .was-delivered`), chromedp.WaitVisible(`.counts .is-delivered`))
	screenshot(t, ctx, "overview")

	if os.Getenv("ORDERLEDGER_SCREENSHOTS") != "" {
		browser(t, ctx, chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2)))
		show("/orders/" + id.String())
		screenshot(t, ctx, "order-mobile")
		show("/")
		screenshot(t, ctx, "overview-mobile")
	}
}

func browser(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// screenshot keeps a picture of the page in the folder that ORDERLEDGER_SCREENSHOTS names, if it does.
func screenshot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("ORDERLEDGER_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
