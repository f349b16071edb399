package retry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orderledger/orderledger/internal/retry"
)

func logged(level slog.Level) (*slog.Logger, *bytes.Buffer) {
	var log bytes.Buffer
	return slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level})), &log
}

var errAway = errors.New("it is away")

// However many meet an outage, and however often, the log has a line when it begins and one when it is over.
func TestTwoLinesForAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, text := logged(slog.LevelInfo)
		o := retry.NewOutage(log, "publishing", 10*time.Second)
		for outage := range 3 {
			back := time.Now().Add(5 * time.Minute)
			calls := 0
			var mu sync.Mutex
			var all sync.WaitGroup
			for range 64 {
				all.Go(func() {
					if err := o.Do(t.Context(), func() error {
						mu.Lock()
						defer mu.Unlock()
						calls++
						if time.Now().Before(back) {
							return errAway
						}
						return nil
					}); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if calls > 64*80 {
				t.Errorf("tried %d times in five minutes", calls)
			}
			if got, want := strings.Count(text.String(), "\n"), 2*(outage+1); got != want {
				t.Fatalf("%d lines in the log, want %d:\n%s", got, want, text)
			}
		}
		if got := text.String(); strings.Count(got, `level=WARN msg="failed, trying again" doing=publishing error="it is away"`) != 3 ||
			strings.Count(got, `level=INFO msg="goes on after an outage" doing=publishing lasted=5m`) != 3 {
			t.Errorf("the log is\n%s", got)
		}
	})
}

// One who succeeds does not end the outage of another, and one who leaves does not keep it from ending.
func TestAllMustGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, text := logged(slog.LevelInfo)
		o := retry.NewOutage(log, "receiving", time.Second)
		one, other, third := o.Attempts(), o.Attempts(), o.Attempts()
		for range 3 {
			for _, a := range []*retry.Attempts{one, other, third} {
				if err := a.Failed(t.Context(), errAway); err != nil {
					t.Error(err)
				}
			}
			one.Succeeded(t.Context())
		}
		third.Leave()
		if strings.Contains(text.String(), "goes on") || strings.Count(text.String(), "\n") != 1 {
			t.Errorf("while one still fails the log is\n%s", text)
		}
		other.Succeeded(t.Context())
		if strings.Count(text.String(), "goes on") != 1 {
			t.Errorf("when nobody fails any more the log is\n%s", text)
		}
		other.Succeeded(t.Context())
		third.Leave()
		if strings.Count(text.String(), "\n") != 2 {
			t.Errorf("later the log is\n%s", text)
		}
	})
}

// One who knows that all can go on ends the outage for all. Who fails later begins another one.
func TestOverForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, text := logged(slog.LevelInfo)
		o := retry.NewOutage(log, "receiving", time.Second)
		o.Over(t.Context()) // there is none
		one, other := o.Attempts(), o.Attempts()
		fail := func(all ...*retry.Attempts) {
			for _, a := range all {
				if err := a.Failed(t.Context(), errAway); err != nil {
					t.Error(err)
				}
			}
		}
		fail(one, other, other)
		one.Succeeded(t.Context())
		o.Over(t.Context())
		fail(one)
		other.Succeeded(t.Context()) // after an outage that was over
		if got := strings.Count(text.String(), "\n"); got != 3 {
			t.Errorf("in the second outage the log is\n%s", text)
		}
		one.Succeeded(t.Context())
		if got := text.String(); strings.Count(got, "WARN") != 2 || strings.Count(got, "goes on") != 2 {
			t.Errorf("the log is\n%s", text)
		}
	})
}

// The end of the context ends a pause, and is no outage.
func TestEndOfTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, text := logged(slog.LevelDebug)
		o := retry.NewOutage(log, "applying", time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		start := time.Now()
		err := o.Do(ctx, func() error { return errAway })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 10*time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if strings.Contains(text.String(), "goes on") {
			t.Errorf("the log is\n%s", text)
		}
		text.Reset()
		if err := o.Do(ctx, ctx.Err); !errors.Is(err, context.DeadlineExceeded) || text.Len() > 0 {
			t.Errorf("%v, and the log has %q", err, text)
		}
	})
}
