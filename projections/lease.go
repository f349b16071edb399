package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
)

// LeaseTerm is how long a projector that is silent keeps its lease.
const LeaseTerm = 15 * time.Second

// ErrLeaseLost is returned by a projector that another one has replaced. It must be given up.
var ErrLeaseLost = errors.New("another projector has taken over")

// Final reports whether an error of a projector stays however often the step is tried again: [ErrLeaseLost],
// [ErrTailLost], and locks of the database that the operating system has failed to give or take back. Who drives the
// projector must give it up and say why; such locks end with the process.
func Final(err error) bool {
	var e *sqlite.Error
	return errors.Is(err, ErrLeaseLost) || errors.Is(err, ErrTailLost) || errors.As(err, &e) && e.Code()&0xff == lockingProtocol
}

// lockingProtocol is SQLite's SQLITE_PROTOCOL: a lock was not to be had for ten seconds for no reason that passes.
const lockingProtocol = 15

// A LeaseError tells that another projector is active.
type LeaseError struct {
	Owner string
	Until time.Time // when its lease expires unless renewed
}

func (e *LeaseError) Error() string {
	return fmt.Sprintf("%q writes these read models, at least until %s", e.Owner, e.Until.Format(time.RFC3339))
}

// lease is a projector's right to write.
type lease struct {
	fence   int64 // no two holders have the same
	renewed time.Time
}

// due reports whether the lease should be renewed though there is nothing else to write.
func (l lease) due(now time.Time) bool { return now.Sub(l.renewed) >= LeaseTerm/3 }

// acquire takes the lease.
func (p *Projector) acquire(ctx context.Context) error {
	tx, err := p.views.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing is left to roll back after Commit
	var owner string
	var fence int64
	var expires time.Time
	err = tx.QueryRowContext(ctx, `SELECT owner, fence, expires FROM lease WHERE id = 1`).Scan(&owner, &fence, (*moment)(&expires))
	if err != nil {
		return err
	}
	now := p.now()
	if owner != "" && owner != p.owner && now.Before(expires) {
		return &LeaseError{Owner: owner, Until: expires}
	}
	p.lease = lease{fence: fence + 1, renewed: now}
	if _, err := tx.ExecContext(ctx, `UPDATE lease SET owner = $1, fence = $2, expires = $3 WHERE id = 1`,
		p.owner, p.lease.fence, micros(now.Add(LeaseTerm))); err != nil {
		return err
	}
	return tx.Commit()
}

// renew checks within a transaction that the lease is still held, and prolongs it.
func (p *Projector) renew(w *statements, now time.Time) error {
	result, err := w.renewLease.Exec(micros(now.Add(LeaseTerm)), p.owner, p.lease.fence)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return ErrLeaseLost
}

// release ends the lease, if it is still held.
func (p *Projector) release(ctx context.Context) error {
	_, err := p.views.writer.ExecContext(ctx, `UPDATE lease SET owner = '', expires = 0 WHERE owner = $1 AND fence = $2`,
		p.owner, p.lease.fence)
	return err
}
