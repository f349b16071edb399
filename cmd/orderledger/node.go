package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/eventstore/feed"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/eventstore/relay"
	"github.com/orderledger/orderledger/internal/keyring"
	"github.com/orderledger/orderledger/internal/retry"
	"github.com/orderledger/orderledger/internal/topology"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
	"github.com/orderledger/orderledger/readapi"
)

// nodeConfig says what a node is made of.
type nodeConfig struct {
	globals                // where the ledger, the read models and the keys are
	Rules   *rules.RuleSet // of business units that have activated none; nil: the smallest
	Log     *slog.Logger
	Rate    int         // requests per second of one client, see [web.Config]
	Roles   []string    // nil: all
	Bus     *busAddress // nil: one in the process
	Region  string      // stands in every message
	Tokens  *web.Tokens // nil: there is no authentication
	Hosts   []string    // names that the server answers for, see [web.Config]

	Topology *topology.Topology // of which Region is one; nil: there is one region
	Network  http.RoundTripper  // how other regions are reached; nil: as usual
	Secret   *[32]byte          // the key of digests that the regions share; nil: the region has one of its own

	Now    func() time.Time // the clock that stamps commands and events; nil: time.Now
	Random io.Reader        // of the nonces that seal personal data; nil: crypto/rand
}

// A node is the whole product in one process: the ledger, and everything that writes to it, follows it and answers
// from it. openNode opens its parts, run starts and stops them, close closes them.
//
// What its roles do not need is nil.
type node struct {
	log       *slog.Logger
	roles     []string
	tokens    *web.Tokens
	reader    eventstore.Reader // the ledger, or its feed
	ledger    ownLedger         // nil: it is in another process
	distant   bool              // the ledger is reached over a network
	keys      *keyring.Keyring
	rules     *rules.Active
	handler   *commands.Handler
	views     *projections.Views
	projector *projections.Projector
	publisher watermill.Publisher // to a bus outside the process
	relay     *relay.Relay
	consumer  *relay.Consumer
	queue     *commands.Queue
	peers     *peers    // nil: there is one region
	own       uuid.UUID // the ledger
	caughtUp  time.Time // when apply last read the ledger; belongs to it
	lastLag   lastLag
	web       *web.Server
	giveUp    context.CancelCauseFunc // ends a run for a reason

	closers []func() error // of what is open, in the order in which it was opened
}

// An ownLedger is a ledger that a process writes to.
type ownLedger interface {
	eventstore.Store
	Writable() error               // why it takes no writes; nil: it takes them
	Announce(address string) error // tells the tools of the data directory where this process serves
}

// openNode opens all parts, in the order in which they need one another. It starts nothing.
func openNode(ctx context.Context, c nodeConfig) (_ *node, err error) {
	n := &node{log: c.Log}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.roles = c.Roles; n.roles == nil {
		n.roles = allRoles
	}
	n.tokens = c.Tokens
	data, err := n.openLedger(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := checkRoles(n.roles, n.ledger != nil, c.Bus == nil); err != nil {
		return nil, err
	}
	if err = n.openKeys(ctx, filepath.Join(data, "keys"), c.Secret); err != nil {
		return nil, err
	}
	if c.Bus != nil && n.ledger != nil {
		if n.publisher, err = c.Bus.publisher(); err != nil {
			return nil, fmt.Errorf("opening the bus: %w", err)
		}
		n.opened(n.publisher.Close)
	}
	if c.Topology != nil {
		if err = n.openPeers(ctx, c, mirrorsIn(data)); err != nil {
			return nil, err
		}
	}
	if n.has(roleCommands) {
		if err = n.openHandler(ctx, c); err != nil {
			return nil, err
		}
	}
	if n.has(roleProjector) || n.has(roleReadAPI) {
		if err = n.openViews(ctx, c, data); err != nil {
			return nil, err
		}
	}
	if err = n.openCourier(ctx, c); err != nil {
		return nil, err
	}
	metrics := n.openWeb(c)
	if err = n.openQueue(ctx, c); err != nil {
		return nil, err
	}
	n.measure(metrics)
	return n, nil
}

func (n *node) has(role string) bool { return slices.Contains(n.roles, role) }

// openHandler makes what takes commands.
func (n *node) openHandler(ctx context.Context, c nodeConfig) (err error) {
	if n.rules, err = rules.NewActive(ctx, n.ledger, rules.Config{Default: c.Rules, Now: c.Now, Log: c.Log}); err != nil {
		return fmt.Errorf("reading the rules: %w", err)
	}
	config := commands.Config{
		Ledger: n.ledger, Keys: n.keys, Policy: n.rules.Policy, Now: c.Now, Random: c.Random, Logger: c.Log,
	}
	if c.Bus.takesCommands() {
		config.Enqueue = func(m *watermill.Message) error { return n.publisher.Publish(c.Bus.commands, m) }
	}
	if n.peers != nil {
		config.Regions, config.Remote, config.Asked = n.peers.forCommands, n.peers.confirm, n.peers.asked.Load
	}
	n.handler, err = commands.NewHandler(ctx, config)
	if err != nil {
		return err
	}
	if _, err = n.handler.Reapply(ctx); err != nil {
		return fmt.Errorf("erasing again what the ledger says was erased: %w", err)
	}
	return nil
}

func (n *node) opened(closer func() error) { n.closers = append(n.closers, closer) }

// openLedger opens the ledger, or its feed, and returns the directory of everything that stands beside it.
func (n *node) openLedger(ctx context.Context, c nodeConfig) (data string, err error) {
	if address, ok := c.feed(); ok {
		return n.openFeed(c, address)
	}
	if esdb.IsConnectionString(c.Ledger) {
		return n.openEventStoreDB(ctx, c)
	}
	dir, err := c.ledgerDir()
	if err != nil {
		return "", err
	}
	config := &pebblestore.Config{Now: c.Now, Logger: c.Log, ID: c.ledgerID()}
	data = c.Data
	if dir == "" {
		if data, err = os.MkdirTemp("", "orderledger-"); err != nil {
			return "", err
		}
		n.opened(func() error { return os.RemoveAll(data) })
		config.FS, dir = vfs.NewMem(), "ledger"
	} else if err := os.MkdirAll(data, 0o700); err != nil {
		return "", fmt.Errorf("making the data directory: %w", err)
	}
	store, err := pebblestore.Open(dir, config)
	if err != nil {
		return "", err
	}
	n.ledger, n.reader = store, store
	n.opened(store.Close)
	if err := store.Writable(); err != nil {
		hint := "'orderledger ledger begin-incarnation --lost' lets a copy go on, once nobody uses the original any more"
		if errors.Is(err, eventstore.ErrFull) {
			hint = "make room, and start again"
		}
		n.log.Warn("commands are refused", "hint", hint, "error", err)
	}
	return data, nil
}

// openFeed reads the ledger of another process.
func (n *node) openFeed(c nodeConfig, address string) (data string, err error) {
	client, err := feed.NewClient(feed.ClientConfig{URL: address, Token: c.Token, Logger: c.Log})
	if err != nil {
		return "", err
	}
	n.reader, n.distant = client, true
	n.opened(client.Close)
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return "", fmt.Errorf("making the data directory: %w", err)
	}
	return c.Data, nil
}

func (n *node) head(ctx context.Context) (eventstore.Head, error) {
	head, err := n.reader.Head(ctx)
	if err != nil {
		err = fmt.Errorf("reading the ledger's head: %w", err)
		if n.ledger == nil {
			err = &exitError{exitUnavailable, err}
		}
	}
	return head, err
}

// openKeys opens the keys. Without the file of a ledger that has events, which somebody must have mislaid, it makes no
// new one: that would erase all personal data in passing.
func (n *node) openKeys(ctx context.Context, path string, shared *[32]byte) error {
	if !n.has(roleCommands) {
		// What another process knows of people can be read here where its keys were copied.
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	fresh, err := isFresh(ctx, n.reader)
	if err != nil {
		return fmt.Errorf("reading the ledger: %w", err)
	}
	switch info, err := os.Stat(path); {
	case err == nil && info.Size() == 0:
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("making new keys: %w", err)
		}
	case errors.Is(err, fs.ErrNotExist) && !fresh:
		return fmt.Errorf("the keys of this ledger are missing: restore %s from its backup, "+
			"or, where they are lost and all personal data with them, make an empty file of that name", path)
	}
	if shared != nil {
		n.keys, err = keyring.OpenShared(path, *shared)
	} else {
		n.keys, err = keyring.Open(path)
	}
	if err != nil {
		return err
	}
	n.opened(n.keys.Close)
	return nil
}

// isFresh reports whether a ledger holds nothing but what is internal to it.
func isFresh(ctx context.Context, ledger eventstore.Reader) (bool, error) {
	for _, err := range ledger.ReadAll(ctx, 0, eventstore.Filter{Public: true}) {
		return false, err
	}
	return true, nil
}

func (n *node) openViews(ctx context.Context, c nodeConfig, data string) error {
	c.Data = data
	path, err := c.viewsFile()
	if err != nil {
		return err
	}
	if n.views, err = projections.Open(ctx, path, nil); err != nil {
		return err
	}
	n.opened(n.views.Close)
	if !n.has(roleProjector) {
		return nil
	}
	n.projector, err = projections.NewProjector(ctx, n.views, []eventstore.Reader{n.reader}, &projections.ProjectorConfig{Log: c.Log})
	if err != nil {
		return err
	}
	n.opened(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		return n.projector.Close(ctx)
	})
	return nil
}

// openCourier makes what stands at the two ends of the bus, and the bus itself if it is in the process.
func (n *node) openCourier(ctx context.Context, c nodeConfig) error {
	head, err := n.head(ctx)
	if err != nil {
		return err
	}
	n.own = head.ID
	out := relay.Config{Name: relayName, Ledger: n.ledger, Region: c.Region, Log: n.log}
	in := relay.ConsumerConfig{
		Apply: n.apply, Ledger: n.reader, Source: head.ID, Lanes: head.Lanes, Log: n.log,
		Suspect: func(err error) bool { return errors.Is(err, projections.ErrUnreached) },
	}
	if c.Bus == nil {
		bus := relay.NewInProcess()
		n.opened(bus.Close)
		out.Bus, in.Bus, out.Tick = bus, bus, tickInterval
	} else {
		topic := func(int) string { return c.Bus.topic }
		out.Topic, in.Topic, in.Reject, in.Shared = topic, topic, reject, true
	}
	if n.has(roleRelay) {
		if c.Bus != nil {
			out.Bus = n.publisher
		}
		if n.relay, err = relay.New(out); err != nil {
			return err
		}
	}
	if n.has(roleProjector) {
		if c.Bus != nil {
			if in.Bus, err = c.Bus.subscriber(head.Lanes, n.log); err != nil {
				return fmt.Errorf("opening the bus: %w", err)
			}
			n.opened(in.Bus.Close)
		}
		if n.consumer, err = relay.NewConsumer(in); err != nil {
			return err
		}
	}
	return nil
}

// relayName is that of the relay, and of the stream of its checkpoints.
const relayName = "bus"

// tickInterval is how soon a quiet lane is told how far the ledger is, in one process: so long may a list lack what others
// show already. Over a bus, where each event would cost a message for each lane, it takes a second.
const tickInterval = 40 * time.Millisecond

// openQueue makes what takes commands from the bus.
func (n *node) openQueue(ctx context.Context, c nodeConfig) error {
	if !n.has(roleCommands) || !c.Bus.takesCommands() {
		return nil
	}
	head, err := n.head(ctx)
	if err != nil {
		return err
	}
	bus, err := c.Bus.queueSubscriber(head.Lanes, n.log)
	if err != nil {
		return fmt.Errorf("opening the bus: %w", err)
	}
	n.opened(bus.Close)
	n.queue, err = commands.NewQueue(n.handler, commands.QueueConfig{
		Bus: bus, Topic: c.Bus.commands, Routes: n.web, Replies: n.publisher, Reject: reject,
	})
	return err
}

// When the projector no longer waits for what the bus has yet to bring: the relay in this process has so many events
// pending, or, where it is in another one, what comes is so old. Then it reads the ledger, at most every so often.
const (
	farBehind = 1_000
	staleAge  = 10 * time.Second
)

// apply is the projector's step. What a bus that is far behind has yet to bring stands in the ledger, from where it
// comes in larger transactions.
func (n *node) apply(ctx context.Context, deliveries []eventstore.Delivery) error {
	var err error
	if n.busIsBehind(deliveries) {
		err = n.projector.CatchUp(ctx, n.own)
		n.caughtUp = time.Now()
	}
	if err == nil {
		err = n.projector.Apply(ctx, deliveries)
	}
	if projections.Final(err) {
		n.giveUp(err) // the consumer would try for ever
	}
	return err
}

func (n *node) busIsBehind(deliveries []eventstore.Delivery) bool {
	if n.relay != nil {
		return n.relay.Status().Pending > farBehind
	}
	stale := func(d eventstore.Delivery) bool { return d.Event != nil && time.Since(d.Event.Time) > staleAge }
	return time.Since(n.caughtUp) > staleAge && slices.ContainsFunc(deliveries, stale)
}

// openWeb makes the server of both sides, and returns what it measures.
func (n *node) openWeb(c nodeConfig) *prometheus.Registry {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	n.web = web.New(web.Config{
		Version: buildVersion().Version,
		Description: "Every change of an order is a command with an idempotency key; what it leads to is durable when it is answered. " +
			"What each command does in each state stands at /transitions, and what each error means at /problems.",
		Logger:    n.log,
		Metrics:   metrics,
		CursorKey: n.cursorKey(),
		Rate:      c.Rate,
		Hosts:     c.Hosts,
		Elsewhere: n.elsewhere(),
		Tokens:    c.Tokens,
		Allowed:   []web.Allowed{commands.Allowed(), readapi.Allowed(), feedAllowed, mirrorsAllowed},
		Errors:    []func(error) *web.Error{commands.WebError, feedError},
		Codes:     append(commands.Codes(), readapi.Codes()...),
	})
	if n.has(roleCommands) {
		commands.Register(n.web, n.handler, n.rules)
	}
	if n.ledger != nil {
		n.serveFeed()
		n.web.AddCheck("ledger", n.ledgerReady)
	}
	if n.peers != nil {
		n.serveMirrors()
	}
	if n.has(roleReadAPI) {
		config := readapi.Config{Views: n.views, Ledger: n.reader, Logger: n.log}
		if n.keys != nil {
			config.Key = n.keys.Key
		}
		if n.projector != nil {
			config.Lag, config.Projector = n.lag, n.projector
		}
		if n.peers != nil {
			config.Regions = func() []readapi.Region { return n.peers.forReaders(n.reader) }
		}
		readapi.Register(n.web, config)
	}
	if n.projector != nil {
		n.web.AddCheck("projector", n.projectorReady)
	}
	return metrics
}

// elsewhere says what a process with some of the roles lacks.
func (n *node) elsewhere() string {
	if len(n.roles) == len(allRoles) {
		return ""
	}
	return "This process has the roles " + strings.Join(n.roles, ", ") + ": ask one that has the others."
}

// cursorKey is what seals the cursors of lists: the same for all processes that have the same keys.
func (n *node) cursorKey() []byte {
	if n.keys == nil {
		return nil
	}
	return n.keys.Digest()
}

// feedAllowed are the routes under which other processes read the ledger.
var feedAllowed = web.Allowed{"GET " + feedPath + "/*": web.RolePeer}

const feedPath = "/v1/feed"

// serveFeed lets other processes read the ledger.
func (n *node) serveFeed() {
	handler := feed.NewHandler(feed.HandlerConfig{
		Ledger: n.ledger,
		Linger: func(ctx context.Context) (context.Context, error) { return web.Linger(ctx, 0) },
		Fail: func(w http.ResponseWriter, r *http.Request, status int, detail string) {
			code := "invalid_parameter"
			if status >= http.StatusInternalServerError {
				code = "unavailable"
			}
			n.web.WriteProblem(w, r, &web.Error{Status: status, Code: code, Detail: detail})
		},
		Logger: n.log,
	})
	n.web.Router().Method(http.MethodGet, feedPath+"/*", http.StripPrefix(feedPath, handler))
}

// stopTimeout bounds each part of stopping.
const stopTimeout = 10 * time.Second

// run starts the relay, the projector and, on a listener that is not nil, the HTTP server, and returns after they have
// all stopped: when ctx is done, which is no error, or when one of them cannot go on.
func (n *node) run(ctx context.Context, listener net.Listener) error {
	// What feeds the read models outlasts what takes commands.
	followers, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	n.giveUp = giveUp
	var behind sync.WaitGroup
	for _, follow := range n.followers() {
		behind.Go(func() { giveUp(follow(followers)) })
	}
	var failed error
	if listener != nil {
		failed = n.serve(ctx, followers, listener)
	} else {
		select {
		case <-ctx.Done():
		case <-followers.Done():
		}
	}
	giveUp(context.Canceled)
	behind.Wait()
	if cause := context.Cause(followers); !errors.Is(cause, context.Canceled) {
		failed = errors.Join(failed, cause)
	}
	return failed
}

// followers are what runs behind what takes requests.
func (n *node) followers() []func(context.Context) error {
	var all []func(context.Context) error
	if n.rules != nil {
		all = append(all, n.rules.Run)
	}
	if n.relay != nil {
		all = append(all, n.relay.Run)
	}
	if n.queue != nil {
		all = append(all, n.queue.Run)
	}
	if n.peers != nil {
		all = append(all, func(ctx context.Context) error { return n.peers.run(ctx, n) })
	}
	switch {
	case n.projector != nil:
		all = append(all, n.project)
		if n.ledger == nil {
			all = append(all, n.relieve)
		}
	case n.views != nil:
		all = append(all, n.views.Poll) // another process writes the rows
	}
	if n.tokens != nil {
		all = append(all, func(ctx context.Context) error {
			n.tokens.Watch(ctx, n.log)
			return ctx.Err()
		})
	}
	return all
}

// serve answers HTTP until ctx or followers are done.
func (n *node) serve(ctx, followers context.Context, listener net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(followers, stop)()
	return serveHTTP(ctx, web.HTTPServer(n.web), listener, n.web.Drain)
}

// serveHTTP answers until ctx is done. Then it drains, and lets what is under way come to its end.
func serveHTTP(ctx context.Context, server *http.Server, listener net.Listener, drain func()) error {
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("serving HTTP: %w", err)
	case <-ctx.Done():
	}
	drain()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stopping HTTP: %w", err), server.Close())
	}
	if served := <-stopped; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// project catches the read models up from the ledger, retries the orders that an earlier version may have parked, and
// then listens to the bus.
func (n *node) project(ctx context.Context) error {
	attempts := retry.NewOutage(n.log, "catching up", 10*time.Second).Attempts()
	for {
		err := n.projector.CatchUp(ctx, n.own)
		if err == nil {
			_, err = n.projector.RetryParked(ctx)
		}
		if err == nil {
			attempts.Succeeded(ctx)
			break
		}
		if projections.Final(err) {
			return err
		}
		if err := attempts.Failed(ctx, err); err != nil {
			return err
		}
	}
	return n.consumer.Run(ctx)
}

// settle brings the read models up to everything that the ledger holds now, without waiting for the bus.
func (n *node) settle(ctx context.Context) error { return n.projector.CatchUp(ctx) }

// close closes what is open, the ledger last.
func (n *node) close() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	n.closers = nil
	return errors.Join(errs...)
}
