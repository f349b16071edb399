package domain

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"

	"github.com/google/uuid"
)

// Personal is what an order holds about people. It exists in the clear only where somebody may read it; in events it
// is [Sealed]. Neither Decide nor Evolve ever sees it.
type Personal struct {
	Buyer        Person         `json:"buyer,omitzero"`
	ShipTo       Person         `json:"ship_to,omitzero"`
	BillTo       Person         `json:"bill_to,omitzero"`
	Payer        Person         `json:"payer,omitzero"`
	EndCustomer  Person         `json:"end_customer,omitzero"`
	Instructions string         `json:"instructions,omitempty"` // free text of the buyer
	Lines        []PersonalLine `json:"lines,omitempty"`
}

// A Person is the name, address and contact of a party.
type Person struct {
	Name       string   `json:"name,omitempty"`
	Contact    string   `json:"contact,omitempty"` // whom to ask for
	Street     []string `json:"street,omitempty"`
	PostalCode string   `json:"postal_code,omitempty"`
	City       string   `json:"city,omitempty"`
	Email      string   `json:"email,omitempty"`
	Phone      string   `json:"phone,omitempty"`
}

// A PersonalLine is what a line says about a person, such as a prescription.
type PersonalLine struct {
	Line          string `json:"line"`
	Configuration string `json:"configuration,omitempty"`
	Text          string `json:"text,omitempty"`
}

// IsZero reports whether p says nothing.
func (p Personal) IsZero() bool {
	return p.Buyer.IsZero() && p.ShipTo.IsZero() && p.BillTo.IsZero() && p.Payer.IsZero() && p.EndCustomer.IsZero() &&
		p.Instructions == "" && len(p.Lines) == 0
}

// IsZero reports whether p says nothing.
func (p Person) IsZero() bool {
	return p.Name == "" && p.Contact == "" && len(p.Street) == 0 && p.PostalCode == "" && p.City == "" && p.Email == "" && p.Phone == ""
}

// Overlay returns p with everything that newer says put in its place, of the lines one by one.
func (p Personal) Overlay(newer Personal) Personal {
	over := func(old *Person, by Person) {
		if !by.IsZero() {
			*old = by
		}
	}
	over(&p.Buyer, newer.Buyer)
	over(&p.ShipTo, newer.ShipTo)
	over(&p.BillTo, newer.BillTo)
	over(&p.Payer, newer.Payer)
	over(&p.EndCustomer, newer.EndCustomer)
	if newer.Instructions != "" {
		p.Instructions = newer.Instructions
	}
	p.Lines = slices.Clone(p.Lines)
	for _, l := range newer.Lines {
		if i := slices.IndexFunc(p.Lines, func(old PersonalLine) bool { return old.Line == l.Line }); i >= 0 {
			p.Lines[i] = l
		} else {
			p.Lines = append(p.Lines, l)
		}
	}
	return p
}

// Sealed is a personal section encrypted with a key of its data subject: AES-256-GCM, bound to one order. Destroying
// the key erases it, while every hash over it still holds.
type Sealed struct {
	Key  string `json:"key,omitempty"`  // names the key; betrays nothing about its subject
	Data []byte `json:"data,omitempty"` // nonce ‖ ciphertext ‖ tag
}

// IsZero reports whether there is no personal section.
func (s Sealed) IsZero() bool { return s.Key == "" && len(s.Data) == 0 }

// ErrUnreadable is returned for a personal section that its key does not open: it belongs to another order or key, or
// was changed.
var ErrUnreadable = errors.New("the personal section cannot be opened with this key")

// Seal encrypts the personal section of an order under a 32-byte key with the given name. The nonce is read from random,
// which must never repeat.
func Seal(p *Personal, order uuid.UUID, name string, key []byte, random io.Reader) (Sealed, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return Sealed{}, err
	}
	clear := newWriter()
	defer clear.free()
	if clear.write(p); clear.err != nil {
		return Sealed{}, clear.err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(clear.out)+aead.Overhead())
	if _, err := io.ReadFull(random, nonce); err != nil {
		return Sealed{}, fmt.Errorf("reading a nonce: %w", err)
	}
	return Sealed{Key: name, Data: aead.Seal(nonce, nonce, clear.out, order[:])}, nil
}

// Open decrypts what Seal encrypted for the same order and key, or returns [ErrUnreadable].
func Open(s Sealed, order uuid.UUID, key []byte) (Personal, error) {
	var p Personal
	aead, err := newAEAD(key)
	if err != nil {
		return p, err
	}
	if len(s.Data) < aead.NonceSize() {
		return p, ErrUnreadable
	}
	nonce, ciphertext := s.Data[:aead.NonceSize()], s.Data[aead.NonceSize():]
	clear, err := aead.Open(nil, nonce, ciphertext, order[:])
	if err != nil {
		return p, ErrUnreadable
	}
	err = decode(clear, &p)
	return p, err
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("a key has 32 bytes, not %d", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Subject names the person or company whose key seals an order's personal section: the business unit's customer, or the
// order itself where nobody knows the buyer.
func Subject(businessUnit string, order uuid.UUID, buyer Party) string {
	id, ok := buyer.Customer()
	if !ok {
		return url.PathEscape(businessUnit) + "//" + order.String()
	}
	return url.PathEscape(businessUnit) + "/" + url.PathEscape(id.Scheme) + "/" + url.PathEscape(id.Value)
}

// UnknownParty is the identifier of a buyer of whom nothing is known.
const UnknownParty = "unknown"
