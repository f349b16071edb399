// Package faults proves, from outside, what the embedded ledger promises when disks, power and clients fail. It has
// nothing but tests.
package faults

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
