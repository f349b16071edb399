package domain

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrUnknownEvent is returned for an event of a type that this version does not know.
var ErrUnknownEvent = errors.New("unknown type of event")

// EncodeEvent returns the bytes of an event as the ledger keeps them: JSON in canonical form, so that equal events
// have equal bytes.
func EncodeEvent(e Event) ([]byte, error) {
	data, err := encode(e)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", e.Type(), err)
	}
	return data, nil
}

// DecodeEvent reads what EncodeEvent of this or any earlier version wrote, and nothing else. It returns
// [ErrUnknownEvent] for a type from a later version.
func DecodeEvent(typ string, data []byte) (Event, error) {
	var e events
	return e.read(new(coder), typ, string(data))
}

// EncodeMeta returns the bytes of an event's metadata as the ledger keeps them.
func EncodeMeta(m Meta) ([]byte, error) {
	data, err := encode(&m)
	if err != nil {
		return nil, fmt.Errorf("encoding metadata: %w", err)
	}
	return data, nil
}

// DecodeMeta reads what EncodeMeta wrote.
func DecodeMeta(data []byte) (Meta, error) {
	var m Meta
	if err := decode(data, &m); err != nil {
		return Meta{}, fmt.Errorf("decoding metadata: %w", err)
	}
	return m, nil
}

// FoldVersion names the form and meaning of a folded order: an order that was folded and stored under another version
// must be folded anew from its events.
const FoldVersion = 3

// EncodeOrder returns the bytes of a folded order, for keeping beside its events, never instead of them.
func EncodeOrder(o Order) ([]byte, error) {
	data, err := encode(&o)
	if err != nil {
		return nil, fmt.Errorf("encoding order %s: %w", o.ID, err)
	}
	return data, nil
}

// DecodeOrder reads what EncodeOrder of the same [FoldVersion] wrote.
func DecodeOrder(data []byte) (Order, error) {
	var o Order
	if err := decode(data, &o); err != nil {
		return Order{}, fmt.Errorf("decoding a folded order: %w", err)
	}
	return o, nil
}

// A Digest tells whether a repeated command says the same as the first one.
type Digest [sha256.Size]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// DigestOf returns the HMAC-SHA-256, under a key that all regions share, of what a command asks for and of its
// personal section in the clear. Who asks and through which trace is left out: a retry may differ in these.
func DigestOf(key []byte, c Command, p *Personal) (Digest, error) {
	var d Digest
	w := newWriter()
	defer w.free()
	w.part(func() { w.out = append(w.out, c.Do.Name()...) })
	w.part(func() { w.write(&c) })
	w.part(func() { w.write(c.Do) })
	w.part(func() { w.write(p) })
	if w.err != nil {
		return d, fmt.Errorf("encoding %s: %w", c.Do.Name(), w.err)
	}
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write(w.out)
	mac.Sum(d[:0])
	return d, nil
}

// part writes something behind its length.
func (c *coder) part(write func()) {
	const length = 4
	begin := len(c.out)
	c.out = append(c.out, make([]byte, length)...)
	write()
	binary.BigEndian.PutUint32(c.out[begin:], uint32(len(c.out)-begin-length))
}

// code describes what of a command's envelope belongs to what it asks for.
func (c Command) code(w *coder) {
	w.uuid("order", &c.Order)
	str(w, "business_unit", &c.BusinessUnit)
	if c.Expected != nil {
		next := *c.Expected + 1 // so that revision 0 is written too
		number(w, "expected", &next)
	}
	w.time("occurred", &c.Occurred)
}

func (m *Meta) code(c *coder) {
	c.uuid("command", &m.Command)
	c.digest("digest", &m.Digest)
	structure(c, "actor", &m.Actor, m.Actor != Actor{}, (*Actor).code)
	str(c, "business_unit", &m.BusinessUnit)
	str(c, "correlation", &m.Cause.Correlation)
	str(c, "causation", &m.Cause.Causation)
	str(c, "traceparent", &m.Cause.Traceparent)
	c.time("occurred", &m.Occurred)
	number(c, "epoch", &m.Epoch)
}

func (a *Actor) code(c *coder) {
	str(c, "kind", &a.Kind)
	str(c, "issuer", &a.Issuer)
	str(c, "subject", &a.Subject)
	str(c, "on_behalf_of", &a.OnBehalfOf)
}
