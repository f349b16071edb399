// Package commands is the write side of the order ledger: it takes commands, decides them over the history of their
// order and appends what they lead to.
//
// # What a command is promised
//
//   - A [Result] comes only after the events are durable in the ledger.
//   - A command that is repeated under its id, now or in a hundred years, gets its first answer and leads to no new
//     event. The id under which something else was asked before is refused with a [*KeyReused].
//   - A refused, malformed or oversized command stores nothing and is decided anew when it comes again.
//   - Personal data is sealed with the key of its subject before anything is stored.
//
// # How it works
//
// Deciding is a synchronous [Step]: the events of a stream in, an append or the first answer out, without goroutine,
// clock or store of its own. [Handler.Handle] drives it over a ledger: load, decide, append, and again where somebody
// else was faster. [Register] puts it behind HTTP, and a [Queue] before that takes commands from a bus.
//
// # Several regions
//
// Each region writes to its own ledger alone, having read its mirrors of the others. An order may stand in several ledgers:
// after it was sent to two regions that could not hear of each other, or after another region has taken it over
// ([Handler.TakeOver]) or was handed it ([Handler.HandOver]). All regions agree which of them counts, see [domain.Claim];
// commands are decided there and passed on from elsewhere ([Elsewhere]). What was done in a ledger that does not count is
// done again in the one that does, or stands among the order's conflicts ([Handler.Reconcile], [Reconciler]). All of that
// may be repeated, killed and repeated.
//
// A [Handler] is safe for concurrent use.
package commands

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	randv2 "math/rand/v2"
	"sync"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/keyring"
)

// Bounds of one command.
const (
	maxAttempts    = 8               // while others change the same order
	unknownTimeout = 5 * time.Second // to find out what became of an append that nobody answered
)

// A Config says what a [Handler] works with. Ledger and Keys are required.
type Config struct {
	Ledger eventstore.Store
	Keys   *keyring.Keyring // seal personal data and key the digests of commands

	// Policy returns the rules of a business unit; nil: there are none, every order is good and none is routed. Orders
	// of the channel import are never judged.
	Policy func(ctx context.Context, businessUnit string) (domain.Policy, error)

	// Enqueue puts a message into the queue of commands and returns after the bus has it, or when the message's context is
	// done; nil: there is no queue, and no request is answered before it is decided.
	Enqueue func(*watermill.Message) error

	// Regions returns the other regions, the next one first: it is asked when this one can store nothing. Nil: there are
	// none. It is called for each command.
	Regions func() []Region
	// Asked reports whether the other regions have said what they know since this one has started: they may have taken its
	// orders over. Until then nothing is decided over orders that exist. Nil: there is nobody to ask.
	Asked func() bool
	// Remote waits until another region has what a write led to, and returns nil then; nil: nobody is asked, and no answer
	// says that another region has it.
	Remote func(context.Context, eventstore.Mark) error

	Now    func() time.Time // nil: time.Now
	Random io.Reader        // of the nonces that seal personal data, safe for concurrent use; nil: crypto/rand
	Logger *slog.Logger     // nil: slog.Default
}

// A Handler takes commands for one ledger. No other may seal with its keys.
type Handler struct {
	cfg    Config
	store  eventstore.Store
	ledger eventstore.Identity
	keys   *keyring.Keyring

	// erasing keeps an order from being stored under a key that is destroyed. It is held for reading from the moment
	// when personal data is sealed until its append has ended, and for writing while an erasure names keys, records
	// them and destroys them. So an order is either in the ledger before the erasure, or has a key that it spares.
	erasing sync.RWMutex

	histories histories
}

// NewHandler returns a Handler. It reads the ledger's identity.
func NewHandler(ctx context.Context, cfg Config) (*Handler, error) {
	if cfg.Policy == nil {
		cfg.Policy = func(context.Context, string) (domain.Policy, error) { return domain.Unruled{}, nil }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	head, err := cfg.Ledger.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger's head: %w", err)
	}
	return &Handler{cfg: cfg, store: cfg.Ledger, ledger: head.Identity, keys: cfg.Keys}, nil
}

// Why a command is attempted again at once.
var (
	errChanged  = errors.New("the order has changed") // between load and append
	errCameHome = errors.New("the order has come home")
)

// Handle decides a command and returns when what it leads to is durable. Personal is what a submission or amendment
// says about people, in the clear.
//
// It returns a [*domain.Malformed] or [*domain.Refused] for a command that leads to nothing, a [*KeyReused], an
// [*Elsewhere] for an order whose home is another region, [ErrAskingPeers] while that is not known, [ErrBusy] while too
// many change the same order, [ErrOutcomeUnknown] where the ledger did not answer, and the errors of the ledger and of the
// policy. Whatever the error, the same command may be sent again.
func (h *Handler) Handle(ctx context.Context, c domain.Command, personal domain.Personal) (Result, error) {
	return h.handle(ctx, &request{command: c, personal: personal})
}

// A request is a command with what does not belong to the order's history.
type request struct {
	command  domain.Command
	personal domain.Personal // in the clear
	epoch    *uint32         // refuse unless the order's home has moved so often
}

func (h *Handler) handle(ctx context.Context, r *request) (Result, error) {
	if err := r.check(); err != nil {
		return Result{}, err
	}
	digest, err := domain.DigestOf(h.keys.Digest(), r.command, &r.personal)
	if err != nil {
		return Result{}, err
	}
	for attempt := 1; ; attempt++ {
		result, err := h.attempt(ctx, r, digest)
		switch {
		case errors.Is(err, errCameHome) && attempt < maxAttempts:
			continue
		case (errors.Is(err, errChanged) || errors.Is(err, errCameHome)) && attempt == maxAttempts:
			return Result{}, fmt.Errorf("order %s: %w", r.command.Order, ErrBusy)
		case errors.Is(err, errChanged):
			if err := pause(ctx, attempt); err != nil {
				return Result{}, err
			}
			continue
		case err == nil && h.cfg.Logger.Enabled(ctx, slog.LevelDebug):
			h.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "command done",
				slog.String("action", r.command.Do.Name()), slog.Any("order_id", r.command.Order),
				slog.Uint64("revision", result.Revision), slog.Uint64("position", uint64(result.Mark.Position)),
				slog.Bool("repeated", result.Repeated))
		}
		return result, err
	}
}

func (r *request) check() error {
	if err := r.command.Check(); err != nil {
		return err
	}
	if r.personal.IsZero() {
		return nil
	}
	switch r.command.Do.(type) {
	case domain.Submit, domain.Amend:
		return r.personal.Check()
	}
	return &domain.Malformed{Field: "personal", Code: "unexpected", Detail: "only a submission or an amendment says something about people"}
}

// attempt loads, decides and appends once.
func (h *Handler) attempt(ctx context.Context, r *request, digest domain.Digest) (Result, error) {
	step, err := h.load(ctx, r.command, digest)
	if err != nil {
		return Result{}, err
	}
	if first, done, err := step.Answered(); done || err != nil {
		return first, err
	}
	if h.cfg.Regions != nil {
		if first, done, err := h.decidable(ctx, step); done || err != nil {
			return first, err
		}
	}
	if r.epoch != nil {
		step.requireEpoch(*r.epoch)
	}
	policy, err := h.policy(ctx, step)
	if err != nil {
		return Result{}, err
	}
	if !r.personal.IsZero() {
		h.erasing.RLock()
		defer h.erasing.RUnlock()
	}
	sealed, err := h.seal(step, &r.personal)
	if err != nil {
		return Result{}, err
	}
	decided, err := step.Decide(policy, sealed, h.cfg.Now())
	if err != nil {
		return Result{}, err
	}
	appended, err := h.store.Append(ctx, decided.Stream, decided.Expected, decided.Events)
	switch {
	case err == nil && !appended.Repeated:
		return decided.Result(appended), nil
	case err == nil:
		// The same command came twice at once and the other one was first. It may have asked for something else.
		return Result{}, errChanged
	case eventstore.IsConflict(err):
		return Result{}, errChanged
	case refusedAppend(err):
		return Result{}, fmt.Errorf("appending to order %s: %w", r.command.Order, err)
	}
	return h.findOut(ctx, r.command, digest, err)
}

// refusedAppend reports whether an append is known to have stored nothing.
func refusedAppend(err error) bool {
	return eventstore.Unavailable(err) || errors.Is(err, eventstore.ErrTooLarge) || errors.Is(err, eventstore.ErrInvalid)
}

// findOut looks whether an append whose outcome is unknown was done. It does not hurry because its caller did.
func (h *Handler) findOut(ctx context.Context, c domain.Command, digest domain.Digest, cause error) (Result, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unknownTimeout)
	defer cancel()
	h.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the outcome of an append is unknown, reading the order again",
		slog.Any("order_id", c.Order), slog.Any("error", cause))
	step, err := h.load(ctx, c, digest)
	if err == nil {
		var first Result
		var done bool
		if first, done, err = step.Answered(); done {
			return first, nil
		}
	}
	return Result{}, fmt.Errorf("order %s: %w", c.Order, errors.Join(ErrOutcomeUnknown, cause, err))
}

// load feeds a step with the order's stream, but for what is remembered of it.
func (h *Handler) load(ctx context.Context, c domain.Command, digest domain.Digest) (*Step, error) {
	step := NewStep(h.ledger, c, digest)
	step.order = h.histories.before(c.Order, c.ID)
	known := step.order.Events
	for e, err := range h.store.ReadStream(ctx, domain.Stream(c.Order), known, eventstore.Forward) {
		if err != nil {
			return nil, fmt.Errorf("reading order %s: %w", c.Order, err)
		}
		if err := step.Take(e); err != nil {
			return nil, err
		}
	}
	h.histories.add(step, known)
	return step, nil
}

// policy returns the rules that judge the step's order. An order that does not exist asks nobody.
func (h *Handler) policy(ctx context.Context, step *Step) (domain.Policy, error) {
	if !step.Ruled() {
		return domain.Unruled{}, nil
	}
	policy, err := h.cfg.Policy(ctx, step.command.BusinessUnit)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRules, err)
	}
	return policy, nil
}

// seal encrypts what a command says about people. A command that is sure to be refused makes no key. It is called with
// erasing held for reading.
func (h *Handler) seal(step *Step, personal *domain.Personal) (domain.Sealed, error) {
	subject := step.Subject()
	if personal.IsZero() || subject == "" {
		return domain.Sealed{}, nil
	}
	name, key, err := h.keys.Current(subject)
	if err != nil {
		return domain.Sealed{}, fmt.Errorf("sealing personal data: %w", err)
	}
	sealed, err := domain.Seal(personal, step.command.Order, name, key, h.cfg.Random)
	if err != nil {
		return domain.Sealed{}, fmt.Errorf("sealing personal data: %w", err)
	}
	return sealed, nil
}

// pause lets others finish: a few milliseconds, longer after each attempt, never as long as the others wait.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(randv2.N(time.Millisecond << attempt))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
