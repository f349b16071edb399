package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxMembers bounds the members of a message's body.
const maxMembers = 64

// A field is a member of a JSON object. The value is a part of the object's text, without white space around it.
type field struct {
	name  string
	value string
}

var errNoObject = errors.New("not a JSON object")

// members splits a JSON object. It finds where each value ends and leaves it to encoding/json to judge what is in it,
// but for strings that need no judge: messages have many of these, and reading them token by token takes longer than
// all else that is done with a message.
func members(body []byte) ([]field, error) {
	if len(body) > MaxBody {
		return nil, fmt.Errorf("%d bytes, at most %d", len(body), MaxBody)
	}
	if !utf8.Valid(body) {
		return nil, errors.New("not UTF-8")
	}
	all := make([]field, 0, 24)
	rest, ok := after(string(body), '{')
	if !ok {
		return nil, errNoObject
	}
	last, empty := after(rest, '}')
	for more := !empty; more; rest, more = after(rest, ',') {
		rest = trim(rest)
		end := valueEnd(rest)
		if end == 0 || rest[0] != '"' || !valid(rest[:end]) {
			return nil, errNoObject
		}
		name, _ := unquote(rest[:end])
		for i := range all {
			if all[i].name == name {
				return nil, fmt.Errorf("%.40q occurs twice", name)
			}
		}
		if len(all) == maxMembers {
			return nil, fmt.Errorf("more than %d members", maxMembers)
		}
		if rest, ok = after(rest[end:], ':'); !ok {
			return nil, fmt.Errorf("%.40q is not JSON", name)
		}
		rest = trim(rest)
		end = valueEnd(rest)
		if !valid(rest[:end]) {
			return nil, fmt.Errorf("%.40q is not JSON", name)
		}
		all = append(all, field{name, rest[:end]})
		rest = rest[end:]
	}
	if !empty {
		if last, ok = after(rest, '}'); !ok {
			return nil, errNoObject
		}
	}
	if len(trim(last)) > 0 {
		return nil, errors.New("something follows the JSON object")
	}
	return all, nil
}

func trim(b string) string {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// after returns what follows a character that may have white space before it, and whether it is there.
func after(b string, c byte) (string, bool) {
	if t := trim(b); len(t) > 0 && t[0] == c {
		return t[1:], true
	}
	return b, false
}

// valueEnd returns where the value that b begins with ends, if it is valid.
func valueEnd(b string) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return min(i+1, len(b))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// valid reports whether value is JSON.
func valid(value string) bool { return plain(value) || json.Valid([]byte(value)) }

// plain reports whether a value that ends where valueEnd says is a string that stands for itself.
func plain(value string) bool {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return false
	}
	for i := 1; i < len(value)-1; i++ {
		if value[i] < ' ' || value[i] == '\\' {
			return false
		}
	}
	return true
}

// unquote returns what a valid value stands for if it is a string.
func unquote(value string) (string, bool) {
	if len(value) == 0 || value[0] != '"' {
		return "", false
	}
	if strings.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], true
	}
	// JSON within JSON is full of quotes that are escaped, and of nothing else.
	b := make([]byte, 0, len(value))
	for i := 1; i < len(value)-1; i++ {
		if value[i] == '\\' {
			if i++; value[i] != '"' && value[i] != '\\' {
				var s string
				err := json.Unmarshal([]byte(value), &s)
				return s, err == nil
			}
		}
		b = append(b, value[i])
	}
	return string(b), true
}
