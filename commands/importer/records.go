package importer

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A record is one entry of a file: a line, or several where a quoted field goes over line ends.
type record struct {
	number int64    // of its first line, from 1
	text   string   // as it stands in the file
	fields []string // nil where fault says why
	fault  string   // code of what is wrong with it
}

const (
	maxRecord      = 1 << 20 // bytes of a record
	maxRecordLines = 200     // lines that a quoted field may go over
)

// A recordReader splits a file into records and never holds more than one of bounded size.
type recordReader struct {
	lines   *bufio.Reader
	comma   byte // 0: records are whole lines
	number  int64
	waiting []string // lines to read again, after a quote that never ended
}

func newRecordReader(r io.Reader, comma byte) *recordReader {
	lines := bufio.NewReaderSize(r, 64<<10)
	if mark, err := lines.Peek(3); err == nil && bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = lines.Discard(3)
	}
	return &recordReader{lines: lines, comma: comma}
}

// line returns the next line without its end, or io.EOF. A line that is too long comes cut off, with cut true.
func (r *recordReader) line() (line string, cut bool, err error) {
	r.number++
	if len(r.waiting) > 0 {
		line = r.waiting[0]
		r.waiting = r.waiting[1:]
		return line, false, nil
	}
	var b []byte
	for {
		part, err := r.lines.ReadSlice('\n')
		if room := maxRecord - len(b); len(part) > room {
			part, cut = part[:room], true
		}
		b = append(b, part...)
		switch {
		case err == nil:
			return strings.TrimRight(string(b), "\r\n"), cut, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(b) > 0:
			return strings.TrimRight(string(b), "\r\n"), cut, nil
		default:
			return "", false, err
		}
	}
}

// next returns the next record that is not empty, or io.EOF.
func (r *recordReader) next() (record, error) {
	for {
		line, cut, err := r.line()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return record{}, io.EOF
			}
			return record{}, fmt.Errorf("reading line %d: %w", r.number, err)
		}
		rec := record{number: r.number, text: line}
		switch {
		case strings.TrimSpace(line) == "":
			continue
		case cut:
			rec.fault = "line_too_long"
		case !utf8.ValidString(line):
			rec.fault = "invalid_utf8"
		case r.comma == 0:
			rec.fields = []string{line}
		case strings.IndexByte(line, '"') < 0:
			rec.fields = strings.Split(line, string(r.comma))
		default:
			return r.quoted(rec)
		}
		return rec, nil
	}
}

// quoted completes a record whose first line has quotes. A quote that does not end soon belongs to its line alone.
func (r *recordReader) quoted(rec record) (record, error) {
	var more []string
	text := rec.text
	for strings.Count(text, `"`)%2 == 1 {
		line, cut, err := r.line()
		if err != nil || cut || len(text)+len(line) > maxRecord || len(more) == maxRecordLines {
			if err == nil {
				more = append(more, line)
			}
			r.waiting = append(more, r.waiting...)
			r.number = rec.number
			rec.fault = "unterminated_quote"
			if err != nil && !errors.Is(err, io.EOF) {
				return record{}, fmt.Errorf("reading line %d: %w", r.number, err)
			}
			return rec, nil
		}
		more = append(more, line)
		text += "\n" + line
	}
	rec.text = text
	parser := csv.NewReader(strings.NewReader(text))
	parser.Comma = rune(r.comma)
	parser.FieldsPerRecord = -1
	fields, err := parser.Read()
	switch {
	case err != nil:
		rec.fault = "malformed_csv"
	case !utf8.ValidString(text):
		rec.fault = "invalid_utf8"
	default:
		rec.fields = fields
	}
	return rec, nil
}
