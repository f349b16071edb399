package bench_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/internal/bench"
)

var report = bench.Report{
	Machine: bench.Machine{CPU: "Test <1>", Cores: 2, System: "linux/amd64", FileSystem: "ext4 on /dev/sda", Go: "go1.26"},
	Sections: []bench.Section{{
		Name: "append", About: "one event", Limit: "group commit", Checked: "nothing was lost",
		Figures: []bench.Figure{
			{Name: "64 writers", Unit: "events/s", Value: bench.SpreadOf(60_000, 40_000, 50_000), Limit: new(bench.SpreadOf(100_000)), Aim: &bench.Aim{Value: 0.5}},
			{Name: "1 writer", Unit: "events/s", Value: bench.SpreadOf(400), Limit: new(bench.SpreadOf(1000)), Aim: &bench.Aim{Value: 0.5}},
			{Name: "p99", Unit: "ms", Value: bench.SpreadOf(5), Aim: &bench.Aim{Value: 50, AtMost: true}},
			{Name: "start", Unit: "s", Value: bench.SpreadOf(4), Aim: &bench.Aim{Value: 2, AtMost: true}},
			{Name: "memory", Unit: "MB", Value: bench.SpreadOf(123.4)},
		},
	}},
}

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := report.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.Join(strings.Fields(lines[i]), " ")
	}
	want := []string{
		"Test <1>, 2 cores, linux/amd64, ext4 on /dev/sda, go1.26",
		"",
		"append: one event",
		"limit: group commit",
		"median low … high limit low … high ratio aim",
		"64 writers 50,000 events/s 40,000 … 60,000 events/s 100,000 events/s 0.50 ≥ 0.500 reached",
		"1 writer 400 events/s 1000 events/s 0.40 ≥ 0.500 not reached",
		"p99 5.00 ms ≤ 50.0 ms reached",
		"start 4.00 s ≤ 2.00 s not reached",
		"memory 123 MB",
		"checked: nothing was lost",
		"",
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestJSON(t *testing.T) {
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Sections []struct {
			Figures []struct {
				Value   bench.Spread
				Ratio   *float64
				Reached *bool
			}
		}
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	f := got.Sections[0].Figures
	if f[0].Value != (bench.Spread{Median: 50_000, Low: 40_000, High: 60_000}) || *f[0].Ratio != 0.5 || !*f[0].Reached || *f[1].Reached ||
		f[2].Ratio != nil || !*f[2].Reached || *f[3].Reached || f[4].Reached != nil {
		t.Errorf("%s", text)
	}
}

func TestSpread(t *testing.T) {
	if s := bench.SpreadOf(4, 1, 2, 3); s != (bench.Spread{Median: 2.5, Low: 1, High: 4}) {
		t.Errorf("%+v", s)
	}
}

// TestPlot wants every plot to be well-formed, with a bar that stays in the picture for each figure that has an aim.
func TestPlot(t *testing.T) {
	measured := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(1e-3, 1e9))
	rapid.Check(t, func(t *rapid.T) {
		var r bench.Report
		bars := 0
		for range rapid.IntRange(0, 5).Draw(t, "sections") {
			s := bench.Section{Name: rapid.StringMatching(`[ -~é]*`).Draw(t, "section")}
			for range rapid.IntRange(0, 5).Draw(t, "figures") {
				f := bench.Figure{Name: rapid.StringMatching(`[ -~€]*`).Draw(t, "figure"), Unit: "ms", Value: bench.SpreadOf(measured.Draw(t, "value"))}
				if rapid.Bool().Draw(t, "limited") {
					f.Limit = new(bench.SpreadOf(measured.Draw(t, "limit")))
				}
				if rapid.Bool().Draw(t, "aimed") {
					f.Aim = &bench.Aim{Value: 0.5, AtMost: rapid.Bool().Draw(t, "at most")}
					bars++
				}
				s.Figures = append(s.Figures, f)
			}
			r.Sections = append(r.Sections, s)
		}
		var b strings.Builder
		if err := r.WritePlot(&b); err != nil {
			t.Fatal(err)
		}
		rects := 0
		for d := xml.NewDecoder(strings.NewReader(b.String())); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in\n%s", err, &b)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
				rects++
			}
		}
		if rects != bars+1 || strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
			t.Fatalf("%d bars, want %d:\n%s", rects-1, bars, &b)
		}
	})
}

func TestDiskUsage(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o700),
		os.WriteFile(filepath.Join(dir, "a"), make([]byte, 100), 0o600),
		os.WriteFile(filepath.Join(dir, "sub", "b"), make([]byte, 23), 0o600)); err != nil {
		t.Fatal(err)
	}
	if n, err := bench.DiskUsage(dir); err != nil || n != 123 {
		t.Errorf("%d bytes: %v", n, err)
	}
	if _, err := bench.DiskUsage(filepath.Join(dir, "missing")); err == nil {
		t.Error("a directory that is not there has a size")
	}
}
