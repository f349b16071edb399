package faults

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/projections"
)

// A project keeps read models up to date with a ledger.
type project struct {
	*projections.Views
	*projections.Projector
}

func openProject(t *testing.T, path string, ledger eventstore.Reader) project {
	t.Helper()
	v, err := projections.Open(t.Context(), path, nil)
	check(t, err)
	p, err := projections.NewProjector(t.Context(), v, []eventstore.Reader{ledger}, &projections.ProjectorConfig{Log: quiet})
	check(t, err)
	return project{v, p}
}

func (p project) close(t *testing.T) {
	t.Helper()
	check(t, errors.Join(p.Projector.Close(context.WithoutCancel(t.Context())), p.Views.Close()))
}

// newViews makes a file of read models that has no log yet, and returns its bytes. As long as they stay, each beginning
// of the log is what the read models were at some time.
func newViews(t *testing.T, path string) []byte {
	t.Helper()
	v, err := projections.Open(t.Context(), path, nil)
	check(t, err)
	check(t, v.Close())
	base, err := os.ReadFile(path)
	check(t, err)
	return base
}

// TestReadModelsConvergeAfterPowerLoss combines what a power failure has left of the ledger with any earlier committed
// state of the read models, or none. Fed from the ledger alone, or by the relay from its checkpoint while the ledger goes
// on, they become what the ledger adds up to.
func TestReadModelsConvergeAfterPowerLoss(t *testing.T) {
	points := 100 / slowed
	if full {
		points = 5_000
	}
	rng, histories := seeded(t), histories(t)
	var done, rows, withLog, byRelay int
	for done < points && !t.Failed() {
		path := filepath.Join(t.TempDir(), "views.db")
		base := newViews(t, path)
		d := newDisk()
		ctx, over := context.WithCancel(t.Context())
		wrecks := make(chan wreck, 10)
		l := &life{
			load: &load{t: t, histories: histories, ledger: open(t, d), lag: 20},
			disk: d, wrecks: wrecks, rng: rng, next: 30, failures: cap(wrecks), over: over,
			views: func() []byte {
				log, err := os.ReadFile(path + "-wal")
				now, err2 := os.ReadFile(path)
				if err := errors.Join(err, err2); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
				if !bytes.Equal(now, base) {
					return nil
				}
				return log
			},
		}
		p := openProject(t, path, l.ledger)
		l.publish = func(deliveries []eventstore.Delivery) {
			if err := p.Apply(t.Context(), deliveries); err != nil {
				t.Error(err)
			}
		}
		d.before = l.before
		l.run(ctx, 4, rng)
		p.close(t)
		check(t, l.ledger.Close())
		close(wrecks)
		for w := range wrecks {
			path := filepath.Join(t.TempDir(), "views.db")
			if log := w.views[:rng.IntN(len(w.views)+1)]; rng.IntN(8) > 0 {
				check(t, errors.Join(os.WriteFile(path, base, 0o600), os.WriteFile(path+"-wal", log, 0o600)))
				if len(log) > 0 {
					withLog++
				}
			}
			relayed := rng.IntN(2) == 0
			if relayed {
				byRelay++
			}
			rows += converge(t, w, path, relayed, rng, histories)
			done++
		}
	}
	t.Logf("%d power failures, after %d of which the read models had an earlier state; %d times the relay brought the rest; %d rows equal the fold", done, withLog, byRelay, rows)
	if withLog < done/4 {
		t.Error("the read models were hardly ever in an earlier state")
	}
}

// converge brings read models up to a ledger that has survived a power failure, and returns how many rows are right.
func converge(t *testing.T, w wreck, path string, relayed bool, rng *rand.Rand, histories []history) int {
	t.Helper()
	l := &load{t: t, ledger: open(t, w.left), histories: histories, knowledge: knowledge{seen: slices.Clip(w.seen)}}
	defer func() { check(t, l.ledger.Close()) }()
	p := openProject(t, path, l.ledger)
	defer p.close(t)
	if relayed {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var counting sync.Mutex
		brought := 0
		l.publish = func(deliveries []eventstore.Delivery) {
			if err := p.Apply(t.Context(), deliveries); err != nil {
				t.Error(err)
			}
			counting.Lock()
			defer counting.Unlock()
			if brought += len(deliveries); brought > 40 {
				stop()
			}
		}
		l.run(ctx, 2, rng)
	}
	check(t, p.CatchUp(t.Context()))
	head, err := l.ledger.Head(t.Context())
	check(t, err)
	report, err := p.Verify(t.Context(), []eventstore.Reader{l.ledger}, nil)
	check(t, err)
	if report.Difference != nil {
		t.Errorf("unsynced data %v: the read models are not what the ledger adds up to: %v", w.crash, report.Difference)
	}
	if lag, err := p.Lag(t.Context()); err != nil || lag[0].Events != 0 {
		t.Errorf("the read models stay behind the ledger, which ends at %d: %+v, error %v", head.Position, lag, err)
	}
	return report.Rows
}
