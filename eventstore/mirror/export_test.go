package mirror

import (
	"context"
	"fmt"
)

// Limit makes a mirror's limits small.
func (m *Mirror) Limit(held, heldBytes, batch, chunk int) {
	m.limits.held, m.limits.heldBytes = held, heldBytes
	m.limits.batch, m.limits.chunk = batch, chunk
}

// Room says how many more pages the disk has for the file.
func (m *Mirror) Room(ctx context.Context, pages int) error {
	var count int
	if err := m.writer.QueryRowContext(ctx, `PRAGMA page_count`).Scan(&count); err != nil {
		return err
	}
	_, err := m.writer.ExecContext(ctx, fmt.Sprintf(`PRAGMA max_page_count = %d`, count+pages))
	return err
}

// Synchronous is how SQLite waits for the disk when it commits.
func (m *Mirror) Synchronous(ctx context.Context) (level int, err error) {
	return level, m.writer.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&level)
}

// Damage changes the file.
func (m *Mirror) Damage(ctx context.Context, statement string) error {
	_, err := m.writer.ExecContext(ctx, statement)
	return err
}

// Aside names the file that keeps an incarnation.
func (m *Mirror) Aside(incarnation uint32) string { return m.aside(incarnation) }
