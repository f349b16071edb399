package readapi

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/orderledger/orderledger/domain"
)

// functions are what templates write values with.
var functions = template.FuncMap{
	"age":     age,
	"bar":     bar,
	"day":     day,
	"label":   func(s domain.Status) string { return sentence(string(s)) },
	"moment":  moment,
	"outcome": func(o domain.Outcome) string { return sentence(string(o)) },
	"phase":   phase,
	"short":   short,
	"words":   words,
}

// words makes words of a code, whatever its type.
func words(code any) string { return sentence(fmt.Sprint(code)) }

// sentence makes words of a code: no_site_left is "No site left".
func sentence(code string) string {
	if code == "" {
		return ""
	}
	text := strings.ReplaceAll(code, "_", " ")
	if 'a' <= text[0] && text[0] <= 'z' {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	return text
}

// short is enough of a hash to recognise it.
func short(hash string) string { return hash[:min(len(hash), 8)] }

// moment writes a time, which the page's script turns into the reader's own.
func moment(t time.Time) template.HTML {
	t = t.UTC()
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339) + `">` + t.Format("2 Jan 2006 15:04") + ` UTC</time>`) //nolint:gosec // digits and names of months
}

// day writes a calendar day, 2026-12-01, as 1 Dec 2026.
func day(s string) string {
	d, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return s
	}
	return d.Format("2 Jan 2006")
}

// age writes how long something has taken, in its largest unit.
func age(seconds float64) string {
	for _, unit := range []struct {
		seconds float64
		name    string
	}{{86400, "d"}, {3600, "h"}, {60, "min"}} {
		if seconds >= unit.seconds {
			return strconv.Itoa(int(seconds/unit.seconds)) + "\u00a0" + unit.name
		}
	}
	return strconv.Itoa(int(max(0, seconds))) + "\u00a0s"
}

// phase says how far a site has come.
func phase(f domain.Fulfilment) string { return sentence(f.Progress()) }

// bar draws how much of a line has been shipped and delivered.
func bar(l OrderLine) template.HTML {
	active := float(l.Active())
	if active <= 0 {
		return ""
	}
	percent := func(d domain.Decimal) int { return int(math.Round(100 * min(1, float(d)/active))) }
	return template.HTML(fmt.Sprintf(`<svg class="bar" role="img" aria-label="%d %% shipped, %d %% delivered" preserveAspectRatio="none" viewBox="0 0 100 4">`+ //nolint:gosec // numbers
		`<rect class="all" width="100" height="4"/><rect class="shipped" width="%[1]d" height="4"/><rect class="delivered" width="%[2]d" height="4"/></svg>`,
		percent(l.Shipped), percent(l.Delivered)))
}

// float serves to draw: no amount or quantity is computed with it.
func float(d domain.Decimal) float64 {
	f, err := strconv.ParseFloat(d.String(), 64)
	if err != nil {
		return 0
	}
	return f
}
