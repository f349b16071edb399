package projections

import (
	"fmt"
	"time"

	"github.com/orderledger/orderledger/domain"
)

// micros is how a moment is stored.
func micros(t time.Time) int64 { return t.UnixMicro() }

// flag is how a truth is stored.
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// A moment is read from where micros stored it.
type moment time.Time

func (m *moment) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a moment is stored as a number, not %T", v)
	}
	*m = moment(time.UnixMicro(n).UTC())
	return nil
}

// An amount is read from its decimal digits.
type amount domain.Decimal

func (a *amount) Scan(v any) error {
	switch v := v.(type) {
	case string:
		return (*domain.Decimal)(a).UnmarshalText([]byte(v))
	case []byte:
		return (*domain.Decimal)(a).UnmarshalText(v)
	}
	return fmt.Errorf("an amount is stored as text, not %T", v)
}
