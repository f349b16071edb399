package domain_test

import (
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
)

// Of any claims exactly one is over all others, whoever compares them in whatever order.
func TestOneClaimIsOverTheOthers(t *testing.T) {
	id := rapid.Custom(func(t *rapid.T) uuid.UUID {
		return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	})
	rapid.Check(t, func(t *rapid.T) {
		order := id.Draw(t, "order")
		claims := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) domain.Claim {
			return domain.Claim{Ledger: id.Draw(t, "ledger"), Epoch: rapid.Uint32Max(2).Draw(t, "epoch"), Withdrawn: rapid.Bool().Draw(t, "withdrawn")}
		}), 1, 6, func(c domain.Claim) uuid.UUID { return c.Ledger }).Draw(t, "claims")
		winners := 0
		for _, c := range claims {
			wins := true
			for _, d := range claims {
				if c == d {
					continue
				}
				if c.Over(d, order) == d.Over(c, order) {
					t.Fatalf("%+v and %+v are over each other, or neither is", c, d)
				}
				wins = wins && c.Over(d, order)
			}
			if wins {
				winners++
				for _, d := range claims {
					if c.Withdrawn && !d.Withdrawn || c.Withdrawn == d.Withdrawn && c.Epoch < d.Epoch {
						t.Fatalf("%+v is over %+v", c, d)
					}
				}
			}
		}
		if winners != 1 {
			t.Fatalf("%d of %d claims are over all others", winners, len(claims))
		}
	})
}
