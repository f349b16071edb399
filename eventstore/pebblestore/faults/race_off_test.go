//go:build !race

package faults

const slowed = 1
