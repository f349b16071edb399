package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
)

// Cursors seals places in lists so that clients can hand them back but neither make nor change them. It is safe for
// concurrent use.
type Cursors struct{ key []byte }

// NewCursors uses a key of at least 16 bytes; it panics on a shorter one. Servers that share the key take each
// other's cursors.
func NewCursors(key []byte) *Cursors {
	if len(key) < 16 {
		panic(fmt.Sprintf("web: a cursor key has at least 16 bytes, not %d", len(key)))
	}
	return &Cursors{key: key}
}

const (
	maxCursor   = 4096 // characters; more cannot be a cursor of ours
	cursorTag   = 16   // bytes of the HMAC that a cursor carries
	cursorError = "The cursor was not made by this server for this list."
)

// Seal makes a cursor of a small value that encoding/json can write. The list names what the cursor is for: kind of
// list, business unit, filters. It panics on a value that JSON cannot express.
func (c *Cursors) Seal(list string, place any) string {
	text, err := json.Marshal(place)
	if err != nil {
		panic(fmt.Sprintf("web: sealing a cursor: %v", err))
	}
	return base64.RawURLEncoding.EncodeToString(append(c.tag(list, text), text...))
}

// Open reads what Seal made for the same list into the value that place points to. Its error is an [*Error] with the
// code invalid_cursor.
func (c *Cursors) Open(list, cursor string, place any) error {
	invalid := &Error{Status: http.StatusBadRequest, Code: "invalid_cursor", Detail: cursorError,
		Errors: []Violation{{Location: "query.cursor", Code: "invalid_cursor", Message: "not a cursor of this list"}}}
	if len(cursor) > maxCursor {
		return invalid
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(sealed) < cursorTag {
		return invalid
	}
	tag, text := sealed[:cursorTag], sealed[cursorTag:]
	if !hmac.Equal(tag, c.tag(list, text)) {
		return invalid
	}
	if err := json.Unmarshal(text, place); err != nil { // sealed by a version with another idea of the place
		return invalid
	}
	return nil
}

func (c *Cursors) tag(list string, text []byte) []byte {
	mac := hmac.New(sha256.New, c.key)
	_ = binary.Write(mac, binary.BigEndian, uint64(len(list))) // a hash never fails
	mac.Write([]byte(list))
	mac.Write(text)
	return mac.Sum(nil)[:cursorTag]
}
