package projections_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/projections"
)

// hashOf returns the hash of all rows, and checks that there are some.
func hashOf(t *testing.T, v *projections.Views) string {
	t.Helper()
	sum, rows, err := v.Hash(t.Context())
	check(t, err)
	if rows == 0 {
		t.Fatal("there are no rows")
	}
	return string(sum[:])
}

// Two regions come to the same rows in all ways in which rows are made: delivered by a bus, rebuilt, and caught up from
// mirrors, whichever of the ledgers is their own.
func TestHashIsTheSameHoweverRowsWereMade(t *testing.T) {
	a, b := newLedger(t), newLedger(t)
	newLife(t, a, "twice", nil)
	newLife(t, b, "twice", nil)
	for i := range 10 {
		newLife(t, a, "a"+strconv.Itoa(i), nil).deliver()
		newLife(t, b, "b"+strconv.Itoa(i), nil)
	}

	live := newViews(t)
	p := newProjector(t, live, a, b)
	for _, l := range []eventstore.Reader{b, a} {
		all := deliveries(t, l)
		for len(all) > 0 {
			n := min(7, len(all))
			check(t, p.Apply(t.Context(), all[:n]))
			all = all[n:]
		}
	}
	want := hashOf(t, live)

	path := filepath.Join(t.TempDir(), "views.db")
	check(t, projections.Rebuild(t.Context(), path, []eventstore.Reader{a, b}, nil))
	check(t, projections.Swap(t.Context(), path))
	rebuilt, err := projections.Open(t.Context(), path, nil)
	check(t, err)
	defer func() { check(t, rebuilt.Close()) }()
	if hashOf(t, rebuilt) != want {
		t.Error("rebuilt rows have another hash")
	}

	remote, _ := caughtUp(t, b, mirrored(t, a))
	if hashOf(t, remote) != want {
		t.Error("rows from a mirror have another hash")
	}
	elsewhere, _ := caughtUp(t, mirrored(t, b), mirrored(t, a))
	if hashOf(t, elsewhere) != want {
		t.Error("rows from two mirrors have another hash")
	}
}

// mirrored returns a mirror of all that stands in a ledger.
func mirrored(t *testing.T, l eventstore.Reader) *mirror.Mirror {
	t.Helper()
	head, err := l.Head(t.Context())
	check(t, err)
	m, err := mirror.Open(t.Context(), filepath.Join(t.TempDir(), "mirror.db"), mirror.Config{Ledger: head.ID})
	check(t, err)
	t.Cleanup(func() { check(t, m.Close()) })
	check(t, m.CatchUp(t.Context(), l))
	return m
}

func TestHashTellsEveryDifference(t *testing.T) {
	a, b := newLedger(t), newLedger(t)
	newLife(t, a, "one", nil).deliver()
	newLife(t, a, "twice", nil)
	newLife(t, b, "twice", nil)
	newLife(t, b, "disputed", nil).do(domain.RecordConflict{Conflict: domain.Conflict{Ledger: "another", Site: "B"}})
	v, _ := caughtUp(t, a, b)
	check(t, v.Exec(t.Context(), `INSERT INTO parked VALUES (x'00', x'01', 'main', 1, 1, 'nobody knows')`))
	seen := map[string]string{hashOf(t, v): "nothing"} // the last change, by the hash that it led to
	try := func(change string) {
		t.Helper()
		check(t, v.Exec(t.Context(), change))
		sum, _, err := v.Hash(t.Context())
		check(t, err)
		if before, ok := seen[string(sum[:])]; ok {
			t.Errorf("the hash after %q is that after %q", change, before)
		}
		seen[string(sum[:])] = change
	}
	// Values that could be taken for one another.
	for _, values := range []string{
		`reason_code = 'ab', reason_text = 'c'`, `reason_code = 'a', reason_text = 'bc'`, `reason_code = x'6162', reason_text = 'c'`,
		`reason_code = 'as', reason_text = 'b'`, `reason_code = 'a', reason_text = 'sb'`,
	} {
		try(`UPDATE timeline SET ` + values + ` WHERE revision = 1`)
	}
	tables, err := projections.Columns(t.Context(), v)
	check(t, err)
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		first := tables[table][0]
		for _, column := range tables[table] {
			try(`UPDATE OR REPLACE ` + table + ` SET ` + column + ` = CASE typeof(` + column + `) WHEN 'integer' THEN ` + column + ` + 1000000
				WHEN 'blob' THEN CAST('` + column + `' AS BLOB) ELSE ` + column + ` || 'x' END WHERE ` + first + ` = (SELECT ` + first + ` FROM ` + table + ` LIMIT 1)`)
		}
	}
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		try(`DELETE FROM ` + table)
	}
}
