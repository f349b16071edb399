package web

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// OnBehalfHeader names who really asks, in a request that a peer passes on: [Principal.OnBehalf] writes its value. Who
// is no peer and sends it is refused.
const OnBehalfHeader = "Orderledger-On-Behalf-Of"

// maxOnBehalf is the longest name of a subject or issuer in bytes.
const maxOnBehalf = 200

// OnBehalf writes who a principal is, as a structured field (RFC 9651):
//
//	service;issuer=%"tokens";subject=%"webshop"
//
// What the principal may do is left out: whoever passes a request on has seen to that.
func (p Principal) OnBehalf() string {
	return p.Kind + ";issuer=" + displayString(p.Issuer) + ";subject=" + displayString(p.Subject)
}

// displayString quotes a text with the bytes in hexadecimal that are not plain ASCII.
func displayString(s string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	b.WriteString(`%"`)
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '%' || c == '"' {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

var onBehalfPattern = regexp.MustCompile(`^(user|service|local);issuer=%"([^"]*)";subject=%"([^"]*)"$`)

// parseOnBehalf reads what [Principal.OnBehalf] wrote, and nothing else.
func parseOnBehalf(header string) (Principal, bool) {
	m := onBehalfPattern.FindStringSubmatch(header)
	if m == nil {
		return Principal{}, false
	}
	p := Principal{Kind: m[1], Issuer: plainText(m[2]), Subject: plainText(m[3])}
	return p, isName(p.Issuer) && isName(p.Subject) && p.OnBehalf() == header
}

// plainText undoes displayString. What that did not write comes out as something else than it was made of.
func plainText(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(c))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func isName(s string) bool {
	return s != "" && len(s) <= maxOnBehalf && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// onBehalf returns whose request it is: that of the one who sends it, or of the one for whom a peer passes on a command.
// Such a request may send commands and nothing else, for every business unit. Where there are no tokens everybody is a
// peer, as everybody is everything.
func (s *Server) onBehalf(r *http.Request, sender Principal) (Principal, *Error) {
	headers := r.Header[OnBehalfHeader]
	if headers == nil {
		return sender, nil
	}
	if !sender.mayDo(RolePeer) || sender.BusinessUnits != nil {
		return Principal{}, &Error{Status: http.StatusForbidden, Code: codeForbidden,
			Detail: "Only a token with the role peer, for all business units, may pass on what others ask: the header " + OnBehalfHeader + "."}
	}
	if r.Method != http.MethodPost || s.allowed[s.route(r)] != RoleSubmit {
		return Principal{}, &Error{Status: http.StatusForbidden, Code: codeForbidden,
			Detail: "Only commands on orders are passed on: the header " + OnBehalfHeader + "."}
	}
	p, ok := parseOnBehalf(headers[0])
	if !ok || len(headers) > 1 {
		return Principal{}, &Error{Status: http.StatusBadRequest, Code: codeInvalidParam, Detail: "The header " + OnBehalfHeader + " does not say who asks.",
			Errors: []Violation{{Location: "header." + OnBehalfHeader, Code: codeInvalidParam, Message: "not a principal"}}}
	}
	p.Roles = []Role{RoleSubmit}
	return p, nil
}
