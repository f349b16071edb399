package projections

import "context"

// OpenUnsynced opens views that a crash of the machine may lose, which is faster.
func OpenUnsynced(ctx context.Context, path string) (*Views, error) {
	return open(ctx, path, nil, "OFF")
}

// FailCommit makes every transaction of a projector ask f before it commits, and fail with f's error.
func (p *Projector) FailCommit(f func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beforeCommit = f
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

// Forget makes the projector ask the database what it knows.
func (p *Projector) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsure = true
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
