package web_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/internal/web"
)

// code returns the code of an *web.Error, empty for nil.
func code(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *web.Error
	if !errors.As(err, &e) || e.Status != 400 {
		t.Fatalf("got %v, want a web.Error with status 400", err)
	}
	return e.Code
}

func TestETag(t *testing.T) {
	if got := (web.Version{Epoch: 2, Revision: 17}).ETag(); got != `"2-17"` {
		t.Errorf("ETag %s", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		v := web.Version{Epoch: rapid.Uint64().Draw(t, "epoch"), Revision: rapid.Uint64().Draw(t, "revision")}
		c, err := web.ParseIfMatch(v.ETag())
		if err != nil || !c.Present || !c.Matches(v) {
			t.Fatalf("%+v, %v", c, err)
		}
		if c.Matches(web.Version{Epoch: v.Epoch, Revision: v.Revision + 1}) || c.Matches(web.Version{Epoch: v.Epoch + 1, Revision: v.Revision}) {
			t.Fatalf("%+v matches another version", c)
		}
	})
}

func TestConditions(t *testing.T) {
	one, two := web.Version{Revision: 1}, web.Version{Epoch: 1, Revision: 2}
	tests := []struct {
		header string
		want   web.Condition // of If-Match
		weak   []web.Version // of If-None-Match, where it differs
		code   string
	}{
		{header: ``, want: web.Condition{}},
		{header: ` `, want: web.Condition{}},
		{header: `*`, want: web.Condition{Present: true, Any: true}},
		{header: `"0-1"`, want: web.Condition{Present: true, Versions: []web.Version{one}}},
		{header: ` "0-1" ,"1-2"`, want: web.Condition{Present: true, Versions: []web.Version{one, two}}},
		{header: `"0-1",,"1-2",`, want: web.Condition{Present: true, Versions: []web.Version{one, two}}},
		{header: `"0-1", W/"1-2"`, want: web.Condition{Present: true, Versions: []web.Version{one}}, weak: []web.Version{one, two}},
		{header: `W/"0-1"`, want: web.Condition{Present: true}, weak: []web.Version{one}},
		{header: `"somebody else's, with a comma", "0-1"`, want: web.Condition{Present: true, Versions: []web.Version{one}}},
		{header: `"00-1"`, want: web.Condition{Present: true}},
		{header: `"0-1-2"`, want: web.Condition{Present: true}},
		{header: `"0"`, want: web.Condition{Present: true}},
		{header: `"-1"`, want: web.Condition{Present: true}},
		{header: `"0-18446744073709551616"`, want: web.Condition{Present: true}},
		{header: `""`, want: web.Condition{Present: true}},
		{header: `0-1`, code: "invalid_etag"},
		{header: `"0-1`, code: "invalid_etag"},
		{header: `"0-1" "1-2"`, code: "invalid_etag"},
		{header: `*, "0-1"`, code: "invalid_etag"},
		{header: `w/"0-1"`, code: "invalid_etag"},
		{header: `W/`, code: "invalid_etag"},
	}
	for _, tt := range tests {
		got, err := web.ParseIfMatch(tt.header)
		if diff := cmp.Diff(tt.want, got); diff != "" || code(t, err) != tt.code {
			t.Errorf("If-Match: %s: %v %s", tt.header, err, diff)
		}
		if tt.weak != nil {
			tt.want.Versions = tt.weak
		}
		got, err = web.ParseIfNoneMatch(tt.header)
		if diff := cmp.Diff(tt.want, got); diff != "" || code(t, err) != tt.code {
			t.Errorf("If-None-Match: %s: %v %s", tt.header, err, diff)
		}
	}
	if c, _ := web.ParseIfMatch("*"); !c.Matches(two) {
		t.Error("* does not match")
	}
	if c, _ := web.ParseIfMatch(`"x"`); c.Matches(web.Version{}) {
		t.Error("a foreign tag matches")
	}
}

func TestIdempotencyKey(t *testing.T) {
	long := strings.Repeat("k", web.MaxIdempotencyKey)
	tests := []struct{ header, key, code string }{
		{header: `8e03978e-40d5-43dd-bc93-6894a57f9324`, key: `8e03978e-40d5-43dd-bc93-6894a57f9324`},
		{header: `"8e03978e-40d5-43dd-bc93-6894a57f9324"`, key: `8e03978e-40d5-43dd-bc93-6894a57f9324`},
		{header: ` k `, key: `k`},
		{header: `a"b\c`, key: `a"b\c`},
		{header: `"a\"b\\c"`, key: `a"b\c`},
		{header: long, key: long},
		{header: `"` + long + `"`, key: long},
		{header: ``, code: "missing_idempotency_key"},
		{header: ` `, code: "missing_idempotency_key"},
		{header: `""`, code: "invalid_idempotency_key"},
		{header: long + "k", code: "invalid_idempotency_key"},
		{header: `"` + long + `k"`, code: "invalid_idempotency_key"},
		{header: `a b`, code: "invalid_idempotency_key"},
		{header: `"a b"`, code: "invalid_idempotency_key"},
		{header: "a\x7f", code: "invalid_idempotency_key"},
		{header: "ä", code: "invalid_idempotency_key"},
		{header: `"a`, code: "invalid_idempotency_key"},
		{header: `"a"b`, code: "invalid_idempotency_key"},
		{header: `"a"; x=1`, code: "invalid_idempotency_key"},
		{header: `"a\b"`, code: "invalid_idempotency_key"},
		{header: `"a\`, code: "invalid_idempotency_key"},
		{header: `"`, code: "invalid_idempotency_key"},
	}
	for _, tt := range tests {
		key, err := web.ParseIdempotencyKey(tt.header)
		if key != tt.key || code(t, err) != tt.code {
			t.Errorf("%.40s: got %q, %v; want %q, %s", tt.header, key, err, tt.key, tt.code)
		}
	}
}

func TestCursors(t *testing.T) {
	type place struct {
		At string
		ID int
	}
	key := []byte("0123456789abcdef")
	c := web.NewCursors(key)
	want := place{At: "2026-11-22T10:00:00Z", ID: 7}
	cursor := c.Seal("orders?status=shipped", want)
	if strings.ContainsAny(cursor, "+/=&?#") {
		t.Errorf("%s does not fit into a query", cursor)
	}
	var got place
	if err := web.NewCursors(key).Open("orders?status=shipped", cursor, &got); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}

	// Each character counts.
	for i := range cursor {
		for _, change := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
			forged := cursor[:i] + string(change) + cursor[i+1:]
			if forged == cursor {
				continue
			}
			if got := code(t, c.Open("orders?status=shipped", forged, &got)); got != "invalid_cursor" {
				t.Fatalf("character %d changed: %q", i, got)
			}
		}
	}
	other := web.NewCursors([]byte("another key of 16 bytes"))
	for name, err := range map[string]error{
		"another list": c.Open("orders?status=delayed", cursor, &got),
		"a split list": c.Open("orders?status=shipped"+"{", cursor, &got),
		"another key":  other.Open("orders?status=shipped", cursor, &got),
		"cut":          c.Open("orders?status=shipped", cursor[:len(cursor)-4], &got),
		"longer":       c.Open("orders?status=shipped", cursor+"AAAA", &got),
		"padded":       c.Open("orders?status=shipped", cursor+"=", &got),
		"empty":        c.Open("orders?status=shipped", "", &got),
		"huge":         c.Open("orders?status=shipped", strings.Repeat("A", 1<<20), &got),
		"another type": c.Open("x", c.Seal("x", "text"), &got),
	} {
		if got := code(t, err); got != "invalid_cursor" {
			t.Errorf("%s: %q", name, got)
		}
	}
	if web.New(web.Config{}).Cursors.Open("x", c.Seal("x", want), &got) == nil {
		t.Error("a random key is not random")
	}
	defer func() {
		if recover() == nil {
			t.Error("a value without JSON is sealed")
		}
	}()
	c.Seal("x", func() {})
}
