package domain

import _ "embed"

// Transitions is the table of what every command does in every state, as text for people. The tests compute it anew.
//
//go:embed testdata/transitions.txt
var Transitions string
