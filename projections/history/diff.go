package history

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/orderledger/orderledger/domain"
)

// A Change is a place in an order that differs between two states.
type Change struct {
	Path   string          // such as lines[2].quantity, where 2 is the line's id
	Before json.RawMessage // nil: it was not there
	After  json.RawMessage // nil: it is no longer there
}

// Diff returns what differs between two states of an order, sorted by path. What was added or removed as a whole is one
// change. Numbers are written as in events: quantities and amounts as strings.
func Diff(before, after domain.Order) ([]Change, error) {
	b, err := parse(before)
	if err != nil {
		return nil, err
	}
	a, err := parse(after)
	if err != nil {
		return nil, err
	}
	return compare(b, a), nil
}

// A tree is an order's canonical JSON: objects, lists, strings, numbers and booleans.
type tree map[string]any

// parse returns the tree of an order. That of an order that does not exist is empty.
func parse(o domain.Order) (tree, error) {
	if !o.Exists() {
		return tree{}, nil
	}
	data, err := domain.EncodeOrder(o)
	if err != nil {
		return nil, err
	}
	var t tree
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&t); err != nil {
		return nil, fmt.Errorf("reading order %s: %w", o.ID, err)
	}
	delete(t, "events") // every event changes it
	return t, nil
}

func compare(before, after tree) []Change {
	var d differ
	d.objects("", before, after)
	return d.changes
}

type differ struct{ changes []Change }

func (d *differ) objects(path string, before, after map[string]any) {
	if path != "" {
		path += "."
	}
	for _, name := range names(before, after) {
		b, was := before[name]
		a, is := after[name]
		d.values(path+name, b, was, a, is)
	}
}

func (d *differ) values(path string, before any, was bool, after any, is bool) {
	if was && is {
		switch b := before.(type) {
		case map[string]any:
			if a, ok := after.(map[string]any); ok {
				d.objects(path, b, a)
				return
			}
		case []any:
			if a, ok := after.([]any); ok {
				d.lists(path, b, a)
				return
			}
		default:
			if before == after {
				return
			}
		}
	}
	c := Change{Path: path}
	if was {
		c.Before = raw(before)
	}
	if is {
		c.After = raw(after)
	}
	d.changes = append(d.changes, c)
}

// lists compares entries that have the same name, wherever they stand.
func (d *differ) lists(path string, before, after []any) {
	b, a := named(before), named(after)
	if b == nil || a == nil {
		b, a = numbered(before), numbered(after)
	}
	for _, name := range names(b, a) {
		was, is := b[name], a[name]
		d.values(path+"["+name+"]", was, was != nil, is, is != nil)
	}
}

// named returns entries by what names them in their list, or nil where something has no name or two share one.
func named(list []any) map[string]any {
	byName := make(map[string]any, len(list))
	for _, e := range list {
		name := nameOf(e)
		if _, twice := byName[name]; twice || name == "" {
			return nil
		}
		byName[name] = e
	}
	return byName
}

// Names returns what the paths of changes call the entries of a list: each by its id or line where those tell all of
// them apart, else by where it stands, from 0. Entries are what [json.Unmarshal] makes of them.
func Names(list []any) []string {
	apart := named(list) != nil
	names := make([]string, len(list))
	for i, e := range list {
		if apart {
			names[i] = nameOf(e)
		} else {
			names[i] = strconv.Itoa(i)
		}
	}
	return names
}

func nameOf(entry any) string {
	o, ok := entry.(map[string]any)
	if !ok {
		return ""
	}
	for _, member := range []string{"id", "line"} {
		if name, ok := o[member].(string); ok {
			return name
		}
	}
	return ""
}

func numbered(list []any) map[string]any {
	byNumber := make(map[string]any, len(list))
	for i, e := range list {
		byNumber[strconv.Itoa(i)] = e
	}
	return byNumber
}

// names returns the keys of two maps, sorted: numbers by value, and before words.
func names(a, b map[string]any) []string {
	all := slices.Collect(maps.Keys(a))
	for name := range b {
		if _, both := a[name]; !both {
			all = append(all, name)
		}
	}
	slices.SortFunc(all, func(x, y string) int {
		return cmp.Or(cmp.Compare(numberOf(x), numberOf(y)), cmp.Compare(x, y))
	})
	return all
}

func numberOf(name string) uint64 {
	n, err := strconv.ParseUint(name, 10, 64)
	if err != nil {
		return ^uint64(0)
	}
	return n
}

// raw writes a value back. What JSON was made into can always be written.
func raw(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil
	}
	return bytes.TrimSpace(b.Bytes())
}
