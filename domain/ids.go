package domain

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// namespace is the root of every id that is derived. It never changes.
var namespace = uuid.MustParse("8f4b1a52-6b0e-5c3d-9d0a-3f0d1b7c2e64")

// OrderID names the order that a submitter asks for with an idempotency key: the same key names the same order for
// ever, in every region. Nothing of it comes from what the order says.
func OrderID(businessUnit, submitter, key string) uuid.UUID {
	return make(parts, 0, roomForParts).begin("order").text(businessUnit).text(submitter).text(key).id()
}

// CommandID names a command that a submitter sends to an order with an idempotency key, retries included.
func CommandID(order uuid.UUID, submitter, key string) uuid.UUID {
	return make(parts, 0, roomForParts).begin("command").uuid(order).text(submitter).text(key).id()
}

// EventID names the n-th event that a command leads to in a ledger.
func EventID(command, ledger uuid.UUID, n int) uuid.UUID {
	return make(parts, 0, roomForParts).begin("event").uuid(command).uuid(ledger).text(strconv.Itoa(n)).id()
}

// parts are what an id is derived from: the namespace, and texts, each preceded by its length so that no two lists of
// texts run together.
type parts []byte

// roomForParts keeps parts off the heap, but for very long ones.
const roomForParts = 256

func (p parts) begin(kind string) parts { return append(p, namespace[:]...).text(kind) }

func (p parts) text(s string) parts {
	return append(binary.BigEndian.AppendUint32(p, uint32(len(s))), s...)
}

func (p parts) uuid(id uuid.UUID) parts {
	return appendUUID(binary.BigEndian.AppendUint32(p, uuidLength), id)
}

// uuidLength is that of a UUID in writing.
const uuidLength = 36

// appendUUID appends a UUID in writing.
func appendUUID(b []byte, id uuid.UUID) []byte {
	for i, group := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, group)
	}
	return b
}

// id is the UUIDv5 of the parts.
func (p parts) id() uuid.UUID {
	sum := sha1.Sum(p)
	id := uuid.UUID(sum[:len(uuid.UUID{})])
	id[6] = id[6]&0x0f | 5<<4
	id[8] = id[8]&0x3f | 0x80
	return id
}

// StreamPrefix begins the names of the streams of orders.
const StreamPrefix = "order-"

// Stream is the name of an order's stream.
func Stream(order uuid.UUID) string {
	return string(appendUUID(append(make([]byte, 0, len(StreamPrefix)+uuidLength), StreamPrefix...), order))
}

// StreamOrder returns the order whose stream has the given name, and whether there is one.
func StreamOrder(stream string) (uuid.UUID, bool) {
	s, ok := strings.CutPrefix(stream, StreamPrefix)
	if !ok {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil && id.String() == s
}

// crockford is Crockford's base 32: digits and letters without I, L, O and U.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// numberLength counts the characters of an order number, the check character included.
const numberLength = 13

// Number is an order's number for people: twelve characters from the order's id and a check character, which tells
// any single wrong character and any two neighbours that changed places, but for 0 and Z. It is written in groups: K7Q2-9FTM-3XWA-P.
func Number(order uuid.UUID) string {
	// Version and variant bits of the id stand in bytes 6 and 8: the number is made of the others.
	bits := binary.BigEndian.Uint64([]byte{order[0], order[1], order[2], order[3], order[4], order[5], order[10], order[11]})
	digits := make([]byte, 0, numberLength)
	for range numberLength - 1 {
		digits = append(digits, crockford[bits>>59])
		bits <<= 5
	}
	digits = append(digits, checkCharacter(digits))
	return string(digits[:4]) + "-" + string(digits[4:8]) + "-" + string(digits[8:12]) + "-" + string(digits[12:])
}

// checkCharacter is the Luhn algorithm modulo 32.
func checkCharacter(digits []byte) byte {
	sum, double := 0, true
	for i := len(digits) - 1; i >= 0; i-- {
		n := strings.IndexByte(crockford, digits[i])
		if double {
			n *= 2
			n = n/len(crockford) + n%len(crockford)
		}
		sum += n
		double = !double
	}
	return crockford[(len(crockford)-sum%len(crockford))%len(crockford)]
}

// ParseNumber returns the written form of an order number that a person typed: small letters, missing or other
// hyphens and the usual mistakes (O for 0, I and L for 1) are put right. It reports false where the check character
// does not fit.
func ParseNumber(s string) (string, bool) {
	if len(s) > 2*numberLength {
		return "", false
	}
	digits := make([]byte, 0, numberLength)
	for _, r := range strings.ToUpper(s) {
		switch r {
		case '-', ' ', '‐', '‑', '–', '—':
			continue
		case 'O':
			r = '0'
		case 'I', 'L':
			r = '1'
		}
		if r > 'Z' || !strings.ContainsRune(crockford, r) {
			return "", false
		}
		digits = append(digits, byte(r))
	}
	if len(digits) != numberLength || checkCharacter(digits[:numberLength-1]) != digits[numberLength-1] {
		return "", false
	}
	return string(digits[:4]) + "-" + string(digits[4:8]) + "-" + string(digits[8:12]) + "-" + string(digits[12:]), true
}
