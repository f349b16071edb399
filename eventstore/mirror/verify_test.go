package mirror_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
)

func TestVerifyFindsDamage(t *testing.T) {
	for name, c := range map[string]struct {
		statement string
		names     string
	}{
		"a record":               {`UPDATE events SET record = CAST(replace(CAST(record AS TEXT), '"n"', '"m"') AS BLOB) WHERE position = P4`, "position P4 "},
		"a record cut":           {`UPDATE events SET record = substr(record, 1, 9) WHERE position = P4`, "position P4 "},
		"a hash":                 {`UPDATE events SET chain = randomblob(32) WHERE position = P4`, "position P4 "},
		"a hash cut":             {`UPDATE events SET chain = x'01' WHERE position = P4`, "position P4 "},
		"a stream":               {`UPDATE events SET stream = x'01' WHERE position = P4`, "position P4 "},
		"a revision":             {`UPDATE events SET revision = 7 WHERE position = P4`, "position P4 "},
		"an event in the middle": {`DELETE FROM events WHERE position = P4`, "position P5 "},
		"the last event":         {`DELETE FROM events WHERE position = (SELECT max(position) FROM events)`, "position P18 "},
		"all events":             {`DELETE FROM events`, "position 0 "},
		"two events swapped":     {`UPDATE events SET position = CASE position WHEN P4 THEN -P5 WHEN P5 THEN -P4 ELSE position END; UPDATE events SET position = abs(position)`, "position P4 "},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := newLedger(t)
			fill(t, ledger, 20)
			m := openMirror(t, "", ledger, nil)
			m.Limit(100, 100, 100, 3)
			catchUp(t, m, ledger)
			checkEqual(t, m, public(t, ledger))
			sent := deliveries(head(t, ledger).Identity, public(t, ledger))
			places := strings.NewReplacer("P4", position(sent[4]), "P5", position(sent[5]), "P18", position(sent[18]))
			if err := m.Damage(t.Context(), places.Replace(c.statement)); err != nil {
				t.Fatal(err)
			}
			checkError(t, m.Verify(t.Context()), eventstore.ErrCorrupt, places.Replace(c.names))
		})
	}
}

// TestReadersSeeDamage has a record that cannot be read be told as such, and what stands before it be read.
func TestReadersSeeDamage(t *testing.T) {
	ledger := newLedger(t)
	fill(t, ledger, 20)
	m := openMirror(t, "", ledger, nil)
	m.Limit(100, 100, 100, 3)
	catchUp(t, m, ledger)
	at := fmt.Sprint(public(t, ledger)[8].Position)
	if err := m.Damage(t.Context(), `UPDATE events SET record = x'00' WHERE position = `+at); err != nil {
		t.Fatal(err)
	}
	var last error
	n := 0
	for _, err := range m.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if last = err; err == nil {
			n++
		}
	}
	checkError(t, last, eventstore.ErrCorrupt, "position "+at)
	if n == 0 {
		t.Error("nothing was read")
	}
}

func TestOpenRefuses(t *testing.T) {
	ledger := newLedger(t)
	path := filepath.Join(t.TempDir(), "source.db")
	m := openMirror(t, path, ledger, nil)
	if err := m.Damage(t.Context(), `PRAGMA user_version = 2`); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := mirror.Open(t.Context(), path, mirror.Config{Ledger: head(t, ledger).ID})
	checkError(t, err, mirror.ErrNewerSchema, "schema 2", path)

	other := filepath.Join(t.TempDir(), "other.db")
	db, err := sql.Open("sqlite", other)
	if err == nil {
		_, err = db.ExecContext(t.Context(), `CREATE TABLE t (x)`)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("This is no database. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{other: "no mirror", text: "not a database", filepath.Join(text, "x", "y.db"): text} {
		if _, err := mirror.Open(t.Context(), path, mirror.Config{Ledger: uuid.New()}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
