package projections

import (
	"context"
	"database/sql"
)

// OpenUnsynced opens views that a crash of the machine may lose, which is faster.
func OpenUnsynced(ctx context.Context, path string) (*Views, error) {
	return open(ctx, path, nil, "OFF")
}

// SetCommit makes a projector commit with f; nil: as always.
func (p *Projector) SetCommit(f func(*sql.Tx) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f == nil {
		f = (*sql.Tx).Commit
	}
	p.commit = f
}

// SetBatch bounds the transactions of catching up.
func (p *Projector) SetBatch(events int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batch.events = events
}

// Exec changes rows behind the projector's back.
func (v *Views) Exec(ctx context.Context, query string, args ...any) error {
	_, err := v.writer.ExecContext(ctx, query, args...)
	return err
}

// Differ compares all tables of two views.
func Differ(ctx context.Context, is, should *Views) (*Difference, error) {
	for _, t := range tables {
		_, difference, err := t.compare(ctx, is.reader, should.reader)
		if difference != nil || err != nil {
			return difference, err
		}
	}
	return nil, nil
}

// Columns lists the columns of each table.
func Columns(ctx context.Context, v *Views) (map[string][]string, error) {
	columns := make(map[string][]string)
	for _, t := range tables {
		c, err := t.open(ctx, v.reader)
		if err != nil {
			return nil, err
		}
		columns[t.name] = c.columns
		if err := c.rows.Close(); err != nil {
			return nil, err
		}
	}
	return columns, nil
}

// PollInterval is how often Poll asks.
const PollInterval = pollInterval
