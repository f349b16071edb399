package importer

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// FuzzRecords holds the reader of records to two things: no line is lost or made up, and what encoding/csv reads is
// read alike.
func FuzzRecords(f *testing.F) {
	for _, seed := range []string{
		"a,b\n1,2\n", "\"a\nb\",c\r\nd", "\"", "\"a\nb\nc", "a\"b,c\n", "\"a\"b\nc,d\n", "\"a\"\"b\",\"\"\n", "\xff\n\"\xff\"\n", "\n\n \n", "\"a,1\n\"b,2\n", strings.Repeat("x", maxRecord+1) + "\n\"a\n", "\"\n" + strings.Repeat("a\n", maxRecordLines+2),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		records := newRecordReader(strings.NewReader(text), ',')
		var parsed [][]string
		var lines []string
		faults, last := 0, int64(0)
		for {
			rec, err := records.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if rec.number <= last || (rec.fault == "") == (rec.fields == nil) {
				t.Fatalf("after line %d: %+v", last, rec)
			}
			if rec.fault != "" {
				faults++
			}
			parsed = append(parsed, rec.fields)
			for i, line := range strings.Split(rec.text, "\n") {
				if len(lines) > 0 && i == 0 && rec.number <= last {
					t.Fatalf("line %d comes after %d", rec.number, last)
				}
				last = rec.number + int64(i)
				lines = append(lines, line)
			}
		}

		var want []string
		for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
			if len(line) > maxRecord {
				line = line[:maxRecord]
			}
			want = append(want, strings.TrimRight(line, "\r\n"))
		}
		blank := func(s string) bool { return strings.TrimSpace(s) == "" }
		if !slices.Equal(slices.DeleteFunc(slices.Clone(lines), blank), slices.DeleteFunc(want, blank)) {
			t.Fatalf("the lines of %q became %q", text, lines)
		}

		standard := csv.NewReader(bytes.NewReader([]byte(strings.TrimPrefix(text, "\ufeff"))))
		standard.FieldsPerRecord = -1
		rows, err := standard.ReadAll()
		rows = slices.DeleteFunc(rows, func(row []string) bool { return len(row) == 1 && blank(row[0]) })
		mine := slices.DeleteFunc(slices.Clone(parsed), func(row []string) bool { return len(row) == 1 && blank(row[0]) })
		if err == nil && faults == 0 && !strings.Contains(text, "\r") && !slices.EqualFunc(mine, rows, slices.Equal) {
			t.Fatalf("%q became %q, and encoding/csv has %q", text, parsed, rows)
		}
	})
}

func BenchmarkRecords(b *testing.B) {
	for name, line := range map[string]string{
		"plain":  "536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850,United Kingdom\n",
		"quoted": "536365,85123A,\"WHITE HANGING HEART, T-LIGHT HOLDER\",6,2010-12-01 08:26:00,2.55,17850,United Kingdom\n",
	} {
		b.Run(name, func(b *testing.B) {
			const lines = 10_000
			text := strings.Repeat(line, lines)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				for r := newRecordReader(strings.NewReader(text), ','); ; {
					if rec, err := r.next(); err != nil {
						break
					} else if len(rec.fields) != 8 {
						b.Fatal(rec)
					}
				}
			}
			b.ReportMetric(float64(lines*b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
