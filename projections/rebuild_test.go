package projections_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/projections"
)

// files lists what a directory holds.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRebuildAndSwap(t *testing.T) {
	ctx := t.Context()
	l := newLedger(t)
	for i := range 20 {
		newLife(t, l, strconv.Itoa(i), nil).deliver()
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "views #1?.db") // a name that URLs would cut
	v, err := projections.Open(ctx, path, nil)
	check(t, err)
	p := newProjector(t, v, l)
	check(t, p.CatchUp(ctx))
	check(t, p.Close(ctx))
	check(t, v.Exec(ctx, `DELETE FROM timeline`)) // something that a rebuild mends
	check(t, v.Exec(ctx, `INSERT INTO skipped VALUES (x'01', x'02', 3)`))

	check(t, os.WriteFile(path+".rebuilt", []byte("left by a crash"), 0o600))
	var told []projections.Progress
	check(t, projections.Rebuild(ctx, path, []eventstore.Reader{l}, func(p projections.Progress) { told = append(told, p) }))
	last := told[len(told)-1]
	if last.Events != 20*7 || last.Fraction != 1 || last.Left != 0 || last.Rate <= 0 {
		t.Errorf("progress at the end: %+v", last)
	}
	if err := projections.Swap(ctx, path); err == nil {
		t.Error("read models that are open were swapped")
	}
	check(t, v.Close())
	check(t, v.Close())
	check(t, projections.Swap(ctx, path))
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}
	if err := projections.Swap(ctx, path); err == nil {
		t.Error("nothing was swapped in")
	}

	v, err = projections.Open(ctx, path, &projections.Config{Readers: 1})
	check(t, err)
	defer func() { check(t, v.Close()) }()
	should, _ := caughtUp(t, l)
	wantSame(t, v, should)
	check(t, v.Exec(ctx, `INSERT INTO skipped VALUES (x'02', x'02', (SELECT revision FROM skipped WHERE source = x'01'))`)) // null: it was forgotten
	p = newProjector(t, v, l)
	newLife(t, l, "after", nil)
	check(t, p.CatchUp(ctx))
	wantFold(t, v, l)
}

func TestCancelledRebuildLeavesNothing(t *testing.T) {
	l := newLedger(t)
	newLife(t, l, "one", nil)
	ctx, cancel := context.WithCancel(t.Context())
	interrupted := strange{l, func(*eventstore.Recorded) { cancel() }}
	dir := t.TempDir()
	err := projections.Rebuild(ctx, filepath.Join(dir, "views.db"), []eventstore.Reader{interrupted}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
}

func TestVerifyNamesTheFirstDifference(t *testing.T) {
	ctx := t.Context()
	l := newLedger(t)
	newLife(t, l, "one", nil).deliver()
	x := newLife(t, l, "two", nil)
	for change, want := range map[string]string{
		`UPDATE orders SET total = '1' WHERE status = 'routed'`:                           "column total of the row business_unit=main order_id=" + x.order.ID.String(),
		`UPDATE orders SET folded = x'7b7d' WHERE status = 'routed'`:                      "table orders: column folded",
		`DELETE FROM timeline WHERE revision = 2`:                                         "revision=2 is missing",
		`UPDATE timeline SET summary = '{}' WHERE revision = 1`:                           "column summary",
		`UPDATE timeline SET revision = 9 WHERE revision = 6`:                             "revision=6 is missing",
		`INSERT INTO order_terms VALUES ('main', 'zzz', 'word', 1, x'00', x'00')`:         "table order_terms: the row business_unit=main value=zzz kind=word",
		`DELETE FROM notifications WHERE kind = 'shipped'`:                                "table notifications",
		`UPDATE status_counts SET orders = orders + 1`:                                    "column orders",
		`UPDATE status_counts SET orders = 'many'`:                                        "column orders",
		`INSERT INTO parked VALUES (x'00', x'00', '', 1, 1, 'nobody knows')`:              "table parked: the row source=[0] order_id=[0] is surplus",
		`UPDATE notifications SET occurred = occurred + 1 WHERE status = 'in_fulfilment'`: "column occurred",
	} {
		v, _ := caughtUp(t, l)
		check(t, v.Exec(ctx, change))
		report, err := v.Verify(ctx, []eventstore.Reader{l}, nil)
		check(t, err)
		if report.Difference == nil || !strings.Contains(report.Difference.String(), want) {
			t.Errorf("%s: the difference is %v, want %s", change, report.Difference, want)
		}
	}
}

func TestVerify(t *testing.T) {
	l := newLedger(t)
	newLife(t, l, "one", nil).deliver()
	dir := t.TempDir()
	v, err := projections.Open(t.Context(), filepath.Join(dir, "views.db"), nil)
	check(t, err)
	defer func() { check(t, v.Close()) }()
	p := newProjector(t, v, l)
	check(t, p.CatchUp(t.Context()))
	newLife(t, l, "two", nil) // which the rows do not know yet
	before := len(files(t, dir))
	report, err := v.Verify(t.Context(), []eventstore.Reader{l}, func(projections.Progress) {})
	check(t, err)
	if report.Difference != nil || report.Rows < 1+7+7+1 || len(report.Sources) != 1 {
		t.Errorf("report: %+v", report)
	}
	if got := files(t, dir); len(got) != before {
		t.Errorf("left behind: %q", got)
	}
	check(t, p.Close(t.Context()))
}

// One lane may be far ahead of the others.
func TestVerifyLaneByLane(t *testing.T) {
	l := newLedger(t)
	for i := range 8 { // some in each lane
		newLife(t, l, strconv.Itoa(i), nil)
	}
	v := newViews(t)
	p := newProjector(t, v, l)
	for _, lane := range []int{2, 0, 1, 3} {
		for _, d := range deliveries(t, l) {
			if d.Lane == lane {
				check(t, p.Apply(t.Context(), []eventstore.Delivery{d}))
			}
		}
		wantFold(t, v, l)
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "views.db")
	v, err := projections.Open(t.Context(), path, nil)
	check(t, err)
	again, err := projections.Open(t.Context(), path, nil)
	check(t, err)
	check(t, again.Close())
	check(t, v.Exec(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`))
	check(t, v.Close())
	if _, err := projections.Open(t.Context(), path, nil); !errors.Is(err, projections.ErrNewerSchema) {
		t.Errorf("got error %v, want %v", err, projections.ErrNewerSchema)
	}
	check(t, os.WriteFile(path, []byte("this is no database, but a letter"), 0o600))
	if _, err := projections.Open(t.Context(), path, nil); err == nil {
		t.Error("a letter was opened")
	}
	if _, err := projections.Open(t.Context(), filepath.Join(path, "below a file"), nil); err == nil {
		t.Error("a file was taken for a directory")
	}
}

// Once closed, and while the ledger fails, every call says so.
func TestFailures(t *testing.T) {
	ctx := t.Context()
	l := newLedger(t)
	x := newLife(t, l, "one", nil)
	v, p := caughtUp(t, l)
	mark := markOf(t, l, x)
	broken := newLedger(t)
	bv, bp := caughtUp(t, broken)
	check(t, broken.Close())
	calls := map[string]error{
		"catching up without a ledger": bp.CatchUp(ctx),
		"rebuilding without a ledger":  projections.Rebuild(ctx, filepath.Join(t.TempDir(), "views.db"), []eventstore.Reader{broken}, nil),
	}
	_, calls["starting without a ledger"] = projections.NewProjector(ctx, bv, []eventstore.Reader{broken}, nil)
	_, calls["lag without a ledger"] = bp.Lag(ctx)
	_, calls["verifying without a ledger"] = bv.Verify(ctx, []eventstore.Reader{broken}, nil)

	x.deliver()
	closed := newProjector(t, v, l)
	check(t, closed.Close(ctx))
	calls["a closed projector"] = closed.CatchUp(ctx)
	_, calls["retrying"] = closed.RetryParked(ctx)
	check(t, v.Close())
	calls["applying"] = p.Apply(ctx, deliveries(t, l))
	calls["catching up"] = p.CatchUp(ctx)
	_, calls["lag"] = p.Lag(ctx)
	_, calls["starting"] = projections.NewProjector(ctx, v, []eventstore.Reader{l}, nil)
	_, _, calls["order"] = v.Order(ctx, domaintest.BusinessUnit, x.order.ID)
	_, calls["orders"] = v.Orders(ctx, projections.Query{})
	_, calls["timeline"] = v.Timeline(ctx, domaintest.BusinessUnit, mark.Ledger, x.order.ID, 0, 1)
	_, calls["notifications"] = v.Notifications(ctx, domaintest.BusinessUnit, nil, 1)
	_, calls["end"] = v.End(ctx)
	_, calls["sources"] = v.Sources(ctx)
	_, calls["counts"] = v.Counts(ctx, domaintest.BusinessUnit)
	_, calls["parked"] = v.Parked(ctx, 1)
	_, calls["verify"] = v.Verify(ctx, []eventstore.Reader{l}, nil)
	calls["waiting"] = v.WaitFor(ctx, mark, nil)
	for _, err := range v.WatchOrder(ctx, domaintest.BusinessUnit, mark.Ledger, x.order.ID, 0) {
		calls["watching an order"] = err
	}
	for _, err := range v.WatchNotifications(ctx, domaintest.BusinessUnit, nil) {
		calls["watching the feed"] = err
	}
	for name, err := range calls {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if len(calls) != 23 {
		t.Errorf("%d calls", len(calls))
	}
}
