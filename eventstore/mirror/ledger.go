package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"github.com/google/uuid"
)

// LedgerOf tells which ledger the file at path mirrors.
func LedgerOf(ctx context.Context, path string) (id uuid.UUID, err error) {
	if _, err := os.Stat(path); err != nil {
		return id, err // the database would make the file
	}
	db, err := sql.Open("sqlite", dataSource(path, "_txlock=deferred", "query_only(1)"))
	if err != nil {
		return id, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.QueryRowContext(ctx, `SELECT id FROM ledger`).Scan(&id); err != nil {
		return id, fmt.Errorf("asking which ledger %s mirrors: %w", path, err)
	}
	return id, nil
}
