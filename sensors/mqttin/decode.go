package mqttin

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/payload"
	"github.com/edgeagent/edgeagent/sensors"
)

// message is what came from the broker.
type message struct {
	topic    string
	payload  []byte
	retained bool
	at       edgeagent.Instant
}

// decoder turns messages into readings. It remembers the series it has given.
type decoder struct {
	env     sensors.Env
	topics  []Topic
	max     int
	series  map[name]edgeagent.Series
	refused uint64 // readings of series beyond max
}

type name struct{ sensor, metric string }

var errNoFilter = errors.New("no filter matches the topic")

// decode appends the readings of a message. What came before an error in it is given.
func (d *decoder) decode(dst []edgeagent.Reading, m message) ([]edgeagent.Reading, error) {
	for i := range d.topics {
		t := &d.topics[i]
		levels := strings.Split(m.topic, "/")
		wild, ok := match(strings.Split(t.Filter, "/"), levels)
		if !ok {
			continue
		}
		if m.retained && t.Retained == RetainedSkip {
			return dst, nil
		}
		dst, err := d.matched(dst, t, m, levels, wild)
		if err != nil {
			err = fmt.Errorf("topic %.80q: %w", m.topic, err)
		}
		return dst, err
	}
	return dst, errNoFilter
}

// match holds the levels of a topic against a filter and returns those that stand for
// wildcards.
func match(filter, topic []string) (wild []string, ok bool) {
	if len(topic) > 0 && strings.HasPrefix(topic[0], "$") && (filter[0] == "+" || filter[0] == "#") {
		return nil, false // as brokers do it
	}
	for i, f := range filter {
		switch {
		case f == "#":
			return append(wild, topic[min(i, len(topic)):]...), true
		case i >= len(topic):
			return nil, false
		case f == "+":
			wild = append(wild, topic[i])
		case f != topic[i]:
			return nil, false
		}
	}
	return wild, len(topic) == len(filter)
}

// matched reads a message of a filter.
func (d *decoder) matched(dst []edgeagent.Reading, t *Topic, m message, levels, wild []string) ([]edgeagent.Reading, error) {
	level := func(n int) (string, bool) {
		if n < 1 || n > len(levels) {
			return "", false
		}
		return segment(levels[n-1]), true
	}
	sensor := d.env.Sensor
	if t.Sensor != "" {
		s, err := expand(t.Sensor, level)
		if err != nil {
			return dst, err
		}
		sensor += "/" + strings.Trim(s, "/")
	} else {
		parts := []string{sensor}
		for _, w := range wild {
			parts = append(parts, segment(w))
		}
		sensor = strings.Join(parts, "/")
	}
	if len(sensor) > 256 {
		return dst, errors.New("the name of the sensor is longer than 256 bytes")
	}
	r := edgeagent.Reading{At: m.at}
	if m.retained && t.Retained != RetainedFresh {
		r.Quality = edgeagent.Stale
	}
	if t.Format != "value" {
		return d.json(dst, t, m, sensor, r)
	}
	metric, err := expand(cmp.Or(t.Metric, "{"+strconv.Itoa(len(levels))+"}"), level)
	if err != nil {
		return dst, err
	}
	text := strings.TrimSpace(string(m.payload))
	v, err := payload.Number(text)
	if err != nil {
		n, ok := t.state(text)
		if !ok {
			return dst, fmt.Errorf("%.40q is neither a number nor a state", text)
		}
		v.Number = n
	}
	return d.give(dst, r, name{sensor, metric}, Metric{}, v.Number), nil
}

// json reads a JSON message.
func (d *decoder) json(dst []edgeagent.Reading, t *Topic, m message, sensor string, r edgeagent.Reading) ([]edgeagent.Reading, error) {
	first := len(dst)
	err := payload.JSON(m.payload, func(path string, v payload.Value) error {
		if path == t.Time && path != "" {
			if ns, ok := parseTime(v); ok && plausible(ns, m.at.Wall) {
				r.At.Wall, r.Recorded = ns, true
			}
			return nil
		}
		metric := Metric{Path: path}
		if len(t.Metrics) > 0 {
			var wanted bool
			if metric, wanted = t.metric(path); !wanted {
				return nil
			}
		}
		if v.IsText {
			n, ok := t.state(v.Text)
			if !ok {
				return nil // a text that is no state is no reading
			}
			v.Number = n
		}
		dst = d.give(dst, r, name{sensor, cmp.Or(metric.Name, segmentOfPath(path))}, metric, v.Number)
		return nil
	})
	if r.Recorded { // the time may come behind the values
		for i := first; i < len(dst); i++ {
			dst[i].At.Wall, dst[i].Recorded = r.At.Wall, true
		}
	}
	return dst, err
}

func (t *Topic) metric(path string) (Metric, bool) {
	for _, m := range t.Metrics {
		if m.Path == path {
			return m, true
		}
	}
	return Metric{}, false
}

func (t *Topic) state(text string) (float64, bool) {
	if len(t.States) > 0 {
		v, ok := t.States[text]
		return v, ok
	}
	switch strings.ToLower(text) {
	case "on", "true":
		return 1, true
	case "off", "false":
		return 0, true
	}
	return 0, false
}

// give appends a reading, unless its series would be one too many.
func (d *decoder) give(dst []edgeagent.Reading, r edgeagent.Reading, n name, m Metric, v float64) []edgeagent.Reading {
	s, known := d.series[n]
	if !known {
		if len(d.series) >= d.max {
			d.refused++
			return dst
		}
		kind, err := edgeagent.ParseKind(m.Kind)
		if err != nil {
			kind = edgeagent.Gauge
		}
		s = edgeagent.NewSeries(edgeagent.SeriesKey{
			Sensor: n.sensor, Metric: n.metric, Unit: m.Unit, Kind: kind, Resolution: edgeagent.DefaultResolution, Tags: d.env.Tags,
		})
		d.series[n] = s
	}
	r.Series, r.Value = s, v
	return append(dst, r)
}

// segment makes a part of a sensor's name of a topic level, which may hold anything:
// nothing is left that names, patterns or formats give a meaning.
func segment(level string) string {
	const longest = 64
	out := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune(`/+#*?"'\,={}`, r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(level, "_"))
	if len(out) > longest {
		out = strings.ToValidUTF8(out[:longest], "")
	}
	return cmp.Or(out, "_")
}

func segmentOfPath(path string) string {
	if path == "" {
		return "value"
	}
	return segment(strings.ReplaceAll(path, ".", "_"))
}

// parseTime reads a time: RFC 3339, the same without a zone (local time, as Tasmota
// writes it), or a number since 1970 whose size tells its unit.
func parseTime(v payload.Value) (ns int64, ok bool) {
	if v.IsText {
		if t, err := time.Parse(time.RFC3339, v.Text); err == nil {
			return t.UnixNano(), true
		}
		t, err := time.ParseInLocation("2006-01-02T15:04:05", v.Text, time.Local)
		return t.UnixNano(), err == nil
	}
	for _, u := range []struct{ above, unit float64 }{{1e17, 1}, {1e14, 1e3}, {1e11, 1e6}, {0, 1e9}} {
		if v.Number > u.above {
			x := v.Number * u.unit
			return int64(x), x < 9e18
		}
	}
	return 0, false
}

// plausible refuses times before 2000 and more than a day ahead: a device without a
// clock says so.
func plausible(ns, now int64) bool {
	return ns > 946684800e9 && ns < now+int64(24*time.Hour)
}
