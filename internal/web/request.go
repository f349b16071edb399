package web

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// A request is what the server knows about a request beside its http.Request. Only the request's own goroutine
// changes it.
type request struct {
	server      *Server
	writer      http.ResponseWriter
	traceID     string
	traceparent string
	unit        string
	principal   Principal
	long        bool   // see Linger
	finish      func() // gives back the place that the request takes among those under way
}

type requestKey struct{}

func withRequest(ctx context.Context, q *request) context.Context {
	return context.WithValue(ctx, requestKey{}, q)
}

func requestFrom(ctx context.Context) *request {
	q, _ := ctx.Value(requestKey{}).(*request)
	return q
}

// A Principal is who sends a request.
type Principal struct {
	Subject string // who, as the issuer names them
	Issuer  string // who vouches for the subject
	Kind    string // user, service or local
	// BusinessUnits are those that the principal may act for; nil: all.
	BusinessUnits []string
	// Roles are what the principal may do; nil: everything.
	Roles []Role
}

// local is everybody as long as there is no authentication and the server listens on loopback only.
func local() Principal { return Principal{Subject: "local", Issuer: "local", Kind: "local"} }

// PrincipalFrom returns who sent the request that a context belongs to; without a request, the principal of [As] or else
// the local one.
func PrincipalFrom(ctx context.Context) Principal {
	if q := requestFrom(ctx); q != nil {
		return q.principal
	}
	if p, ok := ctx.Value(asKey{}).(Principal); ok {
		return p
	}
	return local()
}

// DefaultBusinessUnit is the business unit of a request that names none.
const DefaultBusinessUnit = "main"

// BusinessUnit returns the business unit that a request is about: header Business-Unit, query parameter
// business_unit, or [DefaultBusinessUnit].
func BusinessUnit(ctx context.Context) string {
	if q := requestFrom(ctx); q != nil {
		return q.unit
	}
	return DefaultBusinessUnit
}

// RequestID returns the id of a request, which is its trace id: 32 hexadecimal digits, empty without a request.
func RequestID(ctx context.Context) string {
	if q := requestFrom(ctx); q != nil {
		return q.traceID
	}
	return ""
}

// Traceparent returns the W3C trace context to hand on from a request, empty without one.
func Traceparent(ctx context.Context) string {
	if q := requestFrom(ctx); q != nil {
		return q.traceparent
	}
	return ""
}

var unitPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// businessUnit reads the business unit of a request; one that is named twice must be named alike.
func businessUnit(r *http.Request) (string, *Error) {
	var named []string
	named = append(named, r.Header.Values("Business-Unit")...)
	if strings.Contains(r.URL.RawQuery, "business_unit") {
		named = append(named, r.URL.Query()["business_unit"]...)
	}
	unit := DefaultBusinessUnit
	for i, name := range named {
		if !unitPattern.MatchString(name) {
			return "", &Error{Status: http.StatusBadRequest, Code: "invalid_business_unit",
				Detail: "A business unit is 1 to 32 of a-z, 0-9 and '-', and does not begin with '-'."}
		}
		if i > 0 && name != unit {
			return "", &Error{Status: http.StatusBadRequest, Code: "ambiguous_business_unit",
				Detail: "The request names two business units."}
		}
		unit = name
	}
	return unit, nil
}

var traceparentPattern = regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$`)

// trace continues the trace that a request belongs to, or begins one. Random makes the ids, which are to differ, not to be
// hard to guess.
func trace(header []string, random func() uint64) (traceID, traceparent string) {
	if len(header) == 1 {
		m := traceparentPattern.FindStringSubmatch(header[0])
		if m != nil && strings.Trim(m[1], "0") != "" && strings.Trim(m[2], "0") != "" {
			return m[1], "00-" + m[1] + "-" + hex.EncodeToString(binary.BigEndian.AppendUint64(nil, random())) + "-" + m[3]
		}
	}
	var id [24]byte
	for i := 0; i < len(id); i += 8 {
		binary.BigEndian.PutUint64(id[i:], random())
	}
	text := make([]byte, 0, len("00-00112233445566778899aabbccddeeff-0011223344556677-00"))
	text = hex.AppendEncode(append(text, "00-"...), id[:16])
	text = append(hex.AppendEncode(append(text, '-'), id[16:]), "-00"...)
	traceparent = string(text)
	return traceparent[3:35], traceparent
}

// writeGrace is how long a client may take to accept what it waited for.
const writeGrace = 10 * time.Second

// Linger tells the server that a request takes long, as a stream or a long poll does. The request then counts among
// the long ones and no longer among those in flight. The context that it returns is done when d has passed, unless d
// is zero, or as soon as the server drains; ten seconds remain to write the answer. It returns an [*Error] with
// status 503 if too many long requests are under way. It is called at most once for a request.
func Linger(ctx context.Context, d time.Duration) (context.Context, error) {
	q := requestFrom(ctx)
	if q == nil {
		return ctx, nil
	}
	var end context.CancelFunc
	var writeBy time.Time // never
	if d > 0 {
		ctx, end = context.WithTimeout(ctx, d)
		writeBy = time.Now().Add(d + writeGrace)
	} else {
		ctx, end = context.WithCancel(ctx)
	}
	if !q.server.addLong(q, end) {
		end()
		return nil, &Error{Status: http.StatusServiceUnavailable, Code: codeUnavailable,
			Detail: "Too many streams and long polls are open.", RetryAfter: 5 * time.Second}
	}
	q.finish()
	q.long = true
	q.finish = func() { q.server.removeLong(q) }
	_ = http.NewResponseController(q.writer).SetWriteDeadline(writeBy) // recorders of tests know none
	return ctx, nil
}
