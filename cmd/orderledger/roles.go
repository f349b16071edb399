package main

import (
	"slices"
	"strings"
)

// The roles that a process may have. All of them in one process are the whole product.
const (
	roleCommands  = "commands"  // takes commands and appends to the ledger
	roleRelay     = "relay"     // sends what was appended to the bus
	roleProjector = "projector" // makes rows of it
	roleReadAPI   = "readapi"   // answers queries from the rows
)

var allRoles = []string{roleCommands, roleRelay, roleProjector, roleReadAPI}

// checkRoles says what is wrong with a choice of roles.
func checkRoles(chosen []string, ownLedger, ownBus bool) error {
	for _, role := range chosen {
		if !slices.Contains(allRoles, role) {
			return usage("roles are %s, not %q", strings.Join(allRoles, ", "), role)
		}
	}
	has := func(role string) bool { return slices.Contains(chosen, role) }
	switch {
	case len(chosen) == 0:
		return usage("a server needs a role")
	case !ownLedger && (has(roleCommands) || has(roleRelay)):
		return usage("the roles commands and relay need the ledger itself, not its feed")
	case ownBus && has(roleProjector) != has(roleRelay):
		return usage("a relay and a projector in different processes need a bus between them: see --bus")
	}
	return nil
}
