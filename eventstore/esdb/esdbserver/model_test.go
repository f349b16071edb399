package esdbserver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// A modelStream is a stream as EventStoreDB documents it.
type modelStream struct {
	ids       []uuid.UUID // by revision
	before    int         // the first revision that is shown, $tb
	maxCount  int
	metadata  int // how often metadata were written
	deleted   bool
	tombstone bool
}

func (m *modelStream) append(expected esdb.ExpectedRevision, ids []uuid.UUID) string {
	if m.tombstone {
		return "deleted"
	}
	last := len(m.ids) - 1
	at := last
	switch e := expected.(type) {
	case esdb.StreamExists:
		if m.deleted {
			return "deleted"
		}
		if last < 0 && m.metadata == 0 {
			return "conflict"
		}
	case esdb.NoStream:
		at = -1
	case esdb.StreamRevision:
		at = int(e.Value)
	}
	if at > last {
		return "conflict"
	}
	if at < last {
		if end := at + 1 + len(ids); end <= len(m.ids) && slices.Equal(m.ids[at+1:end], ids) {
			return "none"
		}
		if at >= 0 || !m.deleted {
			return "conflict"
		}
	}
	if m.deleted {
		m.deleted, m.before = false, len(m.ids)
		m.metadata++
	}
	m.ids = append(m.ids, ids...)
	return "none"
}

func (m *modelStream) remove(expected esdb.ExpectedRevision, forGood bool) string {
	last := len(m.ids) - 1
	ok := true
	switch e := expected.(type) {
	case esdb.Any:
		ok = forGood || last >= 0 || m.metadata > 0
	case esdb.StreamExists:
		if m.deleted || m.tombstone {
			return "deleted"
		}
		ok = last >= 0 || m.metadata > 0
	case esdb.NoStream:
		ok = m.deleted || last < 0 && (forGood || m.metadata > 0)
	case esdb.StreamRevision:
		ok = last == int(e.Value)
	}
	switch {
	case m.tombstone:
		return "deleted"
	case !ok:
		return "unknown" // what the client makes of a conflict here
	case forGood:
		m.tombstone = true
	default:
		m.deleted, m.maxCount = true, 0
		m.metadata++
	}
	return "none"
}

// shows is what a client reads, the oldest first.
func (m *modelStream) shows() string {
	switch {
	case m.tombstone:
		return "error deleted"
	case m.deleted || len(m.ids) == 0:
		return "error not found"
	}
	first := m.before
	if m.maxCount > 0 {
		first = max(first, len(m.ids)-m.maxCount)
	}
	var s []string
	for n := first; n < len(m.ids); n++ {
		s = append(s, fmt.Sprintf("%d:%s", n, m.ids[n]))
	}
	return strings.Join(s, " ")
}

func TestStreamsBehaveLikeTheirModelUnderRandomCommands(t *testing.T) {
	t.Parallel()
	d := open(t)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		streams := make(map[string]*modelStream)
		var pool []uuid.UUID
		pick := func() (string, *modelStream) {
			name := fmt.Sprintf("run%d-%d", run, rapid.IntRange(0, 1).Draw(t, "stream"))
			if streams[name] == nil {
				streams[name] = &modelStream{}
			}
			return name, streams[name]
		}
		expectation := rapid.Custom(func(t *rapid.T) esdb.ExpectedRevision {
			switch n := rapid.IntRange(-3, 5).Draw(t, "expected"); n {
			case -3:
				return esdb.NoStream{}
			case -2:
				return esdb.Any{}
			case -1:
				return esdb.StreamExists{}
			default:
				return esdb.Revision(uint64(n))
			}
		})
		check := func(what, got, want string) {
			if got != want {
				t.Fatalf("%s: %s, want %s", what, got, want)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				name, m := pick()
				expected := expectation.Draw(t, "at")
				var ids []uuid.UUID
				// Repetitions at no revision are known from memory, and are left to a test of their own.
				_, isAny := expected.(esdb.Any)
				_, isExisting := expected.(esdb.StreamExists)
				if len(pool) > 0 && !isAny && !isExisting && rapid.Bool().Draw(t, "again") {
					from := rapid.IntRange(0, len(pool)-1).Draw(t, "from")
					ids = slices.Clone(pool[from:min(from+rapid.IntRange(1, 3).Draw(t, "n"), len(pool))])
				} else {
					for range rapid.IntRange(1, 3).Draw(t, "n") {
						ids = append(ids, uuid.New())
					}
					pool = append(pool, ids...)
				}
				events := make([]esdb.EventData, len(ids))
				for i, id := range ids {
					events[i] = newEvent(id.String())
					events[i].EventID = id
				}
				_, err := d.AppendToStream(d.ctx, name, esdb.AppendToStreamOptions{ExpectedRevision: expected}, events...)
				check(fmt.Sprintf("append to %s at %T %v", name, expected, expected), code(err), m.append(expected, ids))
			},
			"delete": func(t *rapid.T) {
				name, m := pick()
				expected := expectation.Draw(t, "at")
				_, err := d.DeleteStream(d.ctx, name, esdb.DeleteStreamOptions{ExpectedRevision: expected})
				check(fmt.Sprintf("delete %s at %T %v", name, expected, expected), code(err), m.remove(expected, false))
			},
			"tombstone": func(t *rapid.T) {
				name, m := pick()
				if rapid.IntRange(0, 4).Draw(t, "rarely") > 0 {
					t.Skip("tombstones end all fun")
				}
				expected := expectation.Draw(t, "at")
				_, err := d.TombstoneStream(d.ctx, name, esdb.TombstoneStreamOptions{ExpectedRevision: expected})
				check(fmt.Sprintf("tombstone for %s at %T %v", name, expected, expected), code(err), m.remove(expected, true))
			},
			"metadata": func(t *rapid.T) {
				name, m := pick()
				count := rapid.IntRange(1, 4).Draw(t, "count")
				var sm esdb.StreamMetadata
				sm.SetMaxCount(uint64(count))
				_, err := d.SetStreamMetadata(d.ctx, name, esdb.AppendToStreamOptions{}, sm)
				want := "none"
				switch {
				case m.tombstone:
					want = "deleted"
				case m.deleted:
					m.deleted, m.before = false, len(m.ids)
				default:
					m.before = 0
				}
				if want == "none" {
					m.maxCount = count
					m.metadata++
				}
				check("metadata of "+name, code(err), want)
			},
			"": func(t *rapid.T) {
				for name, m := range streams {
					want := m.shows()
					check(name, d.read(name, esdb.ReadStreamOptions{}, 1000), want)
					if !strings.HasPrefix(want, "error") {
						words := strings.Fields(want)
						slices.Reverse(words)
						want = strings.Join(words, " ")
					}
					check(name+" backwards", d.read(name, esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1000), want)
				}
			},
		})
	})
}
