package readapi

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What arrives at the last moment of a long poll is answered: the place has moved behind it.
func TestItemThatComesWhenTheTimeIsUp(t *testing.T) {
	for name, end := range map[string]error{"an item": nil, "the end": context.Canceled, "a failure": errors.New("disk full")} {
		ctx, cancel := context.WithCancel(t.Context())
		f := &feed[string]{
			ready: func(context.Context, int) ([]string, error) { return nil, nil },
			next: func(context.Context) iter.Seq2[string, error] {
				return func(yield func(string, error) bool) {
					if !errors.Is(end, context.Canceled) && end != nil {
						yield("", end)
						return
					}
					cancel()
					yield("late", end)
				}
			},
		}
		got, err := collect(ctx, &api{Config: Config{MaxWait: time.Minute}}, f, 10, span{time.Minute})
		var want []string
		var failed error
		switch {
		case end == nil:
			want = []string{"late"}
		case !errors.Is(end, context.Canceled):
			failed = end
		}
		if !slices.Equal(got, want) || !errors.Is(err, failed) {
			t.Errorf("%s: got %q, %v; want %q, %v", name, got, err, want, failed)
		}
		cancel()
	}
}

// Entries that share an id or line stand in rows of their own.
func TestLeavesOfEntriesThatShareAName(t *testing.T) {
	got := leaves("lots", json.RawMessage(`[{"line":"7","lot":"A"},{"line":"7","lot":"B"}]`))
	want := map[string]string{"lots[0].line": "7", "lots[0].lot": "A", "lots[1].line": "7", "lots[1].lot": "B"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	got = leaves("lines", json.RawMessage(`[{"id":"2","sku":"A"},{"id":"3","sku":"B"}]`))
	want = map[string]string{"lines[2].id": "2", "lines[2].sku": "A", "lines[3].id": "3", "lines[3].sku": "B"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
