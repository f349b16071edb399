package rules_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

func openStore(t *testing.T) eventstore.Store {
	t.Helper()
	store, err := pebblestore.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// A diary is a log handler that tells which messages came.
type diary chan string

func (diary) Enabled(context.Context, slog.Level) bool { return true }
func (d diary) WithAttrs([]slog.Attr) slog.Handler     { return d }
func (d diary) WithGroup(string) slog.Handler          { return d }
func (d diary) Handle(_ context.Context, r slog.Record) error {
	select {
	case d <- r.Message:
	default:
	}
	return nil
}

// await returns when a message has come.
func (d diary) await(t *testing.T, message string) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case m := <-d:
			if m == message {
				return
			}
		case <-timeout:
			t.Fatalf("%q was never logged", message)
		}
	}
}

const (
	inForce    = "a rule set is in force"
	unreadable = "an activated rule set cannot be read and is not in force"
	stopped    = "following the rule sets stopped, trying again"
)

func newActive(t *testing.T, store eventstore.Store) (*rules.Active, diary) {
	t.Helper()
	d := make(diary, 2*rules.MaxBusinessUnits)
	active, err := rules.NewActive(t.Context(), store, rules.Config{
		Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
		Log: slog.New(d),
	})
	if err != nil {
		t.Fatal(err)
	}
	return active, d
}

// run follows the ledger until the test ends.
func run(t *testing.T, active *rules.Active) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- active.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}

var ann = domain.Actor{Kind: "person", Issuer: "local", Subject: "ann"}

func activation(businessUnit, text, key string) rules.Activation {
	return rules.Activation{BusinessUnit: businessUnit, Text: []byte(text), Meta: domain.Meta{
		Command: domain.CommandID(uuid.Nil, "ann", key), Actor: ann,
	}}
}

func activate(t *testing.T, active *rules.Active, businessUnit, text, key string) rules.Activated {
	t.Helper()
	done, err := active.Activate(t.Context(), activation(businessUnit, text, key))
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// named is a rule set that holds every order with its name as the code.
func named(name string) string {
	return fmt.Sprintf(`
version: 1
name: %[1]s
sites: {main: {}}
validation: [{row: V1, then: hold, code: %[1]s, text: Held by %[1]s.}]
routing: [{row: R1, to: main}]
`, name)
}

// code tells which rule set named by named is in force; the built-in one has no code.
func code(t *testing.T, active *rules.Active, businessUnit string) string {
	t.Helper()
	policy, err := active.Policy(t.Context(), businessUnit)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Validate(new(order("DE", "A"))).Reason.Code
}

func stream(t *testing.T, store eventstore.Store, businessUnit string) []eventstore.Recorded {
	t.Helper()
	var all []eventstore.Recorded
	for rec, err := range store.ReadStream(t.Context(), rules.Stream(businessUnit), 0, eventstore.Forward) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
	}
	return all
}

func TestDefaultIsActivatedBeforeItsFirstUse(t *testing.T) {
	store := openStore(t)
	first, _ := newActive(t, store)
	second, _ := newActive(t, store)

	status, err := first.Status(t.Context(), "optics")
	if err != nil || !status.BuiltIn || status.SHA256 != rules.Minimal().Hash() || len(status.History) != 0 {
		t.Errorf("before: %+v, %v", status, err)
	}
	if events := stream(t, store, "optics"); len(events) != 0 {
		t.Fatal("asking for the status activated something")
	}
	for _, active := range []*rules.Active{first, second, first} {
		policy, err := active.Policy(t.Context(), "optics")
		if err != nil {
			t.Fatal(err)
		}
		if got := policy.Validate(new(order("DE", "A"))).Decision.RuleSet; got != rules.Minimal().Hash() {
			t.Errorf("decided by %s", got)
		}
	}
	events := stream(t, store, "optics")
	if len(events) != 1 {
		t.Fatalf("%d activations, not one", len(events))
	}
	decoded, err := domain.DecodeEvent(events[0].Type, events[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	want := &domain.RuleSetActivated{BusinessUnit: "optics", SHA256: rules.Minimal().Hash(), Text: rules.Minimal().Text()}
	if diff := cmp.Diff(want, decoded); diff != "" {
		t.Error(diff)
	}
	meta, err := domain.DecodeMeta(events[0].Metadata)
	if err != nil || meta.Actor.Kind != "system" || meta.BusinessUnit != "optics" || meta.Occurred.Year() != 2026 {
		t.Errorf("metadata %+v, %v", meta, err)
	}
}

func TestDefaultIsActivatedOnceByManyAtOnce(t *testing.T) {
	store := openStore(t)
	var wg sync.WaitGroup
	for range 4 {
		active, _ := newActive(t, store)
		for range 4 {
			wg.Go(func() {
				if _, err := active.Policy(t.Context(), "optics"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if events := stream(t, store, "optics"); len(events) != 1 {
		t.Errorf("%d activations, not one", len(events))
	}
}

func TestActivate(t *testing.T) {
	store := openStore(t)
	active, _ := newActive(t, store)

	one := activate(t, active, "optics", named("one"), "k1")
	if one.Repeated || one.Revision != 0 || one.Position == 0 || one.SHA256 == "" {
		t.Errorf("first activation: %+v", one)
	}
	if got := code(t, active, "optics"); got != "one" {
		t.Errorf("in force: %q", got)
	}
	if again := activate(t, active, "optics", named("one"), "k2"); !again.Repeated || again.Revision != 0 {
		t.Errorf("the text in force, again: %+v", again)
	}
	if two := activate(t, active, "optics", named("two"), "k3"); two.Repeated || two.Revision != 1 {
		t.Errorf("second activation: %+v", two)
	}
	// A retry that comes late must not bring the old rules back.
	if late := activate(t, active, "optics", named("one"), "k1"); !late.Repeated || late.Revision != 0 {
		t.Errorf("late retry: %+v", late)
	}
	if got := code(t, active, "optics"); got != "two" {
		t.Errorf("after a late retry %q is in force", got)
	}
	// Somebody who wants them back asks anew.
	if back := activate(t, active, "optics", named("one"), "k4"); back.Repeated || back.Revision != 2 {
		t.Errorf("back to the first: %+v", back)
	}
	if got := code(t, active, "optics"); got != "one" {
		t.Errorf("in force: %q", got)
	}
	if got := code(t, active, "other"); got != "" {
		t.Errorf("another business unit got %q", got)
	}
	if events := stream(t, store, "optics"); len(events) != 3 {
		t.Errorf("%d activations, not three", len(events))
	}

	reopened, _ := newActive(t, store)
	if got := code(t, reopened, "optics"); got != "one" {
		t.Errorf("after a restart %q is in force", got)
	}
	status, err := reopened.Status(t.Context(), "optics")
	if err != nil {
		t.Fatal(err)
	}
	if status.Name != "one" || status.Revision != 2 || status.Text != named("one") || status.BuiltIn || status.Unreadable != nil {
		t.Errorf("status %+v", status)
	}
	if len(status.History) != 3 || status.History[0].Revision != 2 || status.History[2].Revision != 0 ||
		status.History[0].Actor != ann || status.History[0].SHA256 != one.SHA256 || status.History[0].Bytes != len(named("one")) ||
		status.History[0].Recorded.IsZero() {
		t.Errorf("history %+v", status.History)
	}
}

func TestActivateRefuses(t *testing.T) {
	store := openStore(t)
	active, _ := newActive(t, store)
	activate(t, active, "optics", named("one"), "k1")

	_, err := active.Activate(t.Context(), activation("optics", "version: 1\nname: broken\n", "k2"))
	if invalid := (*rules.Invalid)(nil); !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
		t.Errorf("a bad text: %v", err)
	}
	if _, err := active.Activate(t.Context(), activation("optics", named("two"), "k1")); !errors.Is(err, rules.ErrCommandReused) {
		t.Errorf("a command id with another text: %v", err)
	}
	for _, unit := range []string{"", strings.Repeat("x", 201)} {
		if _, err := active.Activate(t.Context(), activation(unit, named("two"), "k3")); !errors.Is(err, rules.ErrBusinessUnit) {
			t.Errorf("business unit %q: %v", unit, err)
		}
		if _, err := active.Policy(t.Context(), unit); !errors.Is(err, rules.ErrBusinessUnit) {
			t.Errorf("business unit %q: %v", unit, err)
		}
		if _, err := active.Status(t.Context(), unit); !errors.Is(err, rules.ErrBusinessUnit) {
			t.Errorf("business unit %q: %v", unit, err)
		}
	}
	if _, err := active.Activate(t.Context(), rules.Activation{BusinessUnit: "optics", Text: []byte(named("two"))}); err == nil {
		t.Error("an activation without a command id was taken")
	}
	if got := code(t, active, "optics"); got != "one" {
		t.Errorf("in force: %q", got)
	}
	if events := stream(t, store, "optics"); len(events) != 1 {
		t.Errorf("%d activations, not one", len(events))
	}
}

func TestStatusTellsTheNewestActivations(t *testing.T) {
	active, _ := newActive(t, openStore(t))
	for i := range 101 {
		activate(t, active, "optics", named(fmt.Sprint("r", i)), fmt.Sprint(i))
	}
	status, err := active.Status(t.Context(), "optics")
	if err != nil || len(status.History) != 100 || status.History[0].Revision != 100 {
		t.Errorf("%d rows from revision %d: %v", len(status.History), status.History[0].Revision, err)
	}
	if again := activate(t, active, "optics", named("r0"), "0"); !again.Repeated || again.Revision != 0 {
		t.Errorf("the first command again: %+v", again)
	}
}

func TestActivateTellsWarnings(t *testing.T) {
	active, _ := newActive(t, openStore(t))
	text := strings.Replace(named("one"), "{main: {}}", "{main: {}, spare: {}}", 1)
	done := activate(t, active, "optics", text, "k1")
	if len(done.Warnings) != 1 || !strings.Contains(done.Warnings[0].Text, "spare") {
		t.Errorf("warnings %v", done.Warnings)
	}
}

func TestRunFollowsOtherProcesses(t *testing.T) {
	store := openStore(t)
	follower, diary := newActive(t, store)
	other, _ := newActive(t, store)
	run(t, follower)

	if got := code(t, follower, "optics"); got != "" {
		t.Fatalf("in force: %q", got)
	}
	diary.await(t, inForce)
	for _, name := range []string{"one", "two"} {
		activate(t, other, "optics", named(name), name)
		diary.await(t, inForce)
		if got := code(t, follower, "optics"); got != name {
			t.Errorf("in force: %q, want %q", got, name)
		}
	}
}

func TestActivationsAtOnce(t *testing.T) {
	store := openStore(t)
	var all []*rules.Active
	var wg sync.WaitGroup
	for i := range 3 {
		active, _ := newActive(t, store)
		run(t, active)
		all = append(all, active)
		for j := range 3 {
			name := fmt.Sprintf("r%d_%d", i, j)
			wg.Go(func() {
				if _, err := active.Activate(t.Context(), activation("optics", named(name), name)); err != nil && !eventstore.IsConflict(err) {
					t.Error(err)
				}
				if _, err := active.Policy(t.Context(), "optics"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	events := stream(t, store, "optics")
	newest := events[len(events)-1]
	for _, active := range all {
		// Asking for the status reads the stream, and so what the others did.
		status, err := active.Status(t.Context(), "optics")
		if err != nil || status.Revision != newest.Revision {
			t.Errorf("revision %d is in force, not %d: %v", status.Revision, newest.Revision, err)
		}
		if got := code(t, active, "optics"); got != status.Name {
			t.Errorf("%q decides while %q is in force", got, status.Name)
		}
	}
}

// storeRaw appends an event to a business unit's stream as another version, or nobody decent, might.
func storeRaw(t *testing.T, store eventstore.Store, businessUnit string, e eventstore.Event) {
	t.Helper()
	e.ID = uuid.New()
	expected := eventstore.NoStream
	if events := stream(t, store, businessUnit); len(events) > 0 {
		expected = eventstore.At(events[len(events)-1].Revision)
	}
	if _, err := store.Append(t.Context(), rules.Stream(businessUnit), expected, []eventstore.Event{e}); err != nil {
		t.Fatal(err)
	}
}

func encoded(t *testing.T, e domain.Event) eventstore.Event {
	t.Helper()
	data, err := domain.EncodeEvent(e)
	if err != nil {
		t.Fatal(err)
	}
	return eventstore.Event{Type: e.Type(), Data: data}
}

func TestUnreadableRuleSets(t *testing.T) {
	future := strings.Replace(named("future"), "version: 1", "version: 2", 1)
	tests := []struct {
		name, why string
		event     func(t *testing.T) eventstore.Event
	}{
		{"text of a later version", "this program reads version 1 of rule sets", func(t *testing.T) eventstore.Event {
			return encoded(t, &domain.RuleSetActivated{BusinessUnit: "optics", SHA256: sha(future), Text: future})
		}},
		{"event of a later version", "unknown type of event", func(*testing.T) eventstore.Event {
			return eventstore.Event{Type: "ruleset.activated.v9", Data: []byte(`{}`)}
		}},
		{"event of an order", "is no activation", func(t *testing.T) eventstore.Event { return encoded(t, &domain.Closed{}) }},
		{"wrong hash", "not the one that its SHA-256 names", func(t *testing.T) eventstore.Event {
			return encoded(t, &domain.RuleSetActivated{BusinessUnit: "optics", SHA256: sha("x"), Text: named("two")})
		}},
		{"wrong business unit", "business unit \"toys\"", func(t *testing.T) eventstore.Event {
			return encoded(t, &domain.RuleSetActivated{BusinessUnit: "toys", SHA256: sha(named("two")), Text: named("two")})
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			store := openStore(t)
			active, diary := newActive(t, store)
			run(t, active)
			activate(t, active, "optics", named("one"), "k1")
			storeRaw(t, store, "optics", test.event(t))
			diary.await(t, unreadable)

			fresh, _ := newActive(t, store)
			for _, a := range []*rules.Active{active, fresh} {
				if got := code(t, a, "optics"); got != "one" {
					t.Errorf("in force: %q", got)
				}
				status, err := a.Status(t.Context(), "optics")
				if err != nil || status.Unreadable == nil || status.Unreadable.Revision != 1 || !strings.Contains(status.Unreadable.Error, test.why) {
					t.Errorf("status %+v, %v", status.Unreadable, err)
				}
				if len(status.History) != 2 {
					t.Errorf("history %+v", status.History)
				}
			}
			activate(t, active, "optics", named("two"), "k2")
			if status, err := active.Status(t.Context(), "optics"); err != nil || status.Unreadable != nil || status.Name != "two" {
				t.Errorf("status after a newer activation %+v, %v", status, err)
			}
		})
	}
}

func TestOnlyUnreadableRuleSets(t *testing.T) {
	store := openStore(t)
	for range 3 {
		storeRaw(t, store, "optics", eventstore.Event{Type: "ruleset.activated.v9", Data: []byte(`{}`)})
	}
	active, _ := newActive(t, store)
	for range 2 {
		if _, err := active.Policy(t.Context(), "optics"); !errors.Is(err, rules.ErrUnreadable) {
			t.Fatalf("got %v", err)
		}
	}
	status, err := active.Status(t.Context(), "optics")
	if err != nil || status.SHA256 != "" || status.Unreadable == nil || status.Unreadable.Revision != 2 {
		t.Errorf("status %+v, %v", status, err)
	}
	activate(t, active, "optics", named("one"), "k1")
	if got := code(t, active, "optics"); got != "one" {
		t.Errorf("in force: %q", got)
	}
}

// A faulty store fails as it is told to.
type faulty struct {
	eventstore.Store
	head, read, append error
	conflicts          int          // how many appends come too late
	subscribe          atomic.Int32 // how many subscriptions end at once, all but the last with an error
}

var errFault = errors.New("the cable is out")

func (f *faulty) Head(ctx context.Context) (eventstore.Head, error) {
	if f.head != nil {
		return eventstore.Head{}, f.head
	}
	return f.Store.Head(ctx)
}

func (f *faulty) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	if f.read != nil {
		return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, f.read) }
	}
	return f.Store.ReadStream(ctx, stream, from, dir)
}

func (f *faulty) Append(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	if f.conflicts > 0 {
		f.conflicts--
		return eventstore.Appended{}, &eventstore.Conflict{Stream: stream, Expected: expected, Actual: eventstore.At(3)}
	}
	if f.append != nil {
		return eventstore.Appended{}, f.append
	}
	return f.Store.Append(ctx, stream, expected, events)
}

func (f *faulty) Subscribe(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	switch left := f.subscribe.Add(-1); {
	case left == 0:
		return func(func(eventstore.Recorded, error) bool) {}
	case left > 0:
		return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, errFault) }
	}
	return f.Store.Subscribe(ctx, after, filter)
}

func TestRunOutlastsFailures(t *testing.T) {
	store := &faulty{Store: openStore(t)}
	store.subscribe.Store(2)
	follower, diary := newActive(t, store)
	other, _ := newActive(t, store.Store)
	if got := code(t, follower, "optics"); got != "" {
		t.Fatal(got)
	}
	diary.await(t, inForce)
	run(t, follower)
	diary.await(t, stopped)
	if status, err := follower.Status(t.Context(), "optics"); err != nil || !strings.Contains(status.NotFollowing, errFault.Error()) {
		t.Errorf("status %+v, %v", status, err)
	}
	activate(t, other, "optics", named("one"), "k1")
	diary.await(t, inForce)
	if got := code(t, follower, "optics"); got != "one" {
		t.Errorf("in force: %q", got)
	}
	if status, err := follower.Status(t.Context(), "optics"); err != nil || status.NotFollowing != "" {
		t.Errorf("status %+v, %v", status, err)
	}
}

func TestRunEndsWithTheLedger(t *testing.T) {
	store := openStore(t)
	active, _ := newActive(t, store)
	done := make(chan error)
	go func() { done <- active.Run(t.Context()) }()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("Run returned %v", err)
	}
}

func TestRunEndsWhileItWaits(t *testing.T) {
	store := &faulty{Store: openStore(t)}
	store.subscribe.Store(1_000)
	active, diary := newActive(t, store)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- active.Run(ctx) }()
	diary.await(t, stopped)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

func TestLedgerFails(t *testing.T) {
	store := &faulty{Store: openStore(t), head: errFault}
	if _, err := rules.NewActive(t.Context(), store, rules.Config{}); !errors.Is(err, errFault) {
		t.Errorf("NewActive: %v", err)
	}
	store.head = nil
	active, err := rules.NewActive(t.Context(), store, rules.Config{})
	if err != nil {
		t.Fatal(err)
	}
	all := func(what string) {
		if _, err := active.Policy(t.Context(), "optics"); !errors.Is(err, errFault) {
			t.Errorf("%s: Policy: %v", what, err)
		}
		if _, err := active.Activate(t.Context(), activation("optics", named("one"), "k1")); !errors.Is(err, errFault) {
			t.Errorf("%s: Activate: %v", what, err)
		}
	}
	store.read = errFault
	all("reading fails")
	if _, err := active.Status(t.Context(), "optics"); !errors.Is(err, errFault) {
		t.Errorf("Status: %v", err)
	}
	store.read, store.append = nil, errFault
	all("appending fails")

	store.append = nil
	activate(t, active, "optics", named("one"), "k1")
	store.read, store.append = errFault, errFault
	if got := code(t, active, "optics"); got != "one" { // what is known needs no ledger
		t.Errorf("in force: %q", got)
	}
}

func TestActivateAmongConflicts(t *testing.T) {
	store := &faulty{Store: openStore(t), conflicts: 5}
	active, _ := newActive(t, store)
	activate(t, active, "optics", named("one"), "k1")
	if got := code(t, active, "optics"); got != "one" {
		t.Errorf("in force: %q", got)
	}
	store.conflicts = 1_000
	if _, err := active.Activate(t.Context(), activation("optics", named("two"), "k2")); !eventstore.IsConflict(err) {
		t.Errorf("got %v", err)
	}
	if _, err := active.Policy(t.Context(), "toys"); !errors.Is(err, eventstore.ErrCorrupt) {
		t.Errorf("a stream that has changed and is empty: %v", err)
	}
}

func TestBusinessUnitsAreBounded(t *testing.T) {
	store := openStore(t)
	active, diary := newActive(t, store)
	var wg sync.WaitGroup
	for worker := range 50 {
		wg.Go(func() {
			for i := range rules.MaxBusinessUnits / 50 {
				if _, err := active.Policy(t.Context(), fmt.Sprintf("unit-%d-%d", worker, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := active.Policy(t.Context(), "one-more"); !errors.Is(err, rules.ErrBusinessUnit) {
		t.Errorf("got %v", err)
	}
	if got := code(t, active, "unit-7-7"); got != "" {
		t.Error("a known business unit lost its rules")
	}
	if events := stream(t, store, "one-more"); len(events) != 0 {
		t.Error("rules were activated for one business unit too many")
	}

	// Nor does one come in that another process decides for.
	run(t, active)
	other, _ := newActive(t, store)
	activate(t, other, "one-more", named("one"), "k1")
	activate(t, other, "unit-7-7", named("two"), "k2")
	for range rules.MaxBusinessUnits + 2 {
		diary.await(t, inForce)
	}
	if got := code(t, active, "unit-7-7"); got != "two" {
		t.Errorf("in force: %q", got)
	}
	if _, err := active.Policy(t.Context(), "one-more"); !errors.Is(err, rules.ErrBusinessUnit) {
		t.Errorf("got %v", err)
	}
}

// TestPolicyWhileActivating reads without a pause while rule sets change: for the race detector, and to see that a
// decision never comes from half a rule set.
func TestPolicyWhileActivating(t *testing.T) {
	active, _ := newActive(t, openStore(t))
	activate(t, active, "optics", named("r0"), "r0")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				policy, err := active.Policy(t.Context(), "optics")
				if err != nil {
					t.Error(err)
					return
				}
				j := policy.Validate(new(order("DE", "A")))
				if sha(named(j.Reason.Code)) != j.Decision.RuleSet {
					t.Errorf("rule set %s said %s", j.Decision.RuleSet, j.Reason.Code)
					return
				}
			}
		})
	}
	for i := range 20 {
		name := fmt.Sprintf("r%d", i+1)
		activate(t, active, "optics", named(name), name)
		if got := code(t, active, "optics"); got != name {
			t.Errorf("in force: %q, want %q", got, name)
		}
	}
	cancel()
	wg.Wait()
}
