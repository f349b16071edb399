package rules

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// StreamPrefix begins the names of the streams of rule sets, one for each business unit.
const StreamPrefix = "rules-"

// Stream is the name of the stream of a business unit's rule sets.
func Stream(businessUnit string) string { return StreamPrefix + businessUnit }

// MaxBusinessUnits bounds how many business units one process decides for.
const MaxBusinessUnits = 1_000

// Conditions that callers act on. Each may come wrapped.
var (
	// ErrUnreadable is returned for a business unit whose ledger holds rule sets, none of which this version reads.
	// Activating one that it does read ends that.
	ErrUnreadable = errors.New("this version cannot read the rule set in force")
	// ErrBusinessUnit is returned for a business unit without a usable name, or for one more than MaxBusinessUnits.
	ErrBusinessUnit = errors.New("no rules for this business unit")
	// ErrCommandReused is returned for an activation under the command id of another text's activation.
	ErrCommandReused = errors.New("the command id belongs to the activation of another text")
)

// A Config is what an [Active] needs beside the ledger. The zero Config is usable.
type Config struct {
	Default *RuleSet         // of business units that have activated none; nil: [Minimal]
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: slog.Default()
}

// Active knows the rule set in force for every business unit. Its methods are safe for concurrent use.
type Active struct {
	store  eventstore.Store
	config Config
	start  eventstore.Head // what was activated later is followed, what was before is read when it is first asked for

	units     atomic.Pointer[map[string]*unit] // neither the map nor a unit is ever changed: both are replaced
	following atomic.Pointer[string]           // why the ledger cannot be followed just now; nil: it can

	replace sync.Mutex // held while units is replaced
}

// A unit is what is known of a business unit's stream.
type unit struct {
	inForce    *inForce    // nil: nothing that this version reads
	unreadable *Unreadable // the newest text that this version does not read; nil: none
}

type inForce struct {
	set      *RuleSet
	revision uint64
}

// NewActive returns the rule sets in force in a ledger. [Active.Run] keeps them so.
func NewActive(ctx context.Context, store eventstore.Store, c Config) (*Active, error) {
	if c.Default == nil {
		c.Default = Minimal()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	head, err := store.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger's head: %w", err)
	}
	a := &Active{store: store, config: c, start: head}
	a.units.Store(&map[string]*unit{})
	return a, nil
}

// Policy returns the rules in force for a business unit. Where none has been activated, it activates the default
// first, so that the ledger explains every decision. Once a business unit is known, Policy neither waits nor fails.
//
// Otherwise it returns [ErrUnreadable], [ErrBusinessUnit], or what the ledger returned.
func (a *Active) Policy(ctx context.Context, businessUnit string) (domain.Policy, error) {
	if u := a.unit(businessUnit); u != nil && u.inForce != nil {
		return u.inForce.set, nil
	}
	u, err := a.load(ctx, businessUnit)
	if err != nil {
		return nil, err
	}
	if u == nil {
		if u, err = a.activateDefault(ctx, businessUnit); err != nil {
			return nil, fmt.Errorf("activating the default rule set of business unit %q: %w", businessUnit, err)
		}
	}
	if u.inForce == nil {
		return nil, fmt.Errorf("business unit %q: %w", businessUnit, ErrUnreadable)
	}
	return u.inForce.set, nil
}

// Run follows the ledger, so that what other processes activate comes into force here too. It returns the error of ctx
// when that is done, or [eventstore.ErrClosed]; other failures of the ledger it outlasts, with the rules as they are.
func (a *Active) Run(ctx context.Context) error {
	after := a.start.Position
	for failures := 0; ; failures++ {
		seen := after
		err := a.follow(ctx, &after)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, eventstore.ErrClosed) {
			return err
		}
		if after != seen {
			failures = 0
		}
		text := err.Error()
		a.following.Store(&text)
		a.config.Log.WarnContext(ctx, "following the rule sets stopped, trying again", "error", err, "position", after)
		if err := pause(ctx, failures); err != nil {
			return err
		}
	}
}

// pause waits after a failure: longer after each in a row, up to ten seconds, and never as long as others wait.
func pause(ctx context.Context, failures int) error {
	d := min(100*time.Millisecond<<min(failures, 10), 10*time.Second)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d/2 + rand.N(d/2)):
		return nil
	}
}

// follow takes in what is activated after a position, and moves that.
func (a *Active) follow(ctx context.Context, after *eventstore.Position) error {
	for rec, err := range a.store.Subscribe(ctx, *after, eventstore.Filter{Prefixes: []string{StreamPrefix}}) {
		if err != nil {
			return fmt.Errorf("following the rule sets: %w", err)
		}
		a.following.Store(nil)
		a.adopt(ctx, &rec)
		*after = rec.Position
	}
	return errors.New("following the rule sets: the ledger ended the subscription")
}

func (a *Active) unit(businessUnit string) *unit { return (*a.units.Load())[businessUnit] }

// load reads what stands in a business unit's stream and returns nil if that is empty.
func (a *Active) load(ctx context.Context, businessUnit string) (*unit, error) {
	if err := checkName(businessUnit); err != nil {
		return nil, err
	}
	if known := *a.units.Load(); known[businessUnit] == nil && len(known) >= MaxBusinessUnits {
		return nil, fmt.Errorf("business unit %.80q is one more than %d: %w", businessUnit, MaxBusinessUnits, ErrBusinessUnit)
	}
	var u *unit
	for rec, err := range a.store.ReadStream(ctx, Stream(businessUnit), eventstore.End, eventstore.Backward) {
		if err != nil {
			return nil, fmt.Errorf("reading the rule sets of business unit %q: %w", businessUnit, err)
		}
		if u = a.adopt(ctx, &rec); u.inForce != nil {
			break
		}
	}
	return u, nil
}

func checkName(businessUnit string) error {
	if businessUnit == "" || len(businessUnit) > domain.MaxName {
		return fmt.Errorf("%w: its name has 1 to %d bytes, not %d", ErrBusinessUnit, domain.MaxName, len(businessUnit))
	}
	return nil
}

// adopt takes in an activation, in whatever order they come: the newest that can be read is in force.
func (a *Active) adopt(ctx context.Context, rec *eventstore.Recorded) *unit {
	set, err := a.read(rec)
	u, news := a.replaceUnit(strings.TrimPrefix(rec.Stream, StreamPrefix), rec, set, err)
	log := a.config.Log.With("stream", rec.Stream, "event_id", rec.ID, "revision", rec.Revision, "position", rec.Position)
	switch {
	case news && err != nil:
		log.ErrorContext(ctx, "an activated rule set cannot be read and is not in force", "error", err)
	case news:
		log.InfoContext(ctx, "a rule set is in force", "rule_set", set.Hash())
	}
	return u
}

// replaceUnit puts an activation in its place and reports whether it is newer than what was known.
func (a *Active) replaceUnit(businessUnit string, rec *eventstore.Recorded, set *RuleSet, unreadable error) (*unit, bool) {
	a.replace.Lock()
	defer a.replace.Unlock()
	u := unit{}
	if known := a.unit(businessUnit); known != nil {
		u = *known
	}
	switch {
	case unreadable != nil && (u.unreadable == nil || rec.Revision > u.unreadable.Revision):
		u.unreadable = &Unreadable{Revision: rec.Revision, Recorded: rec.Time, Error: unreadable.Error()}
	case unreadable == nil && (u.inForce == nil || rec.Revision > u.inForce.revision):
		u.inForce = &inForce{set: set, revision: rec.Revision}
	default:
		return &u, false
	}
	units := maps.Clone(*a.units.Load())
	units[businessUnit] = &u
	if len(units) <= MaxBusinessUnits {
		a.units.Store(&units)
	}
	return &u, true
}

// read returns the rule set of an activation.
func (a *Active) read(rec *eventstore.Recorded) (*RuleSet, error) {
	e, err := activation(rec)
	if err != nil {
		return nil, err
	}
	if e.SHA256 == a.config.Default.Hash() {
		return a.config.Default, nil // shared by all business units
	}
	return Parse([]byte(e.Text))
}

// activation decodes an activation and checks that it is what it says.
func activation(rec *eventstore.Recorded) (*domain.RuleSetActivated, error) {
	decoded, err := domain.DecodeEvent(rec.Type, rec.Data)
	if err != nil {
		return nil, err
	}
	e, ok := decoded.(*domain.RuleSetActivated)
	switch {
	case !ok:
		return nil, fmt.Errorf("%s is no activation of a rule set", rec.Type)
	case Stream(e.BusinessUnit) != rec.Stream:
		return nil, fmt.Errorf("the activation is of business unit %q", e.BusinessUnit)
	case hashOf([]byte(e.Text)) != e.SHA256:
		return nil, errors.New("the text is not the one that its SHA-256 names")
	}
	return e, nil
}

func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
