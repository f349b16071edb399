package importer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/commands/importer"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/internal/keyring"
)

// sample is a file with everything in it: orders in turns, late lines, useless lines, credits.
func sample(orders int) string {
	var b strings.Builder
	b.WriteString(heading)
	for i := range orders {
		for line := range i%5 + 1 {
			b.WriteString(good(fmt.Sprint(i), fmt.Sprint("A", line)))
			if line == 1 {
				b.WriteString("C" + strings.Replace(good(fmt.Sprint(i), "R"), ",2,", ",-2,", 1))
			}
		}
		switch i % 7 {
		case 0:
			b.WriteString("useless\n")
		case 1:
			b.WriteString(good(fmt.Sprint(max(i-20, 0)), "late"))
		case 2:
			b.WriteString(strings.Replace(good("1", "A"), ",2,", ",-1,", 1))
		}
	}
	return b.String()
}

var errBroken = errors.New("the ledger is broken")

// An import that is stopped or fails anywhere and is run again ends as one that went through, and nothing is in the
// ledger twice or otherwise.
func TestInterruption(t *testing.T) {
	const orders = 60
	file := write(t, "o.csv", sample(orders))
	mapping := mappingOf(t, shop)
	whole := newLedger()
	through := whole.into(t, mapping, 8, file)
	if through.err != nil || through.Orders < orders {
		t.Fatalf("%+v", through)
	}
	rapid.Check(t, func(rt *rapid.T) {
		l := newLedger()
		for range rapid.IntRange(1, 4).Draw(rt, "interruptions") {
			at := rapid.Int64Range(0, through.Orders+10).Draw(rt, "at")
			cancels := rapid.Bool().Draw(rt, "cancels")
			lost := rapid.Bool().Draw(rt, "answer lost") // the order is in the ledger, and nobody learns of it
			ctx, cancel := context.WithCancel(t.Context())
			var calls atomic.Int64
			l.before = func(ctx context.Context, o importer.Order) error {
				if calls.Add(1) != at {
					return nil
				}
				if lost {
					_, _ = l.take(o)
				}
				if cancels {
					cancel()
					return ctx.Err()
				}
				return errBroken
			}
			o := l.run(ctx, t, mapping, rapid.IntRange(1, 32).Draw(rt, "workers"), file)
			cancel()
			reached := calls.Load() >= at && at > 0
			switch {
			case !reached && o.err != nil:
				rt.Fatalf("it failed by itself: %v", o.err)
			case reached && cancels && !errors.Is(o.err, context.Canceled), reached && !cancels && !errors.Is(o.err, errBroken):
				rt.Fatalf("stopped at %d, it says %v", at, o.err)
			}
		}
		l.before = nil
		o := l.into(t, mapping, rapid.IntRange(1, 32).Draw(rt, "workers"), file)
		if o.err != nil || o.rejects != through.rejects || o.Used != through.Used || o.Orders != through.Orders {
			rt.Fatalf("the last run differs: %+v", o)
		}
		if d := cmp.Diff(whole.digests, l.digests); d != "" {
			rt.Fatalf("the ledger differs:\n%s", d)
		}
	})
}

// The real ledger and the real commands see the same: each order once, with all its lines.
func TestIntoALedger(t *testing.T) {
	store, err := pebblestore.Open("ledger", &pebblestore.Config{FS: vfs.NewMem(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	keys, err := keyring.Open(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	handler, err := commands.NewHandler(t.Context(), commands.Config{Ledger: store, Keys: keys, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var calls, stopAt atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	submit := func(ctx context.Context, o importer.Order) (bool, error) {
		if calls.Add(1) == stopAt.Load() {
			cancel()
		}
		c, err := commandOf(o)
		if err != nil {
			return false, err
		}
		result, err := handler.Handle(ctx, c, o.Personal)
		var reused *commands.KeyReused
		if errors.As(err, &reused) {
			err = &importer.Refusal{Code: "idempotency_key_reused", Detail: "it is there"}
		}
		return result.Repeated, err
	}
	file := write(t, "o.csv", sample(100))
	config := importer.Config{Mapping: mappingOf(t, shop), Files: []string{file}, Submit: submit}
	var rejects strings.Builder
	config.Rejects = &rejects
	stopAt.Store(50)
	if _, err := importer.Run(ctx, config); !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped, it says %v", err)
	}
	first, err := importer.Run(t.Context(), config)
	if err != nil || first.Repeated == 0 || first.Repeated == first.Orders {
		t.Fatalf("%+v %v", first, err)
	}
	second, err := importer.Run(t.Context(), config)
	if err != nil || second.Repeated != first.Orders || second.Used != first.Used {
		t.Fatalf("%+v %v", second, err)
	}

	model := newLedger()
	if o := model.into(t, config.Mapping, 1, file); o.err != nil || o.Used != first.Used || int64(len(model.orders)) != o.Orders {
		t.Fatalf("%+v", o)
	}
	stored := map[string]int{}
	for r, err := range store.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e, err := domain.DecodeEvent(r.Type, r.Data); err != nil {
			t.Fatal(err)
		} else if s, ok := e.(*domain.Submitted); ok {
			stored[r.Stream] += len(s.Lines)
		}
	}
	want := map[string]int{}
	for key, o := range model.orders {
		want[domain.Stream(domain.OrderID("unit", "test", key))] = len(o.Submit.Lines)
	}
	if d := cmp.Diff(want, stored); d != "" {
		t.Error(d)
	}
}
