package commands

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/message"
	"github.com/orderledger/orderledger/internal/web"
)

// Keys of the metadata of a command on the bus, see docs/commands.md.
const (
	keyPath           = "path"
	keyIdempotencyKey = "idempotency_key"
	keyIfMatch        = "if_match"
	keyBusinessUnit   = "business_unit"
	keySubmitter      = "submitter"
	keyIssuer         = "issuer"
	keyKind           = "kind"
	keyApplyUntil     = "apply_until"
	keyTraceparent    = "traceparent"
	keyReplyTo        = "reply_to"
	keyReplySession   = "reply_to_session_id"
	keyCorrelation    = "correlation_id"
)

// A queued command is a request that travels over the bus: a POST to one of the routes that change an order.
type queued struct {
	path        string
	key         string // idempotency key
	ifMatch     string
	unit        string // business unit
	by          web.Principal
	applyUntil  time.Time // zero: whenever it comes
	traceparent string
	body        []byte

	order, command uuid.UUID // follow from path, key, unit and principal
}

// unitPattern is what a business unit looks like.
var unitPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// maxName is the longest name of a submitter or issuer in bytes.
const maxName = 200

// readQueued reads a message. It fails where nobody could be told what has become of the command; everything else that
// is wrong with it is for its route to say. Its errors quote nothing from the message.
func readQueued(m *watermill.Message) (queued, error) {
	meta := m.Metadata
	q := queued{
		path:        meta.Get(keyPath),
		ifMatch:     meta.Get(keyIfMatch),
		unit:        meta.Get(keyBusinessUnit),
		by:          web.Principal{Subject: meta.Get(keySubmitter), Issuer: meta.Get(keyIssuer), Kind: meta.Get(keyKind)},
		traceparent: meta.Get(keyTraceparent),
		body:        m.Payload,
	}
	if q.unit == "" {
		q.unit = web.DefaultBusinessUnit
	}
	if q.by.Issuer == "" {
		q.by.Issuer = "bus"
	}
	if q.by.Kind == "" {
		q.by.Kind = "service"
	}
	key, err := web.ParseIdempotencyKey(meta.Get(keyIdempotencyKey))
	switch {
	case err != nil:
		return q, fmt.Errorf("reading a command: %s is not 1 to %d visible ASCII characters", keyIdempotencyKey, web.MaxIdempotencyKey)
	case !unitPattern.MatchString(q.unit):
		return q, fmt.Errorf("reading a command: %s is not that of a business unit", keyBusinessUnit)
	case !isName(q.by.Subject) || !isName(q.by.Issuer):
		return q, fmt.Errorf("reading a command: %s or %s is empty, too long or not printable", keySubmitter, keyIssuer)
	case !slices.Contains([]string{"user", "service", "local"}, q.by.Kind):
		return q, fmt.Errorf("reading a command: %s is neither user nor service", keyKind)
	case len(q.body) > 0 && !isJSON(meta.Get(message.KeyContentType)):
		return q, fmt.Errorf("reading a command: %s is not application/json", message.KeyContentType)
	}
	q.key = key
	if until := meta.Get(keyApplyUntil); until != "" {
		if q.applyUntil, err = time.Parse(time.RFC3339Nano, until); err != nil {
			return q, fmt.Errorf("reading a command: %s is not a time as RFC 3339 has it", keyApplyUntil)
		}
	}
	if err := q.name(); err != nil {
		return q, fmt.Errorf("reading a command: %w", err)
	}
	return q, nil
}

func isName(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
}

func isJSON(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && mediaType == "application/json"
}

// name finds out which order and which command this is.
func (q *queued) name() error {
	u, err := url.ParseRequestURI(q.path)
	if err != nil || u.EscapedPath() != q.path { // a query, a host
		return errors.New("path is not that of a command")
	}
	pattern, id := pattern(q.path)
	switch {
	case !queueable("POST", pattern):
		return errors.New("path is not that of a command")
	case id == "":
		q.order = domain.OrderID(q.unit, q.by.Subject, q.key)
	default:
		if q.order, err = parseOrder(id, "path.id"); err != nil {
			return errors.New("path does not name an order by its id")
		}
	}
	q.command = domain.CommandID(q.order, q.by.Subject, q.key)
	return nil
}

// pattern returns the pattern of the route that a path may be of, and the id of the order in it.
func pattern(path string) (pattern, id string) {
	parts := strings.Split(path, "/")
	if len(parts) > 4 {
		id, parts[3] = parts[3], "{id}"
	}
	if len(parts) > 6 {
		parts[5] = map[string]string{"fulfilments": "{fulfilment}", "conflicts": "{conflict}"}[parts[4]]
	}
	return strings.Join(parts, "/"), id
}

// allowed are the roles of this package's routes.
var allowed = Allowed()

// queueable reports whether the requests of a route may travel over the bus: those that change orders.
func queueable(method, pattern string) bool {
	return method == "POST" && allowed[method+" "+pattern] == web.RoleSubmit
}

// message makes the message of a command. A ledger has so many lanes.
func (q *queued) message(id uuid.UUID, lanes int) *watermill.Message {
	m := watermill.NewMessage(id.String(), q.body)
	for key, value := range map[string]string{
		message.KeyMessageID:   id.String(),
		message.KeySession:     message.LaneName(eventstore.Lane(domain.Stream(q.order), lanes)),
		message.KeySubject:     q.order.String(),
		message.KeyContentType: "application/json",
		keyPath:                q.path,
		keyIdempotencyKey:      q.key,
		keyIfMatch:             q.ifMatch,
		keyBusinessUnit:        q.unit,
		keySubmitter:           q.by.Subject,
		keyIssuer:              q.by.Issuer,
		keyKind:                q.by.Kind,
		keyTraceparent:         q.traceparent,
		keyApplyUntil:          timeText(q.applyUntil),
	} {
		if value != "" {
			m.Metadata[key] = value
		}
	}
	return m
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// digest tells the deliveries of one message from another message under the same key. Like the digest of a command it
// betrays nothing of the body.
func (q *queued) digest(secret []byte) domain.Digest {
	mac := hmac.New(sha256.New, secret)
	for _, part := range []string{"queued", q.path, q.ifMatch, q.unit, q.by.Subject, q.key, timeText(q.applyUntil), string(q.body)} {
		_, _ = mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		_, _ = mac.Write([]byte(part))
	}
	return domain.Digest(mac.Sum(nil))
}
