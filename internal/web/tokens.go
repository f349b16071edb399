package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"gopkg.in/yaml.v3"
)

// Tokens are who may use a server, by bearer tokens of which a file has the hashes:
//
//   - name: webshop
//     hash: sha256:5e88…
//     business_units: [main]   # left out: all
//     roles: [submit, read]
//
// They are safe for concurrent use.
type Tokens struct {
	path   string
	byHash atomic.Pointer[map[[sha256.Size]byte]Principal]
}

// tokenEntry is one entry of the file.
type tokenEntry struct {
	Name          string   `yaml:"name"`
	Hash          string   `yaml:"hash"`
	BusinessUnits []string `yaml:"business_units,omitempty,flow"`
	Roles         []Role   `yaml:"roles,flow"`
}

const (
	tokenPrefix = "olt_" // so that a token is recognised where it should not be
	hashPrefix  = "sha256:"
	maxTokens   = 1 << 20 // bytes of the file
)

// OpenTokens reads a file of tokens.
func OpenTokens(path string) (*Tokens, error) {
	t := &Tokens{path: path}
	return t, t.load()
}

func (t *Tokens) load() error {
	f, err := os.Open(t.path)
	if err != nil {
		return fmt.Errorf("reading the tokens: %w", err)
	}
	defer f.Close()
	byHash, err := parseTokens(f)
	if err != nil {
		return fmt.Errorf("reading the tokens in %s: %w", t.path, err)
	}
	t.byHash.Store(&byHash)
	return nil
}

// Watch reads the file again when it has changed, until ctx is done. A file that cannot be read leaves those tokens in
// force that were read before.
func (t *Tokens) Watch(ctx context.Context, log *slog.Logger) {
	var last os.FileInfo
	for {
		if info, err := os.Stat(t.path); err == nil {
			if last != nil && (info.ModTime() != last.ModTime() || info.Size() != last.Size()) {
				if err := t.load(); err != nil {
					log.WarnContext(ctx, "the tokens are as before", slog.Any("error", err))
				} else {
					log.InfoContext(ctx, "the tokens were read again")
				}
			}
			last = info
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
	}
}

func parseTokens(r io.Reader) (map[[sha256.Size]byte]Principal, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxTokens+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxTokens {
		return nil, fmt.Errorf("the file is larger than %d bytes", maxTokens)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	var entries []tokenEntry
	if err := d.Decode(&entries); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	byHash := make(map[[sha256.Size]byte]Principal, len(entries))
	names := make(map[string]bool, len(entries))
	for i, e := range entries {
		hash, p, err := e.principal()
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		if _, ok := byHash[hash]; ok || names[e.Name] {
			return nil, fmt.Errorf("entry %d: %q or its hash stands there twice", i+1, e.Name)
		}
		byHash[hash], names[e.Name] = p, true
	}
	return byHash, nil
}

func (e tokenEntry) principal() (hash [sha256.Size]byte, p Principal, err error) {
	if !unitPattern.MatchString(e.Name) || e.Name == local().Subject {
		return hash, p, fmt.Errorf("a name is 1 to 32 of a-z, 0-9 and '-', and not %q", e.Name)
	}
	digits, ok := strings.CutPrefix(e.Hash, hashPrefix)
	if n, err := hex.Decode(hash[:], []byte(digits[:min(len(digits), 2*len(hash))])); !ok || err != nil || n != len(hash) || len(digits) != 2*len(hash) {
		return hash, p, fmt.Errorf("the hash of %s is not %s and 64 hexadecimal digits", e.Name, hashPrefix)
	}
	if len(e.Roles) == 0 {
		return hash, p, fmt.Errorf("%s has no role", e.Name)
	}
	for _, role := range e.Roles {
		if !slices.Contains(roles, role) {
			return hash, p, fmt.Errorf("%s has the role %q, which is none of %v", e.Name, role, roles)
		}
	}
	for _, unit := range e.BusinessUnits {
		if !unitPattern.MatchString(unit) {
			return hash, p, fmt.Errorf("%s names %q, which is no business unit", e.Name, unit)
		}
	}
	return hash, Principal{Subject: e.Name, Issuer: "tokens", Kind: "service", BusinessUnits: e.BusinessUnits, Roles: e.Roles}, nil
}

// Principal returns whose token it is.
func (t *Tokens) Principal(token string) (Principal, bool) {
	// Who knows the hash does not know the token, so looking the hash up betrays nothing.
	p, ok := (*t.byHash.Load())[sha256.Sum256([]byte(token))]
	return p, ok && token != ""
}

// NewToken makes a token, and the entry for the file that lets its bearer in.
func NewToken(name string, units []string, granted []Role) (token, entry string, err error) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // it never fails
	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(random[:])
	hash := sha256.Sum256([]byte(token))
	e := tokenEntry{Name: name, Hash: hashPrefix + hex.EncodeToString(hash[:]), BusinessUnits: units, Roles: granted}
	if _, _, err := e.principal(); err != nil {
		return "", "", err
	}
	text, err := yaml.Marshal([]tokenEntry{e})
	return token, string(text), err
}
