package importer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A record is one entry of a file: a line, or several where a quoted field goes over line ends.
type record struct {
	origin
	fields []string // nil where fault says why
	fault  string   // code of what is wrong with it
}

const (
	maxRecord      = 1 << 20 // bytes of a record
	maxRecordLines = 200     // lines that a quoted field may go over
)

// An origin is where something stands in the file.
type origin struct {
	number int64  // of its first line, from 1
	text   string // as it stands there
}

// A recordReader splits a file into records and never holds more than one of bounded size.
type recordReader struct {
	lines   *bufio.Reader
	comma   byte // 0: records are whole lines
	number  int64
	waiting []physicalLine // to be read again, after a quote that never ended
	split   splitter
}

// A physicalLine is a line without its end. One that is too long is cut off.
type physicalLine struct {
	text string
	cut  bool
}

func newRecordReader(r io.Reader, comma byte) *recordReader {
	lines := bufio.NewReaderSize(r, 64<<10)
	if mark, err := lines.Peek(3); err == nil && bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = lines.Discard(3)
	}
	return &recordReader{lines: lines, comma: comma, split: splitter{comma: comma}}
}

// line returns the next line, or io.EOF.
func (r *recordReader) line() (physicalLine, error) {
	r.number++
	if len(r.waiting) > 0 {
		l := r.waiting[0]
		r.waiting = r.waiting[1:]
		return l, nil
	}
	part, err := r.lines.ReadSlice('\n')
	if err == nil {
		return physicalLine{text: string(trimEnd(part))}, nil
	}
	var long []byte
	cut := false
	for {
		if room := maxRecord - len(long); len(part) > room {
			part, cut = part[:room], true
		}
		long = append(long, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			part, err = r.lines.ReadSlice('\n')
		case err == nil, errors.Is(err, io.EOF) && len(long) > 0:
			return physicalLine{string(trimEnd(long)), cut}, nil
		case errors.Is(err, io.EOF):
			return physicalLine{}, io.EOF
		default:
			return physicalLine{}, fmt.Errorf("reading line %d: %w", r.number, err)
		}
	}
}

func trimEnd(line []byte) []byte { return bytes.TrimRight(line, "\r\n") }

// next returns the next record that is not blank, or io.EOF.
func (r *recordReader) next() (record, error) {
	for {
		line, err := r.line()
		if err != nil {
			return record{}, err
		}
		if strings.TrimSpace(line.text) == "" && !line.cut {
			continue
		}
		rec := record{origin: origin{r.number, line.text}}
		switch {
		case line.cut:
			rec.fault = "line_too_long"
		case !utf8.ValidString(line.text):
			rec.fault = "invalid_utf8"
		case r.comma == 0:
		case strings.IndexByte(line.text, '"') < 0:
			rec.fields = splitPlain(line.text, r.comma)
		default:
			err = r.quoted(&rec)
		}
		return rec, err
	}
}

// splitPlain cuts a line without quotes into its fields.
func splitPlain(line string, comma byte) []string {
	fields := make([]string, 0, strings.Count(line, string(comma))+1)
	for {
		i := strings.IndexByte(line, comma)
		if i < 0 {
			return append(fields, line)
		}
		fields = append(fields, line[:i])
		line = line[i+1:]
	}
}

// quoted completes a record whose first line has quotes. A quote that does not end soon, or that something follows in
// a later line, spoils only the line in which it began: the others are read again.
func (r *recordReader) quoted(rec *record) error {
	first := rec.text
	var more []physicalLine
	size := len(first)
	state := r.split.first(first)
	for state == unended {
		line, err := r.line()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err == nil {
			more = append(more, line)
			size += 1 + len(line.text)
		}
		if err != nil || line.cut || size > maxRecord || len(more) == maxRecordLines || !utf8.ValidString(line.text) {
			break
		}
		state = r.split.next(line.text)
	}
	switch {
	case state == malformed && len(more) == 0:
		rec.fault = "malformed_csv"
	case state != complete:
		rec.fault = "unterminated_quote"
		r.waiting = append(more, r.waiting...)
		r.number = rec.number
	default:
		rec.fields = r.split.fields
		rec.text = joined(first, more, size)
	}
	return nil
}

func joined(first string, more []physicalLine, size int) string {
	if len(more) == 0 {
		return first
	}
	var b strings.Builder
	b.Grow(size)
	b.WriteString(first)
	for _, line := range more {
		b.WriteByte('\n')
		b.WriteString(line.text)
	}
	return b.String()
}

// A splitter cuts records with quotes into fields, as RFC 4180 has it. A quote within a field that does not begin with
// one stands for itself.
type splitter struct {
	comma  byte
	fields []string
	quoted []byte // the quoted field that is being read
	open   bool   // its end has not come yet
}

// A splitState is what a splitter knows after a line.
type splitState int

const (
	complete  splitState = iota
	unended              // a quoted field goes on in the next line
	malformed            // something follows a closing quote
)

// first takes the first line of a record.
func (s *splitter) first(line string) splitState {
	s.fields, s.quoted, s.open = nil, s.quoted[:0], false
	return s.take(line)
}

// next takes a further line of a record that is not complete.
func (s *splitter) next(line string) splitState {
	s.quoted = append(s.quoted, '\n')
	return s.take(line)
}

func (s *splitter) take(rest string) splitState {
	for {
		if !s.open && !strings.HasPrefix(rest, `"`) {
			i := strings.IndexByte(rest, s.comma)
			if i < 0 {
				s.fields = append(s.fields, rest)
				return complete
			}
			s.fields = append(s.fields, rest[:i])
			rest = rest[i+1:]
			continue
		}
		if !s.open {
			s.open, rest = true, rest[1:]
		}
		for s.open {
			i := strings.IndexByte(rest, '"')
			if i < 0 {
				s.quoted = append(s.quoted, rest...)
				return unended
			}
			s.quoted = append(s.quoted, rest[:i]...)
			rest = rest[i+1:]
			if strings.HasPrefix(rest, `"`) {
				s.quoted, rest = append(s.quoted, '"'), rest[1:]
			} else {
				s.open = false
			}
		}
		s.fields, s.quoted = append(s.fields, string(s.quoted)), s.quoted[:0]
		switch {
		case rest == "":
			return complete
		case rest[0] != s.comma:
			return malformed
		}
		rest = rest[1:]
	}
}
