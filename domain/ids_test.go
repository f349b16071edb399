package domain_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
)

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

func someOrder() *rapid.Generator[uuid.UUID] {
	return rapid.Custom(func(t *rapid.T) uuid.UUID {
		return domain.OrderID("main", "tester", rapid.String().Draw(t, "key"))
	})
}

// These values are stored in ledgers and printed on paper: they never change.
func TestIDsAreFixed(t *testing.T) {
	order := domain.OrderID("main", "local", "key-1")
	command := domain.CommandID(order, "local", "key-2")
	event := domain.EventID(command, uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), 1)
	for got, want := range map[string]string{
		order.String():       "1dbb9db6-b32c-59f0-a219-219d29d919b6",
		command.String():     "510212d3-015b-5831-95c4-7f7b1b2b8fa5",
		event.String():       "dfb8660d-8730-52c3-a827-d75d0d41a3e4",
		domain.Number(order): "3PXS-VDNK-5GGS-6",
	} {
		if got != want {
			t.Errorf("%s has become %s", want, got)
		}
	}
	if v := event.Version(); v != 5 {
		t.Errorf("version %d", v)
	}
}

// No two lists of parts name the same thing, however they are cut.
func TestIDsAreDistinct(t *testing.T) {
	ids := map[uuid.UUID]string{}
	for _, parts := range [][3]string{
		{"a", "b", "c"}, {"ab", "", "c"}, {"a", "bc", ""}, {"", "a", "bc"}, {"abc", "", ""}, {"", "", ""}, {"b", "a", "c"},
	} {
		id := domain.OrderID(parts[0], parts[1], parts[2])
		if other, ok := ids[id]; ok {
			t.Errorf("%q and %s", parts, other)
		}
		ids[id] = strings.Join(parts[:], "|")
	}
	ledger, command := uuid.UUID{1}, uuid.UUID{2}
	if domain.EventID(command, ledger, 1) == domain.EventID(command, ledger, 2) || domain.EventID(command, ledger, 1) == domain.EventID(ledger, command, 1) {
		t.Error("two events have one id")
	}
}

func TestStreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := someOrder().Draw(t, "order")
		if back, ok := domain.StreamOrder(domain.Stream(id)); !ok || back != id {
			t.Fatalf("%v, %v", back, ok)
		}
	})
	id := "59e06cf8-f390-5093-af2e-3685be593a25"
	for _, stream := range []string{"", "order-", "order", id, "orders-" + id, "order-" + strings.ToUpper(id), "order-{" + id + "}", "order-" + id + " ", "command-" + id} {
		if id, ok := domain.StreamOrder(stream); ok {
			t.Errorf("%q is the stream of %v", stream, id)
		}
	}
}

// The check character tells any wrong character, and any two neighbours that changed places but for 0 and Z.
func TestNumberDetectsErrors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		written := domain.Number(someOrder().Draw(t, "order"))
		if back, ok := domain.ParseNumber(written); !ok || back != written || len(written) != 16 {
			t.Fatalf("%s is read as %s, %v", written, back, ok)
		}
		plain := strings.ReplaceAll(written, "-", "")
		for i := range plain {
			for _, c := range crockford {
				wrong := plain[:i] + string(c) + plain[i+1:]
				if _, ok := domain.ParseNumber(wrong); ok != (wrong == plain) {
					t.Fatalf("%s passes for %s", wrong, plain)
				}
			}
			if i == 0 {
				continue
			}
			swapped := plain[:i-1] + plain[i:i+1] + plain[i-1:i] + plain[i+1:]
			blind := plain[i-1:i+1] == "0Z" || plain[i-1:i+1] == "Z0"
			if _, ok := domain.ParseNumber(swapped); ok != (swapped == plain || blind) {
				t.Fatalf("%s for %s: %v", swapped, plain, ok)
			}
		}
	})
}

func TestParseNumberRepairs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := domain.Number(someOrder().Draw(t, "order"))
		typed := want
		switch rapid.IntRange(0, 4).Draw(t, "way") {
		case 0:
			typed = strings.ToLower(typed)
		case 1:
			typed = strings.ReplaceAll(typed, "-", rapid.SampledFrom([]string{"", " ", " - ", "‑", "–"}).Draw(t, "hyphen"))
		case 2:
			typed = strings.NewReplacer("0", "O", "1", "I").Replace(typed)
		case 3:
			typed = strings.NewReplacer("0", "o", "1", "l").Replace(strings.ToLower(typed))
		case 4:
			typed = " " + strings.ReplaceAll(typed, "-", "") + " "
		}
		if got, ok := domain.ParseNumber(typed); !ok || got != want {
			t.Fatalf("%q is read as %q, %v", typed, got, ok)
		}
	})
	for _, typed := range []string{"", "-", "0", "K7Q2-9FTM-3XWA", strings.Repeat("0", 14), strings.Repeat("-", 27), "U000-0000-0000-0", "0000_0000_0000_0", "000000000000\x80", "00000000000é"} {
		if got, ok := domain.ParseNumber(typed); ok {
			t.Errorf("%q is read as %q", typed, got)
		}
	}
}

func FuzzParseNumber(f *testing.F) {
	f.Add("0000-0000-0000-0")
	f.Add("k7q29ftm3xwap")
	f.Fuzz(func(t *testing.T, s string) {
		number, ok := domain.ParseNumber(s)
		if !ok {
			if number != "" {
				t.Fatalf("%q gives %q", s, number)
			}
			return
		}
		if again, ok := domain.ParseNumber(number); !ok || again != number {
			t.Fatalf("%q is read as %q, which is read as %q", s, number, again)
		}
	})
}
