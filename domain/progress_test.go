package domain_test

import (
	"testing"

	"github.com/orderledger/orderledger/domain"
)

func TestProgress(t *testing.T) {
	part := func(quantity, shipped, delivered int64) domain.Part {
		return domain.Part{Line: "1", Quantity: domain.Whole(quantity), Shipped: domain.Whole(shipped), Delivered: domain.Whole(delivered)}
	}
	for _, c := range []struct {
		phase domain.Phase
		parts []domain.Part
		want  string
	}{
		{domain.PhaseRouted, []domain.Part{part(2, 0, 0)}, "routed"},
		{domain.PhaseConfirmed, []domain.Part{part(2, 0, 0)}, "confirmed"},
		{domain.PhaseStarted, []domain.Part{part(2, 0, 0)}, "in_fulfilment"},
		{domain.PhaseStarted, []domain.Part{part(2, 2, 2), part(1, 0, 0)}, "partially_shipped"},
		{domain.PhaseStarted, []domain.Part{part(2, 2, 2), part(1, 1, 0)}, "shipped"},
		{domain.PhaseStarted, []domain.Part{part(2, 2, 2), part(0, 0, 0)}, "delivered"},
		{domain.PhaseFailed, []domain.Part{part(2, 2, 2)}, "failed"},
		{domain.PhaseUnrouted, nil, "unrouted"},
		{domain.PhaseRouted, []domain.Part{part(0, 0, 0)}, "routed"}, // cancelled before anything was shipped
	} {
		if got := (domain.Fulfilment{Phase: c.phase, Parts: c.parts}).Progress(); got != c.want {
			t.Errorf("%s with %v: %s, want %s", c.phase, c.parts, got, c.want)
		}
	}
}
