package importer

import "time"

// A moment says where a time comes from.
type moment struct {
	Column  string   `yaml:"column"`
	Layouts []string `yaml:"layouts"` // as in Go's package time; tried in order
	Zone    string   `yaml:"zone"`    // where the clock stood that wrote times without zone

	location *time.Location
}

// read reads a time. Of two moments at which the clock showed the same it takes the first. A time that the clock left
// out is read as if it had not yet been put forward.
func (m *moment) read(value string) (time.Time, bool) {
	for _, layout := range m.Layouts {
		t, err := time.Parse(layout, value)
		if err != nil {
			continue
		}
		if zoned(layout) {
			return t.UTC(), true
		}
		return wallClock(t, m.location), true
	}
	return time.Time{}, false
}

// zoned reports whether times in this layout say how far they are from UTC.
func zoned(layout string) bool {
	day := time.Date(2006, time.January, 2, 15, 4, 5, 0, time.UTC)
	return day.Format(layout) != day.In(time.FixedZone("", 3600)).Add(-time.Hour).Format(layout)
}

// wallClock returns the moment at which a clock in a location shows what a clock in UTC shows at t. It exists because
// [time.Date] leaves open which moment it chooses on the days on which clocks are changed.
func wallClock(t time.Time, location *time.Location) time.Time {
	at := func(neighbour time.Time) time.Time {
		_, offset := neighbour.In(location).Zone()
		return t.Add(-time.Duration(offset) * time.Second)
	}
	before, after := at(t.Add(-24*time.Hour)), at(t.Add(24*time.Hour))
	const clock = "2006-01-02 15:04:05.999999999"
	if after.In(location).Format(clock) == t.Format(clock) && before.In(location).Format(clock) != t.Format(clock) {
		return after
	}
	return before
}
