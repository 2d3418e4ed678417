package api

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edgeagent/edgeagent"
)

// Bounds of the screen: what does not fit is counted instead.
const (
	maxShownWarnings = 10
	maxShownValues   = 6
	maxShownRules    = 20
)

// RenderStatus prints s for a person, at most width columns wide: health first,
// then one line each for sensors, buffer, uplink and rules, then the details.
func RenderStatus(w io.Writer, s Status, width int) error {
	p := &page{width: max(width, 40), now: s.Time.Time}
	p.health(s)
	p.summary(s)
	p.warnings(s.Health.Warnings)
	p.sensors(s.Sensors)
	p.uplinks(s.Uplinks)
	p.rules(s.Rules)
	p.footer(s)
	_, err := io.WriteString(w, p.text.String())
	return err
}

// page collects lines.
type page struct {
	text  strings.Builder
	width int
	now   time.Time
}

// line prints a sentence; the terminal wraps it, since its end may be a command.
func (p *page) line(format string, args ...any) {
	p.text.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " "))
	p.text.WriteByte('\n')
}

// health prints the verdict: the worst reason in words, and what it means for the
// buffer while an uplink is away.
func (p *page) health(s Status) {
	if len(s.Health.Warnings) == 0 {
		p.line("HEALTH  %v", s.Health.Level)
		return
	}
	worst := s.Health.Warnings[0]
	text := oneLine(worst.Text)
	if since := p.ago(worst.Since); since != "" {
		// "offline for 2m10s", but "dial: connection refused (for 2m10s)".
		if strings.Contains(text, ": ") {
			text += " (for " + since + ")"
		} else {
			text += " for " + since
		}
	}
	if s.Buffer.FillIn > 0 && slices.ContainsFunc(s.Uplinks, func(u Uplink) bool { return u.State != UplinkUp }) {
		text += ", buffering (" + span(s.Buffer.FillIn.Duration()) + " until full)"
	}
	if more := len(s.Health.Warnings) - 1; more > 0 {
		text += " (and " + strconv.Itoa(more) + " more)"
	}
	p.line("HEALTH  %v: %s", s.Health.Level, text)
}

// summary prints sensors, buffer and uplink beside each other where they fit.
func (p *page) summary(s Status) {
	parts := []string{
		"SENSORS " + sensorCounts(s.Sensors),
		"BUFFER  " + bufferWords(s.Buffer),
		"UPLINK  " + uplinkWords(s.Uplinks),
	}
	beside := strings.Join([]string{parts[0], strings.Replace(parts[1], "  ", " ", 1), strings.Replace(parts[2], "  ", " ", 1)}, "    ")
	if utf8.RuneCountInString(beside) <= p.width {
		p.line("%s", beside)
	} else {
		for _, part := range parts {
			p.line("%s", part)
		}
	}
	p.line("RULES   %s", p.ruleWords(s.Rules))
}

func sensorCounts(sensors []Sensor) string {
	if len(sensors) == 0 {
		return "none"
	}
	var counts [3]int
	for _, x := range sensors {
		counts[min(x.Health.Level, edgeagent.Failed)]++
	}
	var words []string
	for level, n := range counts {
		if n > 0 {
			words = append(words, strconv.Itoa(n)+" "+edgeagent.Level(level).String())
		}
	}
	return strings.Join(words, ", ")
}

func bufferWords(b Buffer) string {
	words := []string{count(b.Streams[edgeagent.StreamTelemetry].Records) + " readings"}
	for _, id := range []edgeagent.Stream{edgeagent.StreamAlarm, edgeagent.StreamEvent, edgeagent.StreamRollup} {
		if n := b.Streams[id].Records; n > 0 {
			words = append(words, count(n)+" "+id.String()+"s")
		}
	}
	words = append(words, size(b.Bytes)+" of "+size(b.MaxBytes))
	return strings.Join(words, ", ")
}

func uplinkWords(uplinks []Uplink) string {
	switch len(uplinks) {
	case 0:
		return "none"
	case 1:
		return uplinkState(uplinks[0])
	}
	up := 0
	for _, u := range uplinks {
		if u.State == UplinkUp {
			up++
		}
	}
	return fmt.Sprintf("%d of %d up", up, len(uplinks))
}

func uplinkState(u Uplink) string {
	if u.State == UplinkUp {
		return "up, " + count(u.Backlog) + " to confirm"
	}
	words := u.State
	if u.State == UplinkWaiting { // as it was wanted: what went wrong before does not matter
		if u.RetryIn > 0 {
			words += ", opens in " + span(u.RetryIn.Duration())
		}
		return words + ", " + count(u.Backlog) + " to confirm"
	}
	if u.State == UplinkBackoff {
		words = "retry in " + span(u.RetryIn.Duration())
	}
	if u.LastError != "" {
		words += " (" + clip(oneLine(u.LastError), 80) + ")"
	}
	return words
}

func (p *page) ruleWords(r Rules) string {
	if r.Loaded == 0 {
		return "none"
	}
	words := count(r.Firing) + " firing"
	if r.Firing == 0 {
		words = "none firing"
	}
	firing := r.firing()
	if len(firing) == 0 {
		return words + " of " + count(r.Loaded)
	}
	var names []string
	for _, x := range firing[:min(len(firing), 3)] {
		name := x.name()
		if !x.Since.IsZero() {
			name += " since " + p.clock(x.Since)
		}
		names = append(names, name)
	}
	if more := len(firing) - len(names); more > 0 {
		names = append(names, "and "+strconv.Itoa(more)+" more")
	}
	return words + ": " + strings.Join(names, ", ")
}

func (r Rules) firing() []Rule {
	return slices.DeleteFunc(slices.Clone(r.Instances), func(x Rule) bool { return !x.raised() })
}

func (r Rule) name() string {
	if r.Instance == "" {
		return r.ID
	}
	return r.ID + "/" + r.Instance
}

func (p *page) warnings(list []Warning) {
	if len(list) == 0 {
		return
	}
	p.line("")
	for _, w := range list[:min(len(list), maxShownWarnings)] {
		p.line("%v: %s: %s", w.Level, oneLine(w.Part), oneLine(w.Text))
		if w.Hint != "" {
			p.line("  hint: %s", oneLine(w.Hint))
		}
	}
	if more := len(list) - maxShownWarnings; more > 0 {
		p.line("and %d more, see \"edgeagent status --json\"", more)
	}
}

func (p *page) sensors(sensors []Sensor) {
	if len(sensors) == 0 {
		return
	}
	rows := [][]string{{"SENSOR", "DRIVER", "HEALTH", "READINGS", "LATEST"}}
	for _, x := range sensors {
		rows = append(rows, []string{x.Name, x.Driver, x.Health.Level.String(), count(x.Readings), latest(x)})
	}
	p.table(rows, 3)
}

// latest prints the newest values of a sensor, those of one moment without a time
// of their own.
func latest(x Sensor) string {
	values := x.Values
	switch {
	case len(values) == 0 && x.Readings == 0:
		return "no reading yet"
	case len(values) == 0:
		return "no value now"
	}
	var words []string
	for _, v := range values[:min(len(values), maxShownValues)] {
		words = append(words, v.words())
	}
	if more := len(values) - len(words); more > 0 {
		words = append(words, "and "+strconv.Itoa(more)+" more")
	}
	newest := values[0].Age
	for _, v := range values {
		newest = min(newest, v.Age)
	}
	if newest >= 10 {
		return span(newest.Duration()) + " ago: " + strings.Join(words, ", ")
	}
	return strings.Join(words, ", ")
}

// words prints "temperature 21.5 Cel".
func (v Value) words() string {
	text := v.Metric + " " + v.number()
	if v.Quality != edgeagent.Good.String() && v.Quality != "" {
		text += " (" + v.Quality + ")"
	}
	return oneLine(text)
}

func (v Value) number() string {
	f := float64(v.Value)
	switch {
	case v.Label != "":
		return v.Label
	case math.IsNaN(f) || math.IsInf(f, 0):
		return "no number"
	case v.Unit == "By" && f >= 0 && f < 1<<62:
		return size(int64(f))
	case v.Unit == "" || v.Unit == "1": // UCUM's word for no unit
		return digits(f)
	default:
		return digits(f) + " " + v.Unit
	}
}

// digits prints six significant digits, whole numbers in full.
func digits(f float64) string {
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	if a := math.Abs(f); a >= 1e-3 && a < 1e15 {
		decimals := max(0, 5-int(math.Floor(math.Log10(a))))
		s := strconv.FormatFloat(f, 'f', decimals, 64)
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
	return strconv.FormatFloat(f, 'g', 6, 64)
}

func (p *page) uplinks(uplinks []Uplink) {
	if len(uplinks) == 0 {
		return
	}
	rows := [][]string{{"UPLINK", "LINK", "STATE", "CONFIRMED", "BACKLOG", "LAST ACK"}}
	for _, u := range uplinks {
		ack := "never"
		if since := p.ago(u.LastAck); since != "" {
			ack = since + " ago"
		}
		state := u.State
		if since := p.ago(u.Since); since != "" {
			state += " for " + since
		}
		rows = append(rows, []string{u.Name, u.Link, state, count(u.Confirmed), count(u.Backlog), ack})
	}
	p.table(rows, 3, 4)
}

func (p *page) rules(r Rules) {
	firing := r.firing()
	if len(firing) == 0 {
		return
	}
	rows := [][]string{{"ALARM", "SEVERITY", "SINCE", "TEXT"}}
	for _, x := range firing[:min(len(firing), maxShownRules)] {
		rows = append(rows, []string{x.name(), x.Severity.String(), p.clock(x.Since), oneLine(x.Text)})
	}
	p.table(rows)
	if more := len(firing) - maxShownRules; more > 0 {
		p.line("and %d more", more)
	}
}

func (p *page) footer(s Status) {
	p.line("")
	words := "edgeagent " + s.Version + ", device " + s.Device + ", run " + s.Run.String() + ", up " + span(s.Uptime.Duration())
	if !s.Clock.Synced {
		words += ", clock not synced"
	}
	p.line("%s", words)
}

// table prints rows below an empty line, columns two spaces apart, clipped at the
// width; the columns listed in right are aligned to the right.
func (p *page) table(rows [][]string, right ...int) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(oneLine(cell)))
		}
	}
	p.line("")
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			cell = oneLine(cell)
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if slices.Contains(right, i) {
				b.WriteString(pad + cell + "  ")
			} else {
				b.WriteString(cell + pad + "  ")
			}
		}
		p.line("%s", clip(strings.TrimRight(b.String(), " "), p.width))
	}
}

// ago prints how long ago t was, "" when it never was or is yet to come.
func (p *page) ago(t Time) string {
	if d := p.now.Sub(t.Time); !t.IsZero() && d >= 0 {
		return span(d)
	}
	return ""
}

// clock prints the local time of day, with the date when it was another day.
func (p *page) clock(t Time) string {
	local, now := t.Local(), p.now.Local()
	if local.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return local.Format(time.TimeOnly)
	}
	return local.Format(time.DateTime)
}
