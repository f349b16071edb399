//go:build race

package faults

// slowed is how much less a test does under the race detector, which is that much slower.
const slowed = 16
