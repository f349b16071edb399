package bench

// OpenWaiting is Open with another way to wait for a moment: its own does not know the clock of a synctest bubble.
var OpenWaiting = open
