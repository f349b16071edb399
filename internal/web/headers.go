package web

import (
	"net/http"
	"strconv"
	"strings"
)

// A Version names a state of an order: how often its home has moved, and the revision of its last event.
type Version struct {
	Epoch    uint64
	Revision uint64
}

// ETag writes the version as a strong entity tag.
func (v Version) ETag() string {
	return `"` + strconv.FormatUint(v.Epoch, 10) + "-" + strconv.FormatUint(v.Revision, 10) + `"`
}

// parseVersion reads what stands between the quotes of an ETag of ours.
func parseVersion(tag string) (Version, bool) {
	epoch, revision, _ := strings.Cut(tag, "-")
	e, err1 := strconv.ParseUint(epoch, 10, 64)
	r, err2 := strconv.ParseUint(revision, 10, 64)
	v := Version{Epoch: e, Revision: r}
	return v, err1 == nil && err2 == nil && v.ETag() == `"`+tag+`"`
}

// A Condition is a header If-Match or If-None-Match.
type Condition struct {
	Present  bool      // false: the request has no such header
	Any      bool      // the header is *
	Versions []Version // those tags that can be versions of ours; others match nothing
}

// Matches reports whether the condition names a version.
func (c Condition) Matches(v Version) bool {
	if c.Any {
		return true
	}
	for _, named := range c.Versions {
		if named == v {
			return true
		}
	}
	return false
}

// ParseIfMatch reads the header If-Match, whose comparison is strong: weak tags match nothing. Its error is an
// [*Error] with the code invalid_etag.
func ParseIfMatch(header string) (Condition, error) { return parseCondition("If-Match", header, false) }

// ParseIfNoneMatch reads the header If-None-Match, where a weak tag matches like a strong one. Its error is an
// [*Error] with the code invalid_etag.
func ParseIfNoneMatch(header string) (Condition, error) {
	return parseCondition("If-None-Match", header, true)
}

func parseCondition(name, header string, weakMatches bool) (Condition, error) {
	rest := strings.Trim(header, " \t")
	switch rest {
	case "":
		return Condition{}, nil
	case "*":
		return Condition{Present: true, Any: true}, nil
	}
	c := Condition{Present: true}
	for {
		strong, weak := strings.CutPrefix(rest, "W/")
		if !strings.HasPrefix(strong, `"`) {
			return Condition{}, invalidTag(name)
		}
		tag, after, closed := strings.Cut(strong[1:], `"`)
		if !closed {
			return Condition{}, invalidTag(name)
		}
		if v, ok := parseVersion(tag); ok && (weakMatches || !weak) {
			c.Versions = append(c.Versions, v)
		}
		after = strings.TrimLeft(after, " \t")
		if after == "" {
			return c, nil
		}
		if after[0] != ',' {
			return Condition{}, invalidTag(name)
		}
		rest = strings.TrimLeft(after, ", \t") // a list may have empty elements
		if rest == "" {
			return c, nil
		}
	}
}

func invalidTag(header string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "invalid_etag",
		Detail: header + " is neither * nor a list of quoted tags.",
		Errors: []Violation{{Location: "header." + header, Code: "invalid_etag", Message: "neither * nor a list of quoted tags"}}}
}

// MaxIdempotencyKey is the longest idempotency key in bytes.
const MaxIdempotencyKey = 255

// ParseIdempotencyKey reads the header Idempotency-Key, plain or as a quoted string; both forms of a key are the same
// key. Its error is an [*Error] with the code missing_idempotency_key or invalid_idempotency_key.
func ParseIdempotencyKey(header string) (string, error) {
	key := strings.Trim(header, " \t")
	if key == "" {
		return "", &Error{Status: http.StatusBadRequest, Code: "missing_idempotency_key",
			Detail: "Send the header Idempotency-Key: a new random value for each thing to do, the same one when it is tried again."}
	}
	if key[0] == '"' {
		var ok bool
		if key, ok = unquoteKey(key); !ok {
			return "", invalidKey()
		}
	}
	if key == "" || len(key) > MaxIdempotencyKey {
		return "", invalidKey()
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c > '~' {
			return "", invalidKey()
		}
	}
	return key, nil
}

// unquoteKey reads a string of RFC 9651: quotes and backslashes within it are escaped, nothing else.
func unquoteKey(quoted string) (string, bool) {
	var key []byte
	for i := 1; i < len(quoted); i++ {
		switch c := quoted[i]; c {
		case '"':
			return string(key), i == len(quoted)-1
		case '\\':
			i++
			if i == len(quoted) || quoted[i] != '"' && quoted[i] != '\\' {
				return "", false
			}
			key = append(key, quoted[i])
		default:
			key = append(key, c)
		}
	}
	return "", false
}

func invalidKey() *Error {
	return &Error{Status: http.StatusBadRequest, Code: "invalid_idempotency_key",
		Detail: "An idempotency key is 1 to 255 visible ASCII characters.",
		Errors: []Violation{{Location: "header.Idempotency-Key", Code: "invalid_idempotency_key", Message: "not 1 to 255 visible ASCII characters"}}}
}
