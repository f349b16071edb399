package domain

// A room is memory for the lists of many events. What was once given out of it is never used again.
type room struct {
	identifiers []Identifier
	facts       []Fact
	allocations []Allocation
	quantities  []LineQuantity
	answers     []LineConfirmation
	promises    []Promise
}

// chunk is how many bytes a room gets at a time for lists of one type.
const chunk = 4 << 10
