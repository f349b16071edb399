// Package simulate runs several regions in one goroutine and looks for a history in which they break a promise.
//
// What decides is real: the command handler behind its routes, the forwarders between regions, the relay's state, mirrors
// and rows in SQLite files, the entry's policy, takeovers and reconciliation. What they stand on is simulated: ledgers,
// processes that die, clocks, networks, the bus, and clients who try again.
//
// A history is a list of operations, which follows from a seed and is made before anything runs. The same list leads to
// the same history, so that a part of the list can be tried by itself: of a history that fails, [Run] finds the shortest
// part that still does.
package simulate
