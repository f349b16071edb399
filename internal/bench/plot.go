package bench

import (
	"fmt"
	"html"
	"io"
	"strings"
)

// Sizes of a plot, in pixels.
const (
	plotWidth  = 900
	plotLabels = 330 // where bars begin
	plotAim    = 330 // length of a bar that has reached its aim and no more
	plotRow    = 22
)

// WritePlot writes a bar for each figure that has an aim, as SVG: how much of it was reached. A line marks the aim.
func (r Report) WritePlot(w io.Writer) error {
	var b strings.Builder
	y := 60
	for _, s := range r.Sections {
		for _, f := range s.Figures {
			share, ok := f.Achieved()
			if !ok {
				continue
			}
			colour := "#2f7d4f"
			if share < 1 {
				colour = "#b4552d"
			}
			length := min(share, 1.4) * plotAim
			text := number(f.Value.Median, f.Unit)
			if f.Limit != nil {
				text = number(f.Ratio(), "") + " × limit"
			}
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", plotLabels-8, y+13, html.EscapeString(s.Name+": "+f.Name))
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="16" fill="%s"/>`+"\n", plotLabels, y, length, colour)
			fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`+"\n", plotLabels+length+6, y+13, html.EscapeString(text))
			y += plotRow
		}
	}
	m := r.Machine
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="#fff"/>
<text x="8" y="20" font-size="15">How much of its aim each figure has reached</text>
<text x="8" y="38" fill="#666">%s</text>
%s<line x1="%d" x2="%d" y1="48" y2="%d" stroke="#222" stroke-dasharray="3 3"/>
<text x="%d" y="46" text-anchor="middle">aim</text>
</svg>
`, plotWidth, y+12, html.EscapeString(fmt.Sprintf("%s, %d cores, %s, %s", m.CPU, m.Cores, m.FileSystem, m.Go)),
		b.String(), plotLabels+plotAim, plotLabels+plotAim, y, plotLabels+plotAim)
	return err
}
