package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A Report is everything that was measured. Its JSON is what scripts read.
type Report struct {
	Machine  Machine   `json:"machine"`
	Sections []Section `json:"sections"`
}

// A Machine is what was measured on.
type Machine struct {
	CPU        string `json:"cpu,omitempty"`
	Cores      int    `json:"cores"`
	System     string `json:"system"`
	FileSystem string `json:"file_system,omitempty"`
	Go         string `json:"go"`
}

// ThisMachine describes the machine that the process runs on and the file system of a directory.
func ThisMachine(dir string) Machine {
	return Machine{
		CPU: cpuModel(), Cores: runtime.GOMAXPROCS(0), System: runtime.GOOS + "/" + runtime.GOARCH,
		FileSystem: fileSystem(dir), Go: runtime.Version(),
	}
}

// A Section is what one subject has shown.
type Section struct {
	Name    string   `json:"name"`
	About   string   `json:"about"` // what was done
	Limit   string   `json:"limit,omitempty"`
	Figures []Figure `json:"figures"`
	Checked string   `json:"checked"` // what the check at the end has found to be right
}

// A Figure is one thing that was measured, where possible beside its limit.
type Figure struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value Spread  `json:"value"`
	Limit *Spread `json:"limit,omitempty"`
	Aim   *Aim    `json:"aim,omitempty"`
}

// A Spread is what several rounds have given.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// SpreadOf sums rounds up. There must be one at least.
func SpreadOf(rounds ...float64) Spread {
	sorted := slices.Sorted(slices.Values(rounds))
	n := len(sorted)
	return Spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Low: sorted[0], High: sorted[n-1]}
}

// An Aim is what a figure is to reach: its ratio to the limit or, where it has none, its value.
type Aim struct {
	Value  float64 `json:"value"`
	AtMost bool    `json:"at_most,omitempty"` // else at least
}

// Ratio is the figure in units of its limit, or 0 where it has none.
func (f Figure) Ratio() float64 {
	if f.Limit == nil || f.Limit.Median == 0 {
		return 0
	}
	return f.Value.Median / f.Limit.Median
}

// Achieved tells how much of its aim a figure has reached: 1 is all of it, more is better. ok is false where it has no aim.
func (f Figure) Achieved() (share float64, ok bool) {
	if f.Aim == nil {
		return 0, false
	}
	is := f.Value.Median
	if f.Limit != nil {
		is = f.Ratio()
	}
	if f.Aim.AtMost {
		return f.Aim.Value / max(is, 1e-12), true
	}
	return is / f.Aim.Value, true
}

// MarshalJSON adds ratio and reached.
func (f Figure) MarshalJSON() ([]byte, error) {
	type figure Figure // without this method
	out := struct {
		figure
		Ratio   *float64 `json:"ratio,omitempty"`
		Reached *bool    `json:"reached,omitempty"`
	}{figure: figure(f)}
	if ratio := f.Ratio(); ratio > 0 {
		out.Ratio = &ratio
	}
	if share, ok := f.Achieved(); ok {
		out.Reached = new(share >= 1)
	}
	return json.Marshal(out)
}

// WriteTable writes a report for people.
func (r Report) WriteTable(w io.Writer) error {
	m := r.Machine
	known := slices.DeleteFunc([]string{m.CPU, fmt.Sprintf("%d cores", m.Cores), m.System, m.FileSystem, m.Go}, func(s string) bool { return s == "" })
	fmt.Fprintln(w, strings.Join(known, ", "))
	for _, s := range r.Sections {
		fmt.Fprintf(w, "\n%s: %s\n", s.Name, s.About)
		if s.Limit != "" {
			fmt.Fprintf(w, "limit: %s\n", s.Limit)
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, "\tmedian\tlow … high\tlimit\tlow … high\tratio\taim\t\t")
		for _, f := range s.Figures {
			fmt.Fprintf(t, "%s\t%s\t%s\t", f.Name, number(f.Value.Median, f.Unit), f.Value.rounds(f.Unit))
			if f.Limit != nil {
				fmt.Fprintf(t, "%s\t%s\t%.2f\t", number(f.Limit.Median, f.Unit), f.Limit.rounds(f.Unit), f.Ratio())
			} else {
				fmt.Fprint(t, "\t\t\t")
			}
			fmt.Fprintf(t, "%s\t\n", f.verdict())
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(w, "checked: %s\n", s.Checked)
	}
	return nil
}

func (f Figure) verdict() string {
	share, ok := f.Achieved()
	if !ok {
		return "\t"
	}
	sign, unit := "≥", ""
	if f.Aim.AtMost {
		sign = "≤"
	}
	if f.Limit == nil {
		unit = f.Unit
	}
	reached := "reached"
	if share < 1 {
		reached = "not reached"
	}
	return fmt.Sprintf("%s %s\t%s", sign, number(f.Aim.Value, unit), reached)
}

func (s Spread) rounds(unit string) string {
	if s.Low == s.High {
		return ""
	}
	return number(s.Low, "") + " … " + number(s.High, unit)
}

// number writes three digits at least, and none after the point of a large number.
func number(v float64, unit string) string {
	digits := 0
	for limit := 100.0; digits < 3 && math.Abs(v) < limit && v != 0; limit /= 10 {
		digits++
	}
	text := fmt.Sprintf("%.*f", digits, v)
	if whole, _, _ := strings.Cut(text, "."); len(whole) > 4 {
		for i := len(whole) - 3; i > 0; i -= 3 {
			text = text[:i] + "," + text[i:]
		}
	}
	if unit == "" {
		return text
	}
	return text + " " + unit
}

// Milliseconds is a duration as figures have it.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// DiskUsage is how many bytes the files in a directory have.
func DiskUsage(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if os.IsNotExist(err) {
			return nil // a store tidies up while it is open
		}
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
