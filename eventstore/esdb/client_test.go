package esdb

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

func testClient(t *testing.T) (c *client, forgotten *bool) {
	t.Helper()
	forgotten = new(bool)
	c, err := newClient(official.Configuration{}, slog.New(slog.DiscardHandler), func(*client) { *forgotten = true })
	if err != nil {
		t.Fatal(err)
	}
	return c, forgotten
}

func TestACallThatNeverReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, forgotten := testClient(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		release := make(chan struct{})
		began := time.Now()
		_, err := call(ctx, c, func(context.Context) (int, error) {
			<-release
			return 0, nil
		})
		if !errors.Is(err, errStuck) || !*forgotten || time.Since(began) != time.Minute+grace {
			t.Errorf("error %v after %v, want errStuck after %v; the client was forgotten: %v", err, time.Since(began), time.Minute+grace, *forgotten)
		}
		close(release)
	})
}

func TestAClientThatWasGivenUpIsClosedByItsLastUser(t *testing.T) {
	c, forgotten := testClient(t)
	c.hold()
	c.retire()
	c.retire() // once more changes nothing
	if _, err := call(t.Context(), c, func(context.Context) (int, error) { return 0, nil }); !errors.Is(err, errRetired) || !*forgotten {
		t.Errorf("error %v, want errRetired; the client was forgotten: %v", err, *forgotten)
	}
	if n := c.users.Load(); n != 1 {
		t.Errorf("%d users are left, want 1", n)
	}
	c.release()
	if _, err := c.official.GetServerVersion(); err == nil {
		t.Error("it is open")
	}
}

func TestSilence(t *testing.T) {
	for name, c := range map[string]struct {
		first message
		want  error
		after time.Duration
	}{
		"while there is something to send": {message{checkpoint: 1}, errSilent, silence},
		"when everything has come":         {message{caughtUp: true}, errQuiet, quiet},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, _ := testClient(t)
				defer client.release()
				began, n := time.Now(), 0
				err := client.drain(t.Context(), func(ctx context.Context, _ *official.Client) (source, error) {
					return func() (message, error) {
						if n++; n == 1 {
							return c.first, nil
						}
						<-ctx.Done()
						return message{}, ctx.Err()
					}, nil
				}, func(message) error {
					time.Sleep(time.Hour) // the receiver may take its time
					return nil
				})
				if !errors.Is(err, c.want) || time.Since(began) != time.Hour+c.after {
					t.Errorf("error %v after %v, want %v after %v", err, time.Since(began), c.want, time.Hour+c.after)
				}
			})
		})
	}
}
