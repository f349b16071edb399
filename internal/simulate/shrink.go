package simulate

// maxTried is how many parts of a history are tried.
const maxTried = 300

// shrink returns a part of operations that still fails, as short as it finds one, and how many it has tried. It leaves
// out runs of operations, long ones first, until none can be left out (delta debugging).
func shrink(operations []operation, fails func([]operation) (bool, error)) (shortest []operation, tried int, err error) {
	shortest = operations
	for size := len(shortest) / 2; size > 0 && tried < maxTried; {
		shorter := false
		for at := 0; at < len(shortest) && tried < maxTried; {
			part := append(append([]operation(nil), shortest[:at]...), shortest[min(at+size, len(shortest)):]...)
			tried++
			failed, err := fails(part)
			if err != nil {
				return shortest, tried, err
			}
			if failed {
				shortest, shorter = part, true
				continue
			}
			at += size
		}
		if size == 1 && !shorter {
			break
		}
		size = min(size, max(len(shortest)/2, 1))
		if !shorter || size > 1 {
			size = max(size/2, 1)
		}
	}
	return shortest, tried, nil
}
