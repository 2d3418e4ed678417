package push

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/edgeagent/edgeagent/internal/payload"
)

// maxReadings bounds the readings of a request.
const maxReadings = 10_000

var errTooMany = fmt.Errorf("more than %d readings in a request", maxReadings)

// pushed is one reading of a request.
type pushed struct {
	name   string // behind the sensor's own
	metric string
	tags   map[string]string
	value  float64
	wall   int64
	dated  bool
}

// parseLines reads line protocol. unit is what a time counts, in ns. Empty lines and
// comments are passed over; fields with texts are no readings.
func parseLines(body []byte, unit int64) ([]pushed, error) {
	var out []pushed
	n := 0
	for line := range strings.Lines(string(body)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
			continue
		}
		p, err := payload.Line(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		x := pushed{name: p.Measurement, tags: p.Tags, dated: p.HasTime}
		if p.HasTime {
			if p.Time > math.MaxInt64/unit || p.Time < 0 {
				return nil, fmt.Errorf("line %d: the time %d is out of range: is the precision right?", n, p.Time)
			}
			x.wall = p.Time * unit
		}
		for _, f := range p.Fields {
			if f.Value.IsText {
				continue
			}
			x.metric, x.value = f.Key, f.Value.Number
			if out = append(out, x); len(out) > maxReadings {
				return nil, errTooMany
			}
		}
	}
	return out, nil
}

// object is one element of a JSON request.
type object struct {
	Sensor string             `json:"sensor"`
	Time   json.RawMessage    `json:"time"`
	Tags   map[string]string  `json:"tags"`
	Values map[string]float64 `json:"values"`
}

// parseJSON reads an object or a list of objects.
func parseJSON(body []byte) ([]pushed, error) {
	var list []object
	body = bytes.TrimSpace(body)
	if len(body) > 0 && body[0] == '{' {
		list = make([]object, 1)
		if err := strictly(body, &list[0]); err != nil {
			return nil, err
		}
	} else if err := strictly(body, &list); err != nil {
		return nil, err
	}
	var out []pushed
	for i, o := range list {
		x := pushed{name: o.Sensor, tags: o.Tags}
		var err error
		if x.wall, x.dated, err = jsonTime(o.Time); err != nil {
			return nil, fmt.Errorf("object %d: %w", i+1, err)
		}
		for k, v := range o.Values {
			x.metric, x.value = k, v
			if out = append(out, x); len(out) > maxReadings {
				return nil, errTooMany
			}
		}
	}
	return out, nil
}

// strictly decodes one document without keys that nobody reads.
func strictly(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf(`not the JSON that is wanted, {"sensor": …, "time": …, "values": {…}}: %w`, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON document")
	}
	return nil
}

// jsonTime reads RFC 3339 or seconds since 1970.
func jsonTime(raw json.RawMessage) (wall int64, dated bool, err error) {
	if len(raw) == 0 || string(raw) == "null" {
		return 0, false, nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil || t.Year() < 1970 || t.Year() > 2261 {
			return 0, false, fmt.Errorf("%.40q is not a time, want RFC 3339", text)
		}
		return t.UnixNano(), true, nil
	}
	var s float64
	if err := json.Unmarshal(raw, &s); err != nil || s < 0 || s > 9e9 {
		return 0, false, errors.New("a time is RFC 3339, or seconds since 1970")
	}
	whole, part := math.Modf(s)
	return int64(whole)*1e9 + int64(math.Round(part*1e9)), true, nil
}

// segments makes the part of a sensor's name that a program chose fit for names,
// patterns and formats. Slashes stay.
func segments(name string) string {
	var parts []string
	for p := range strings.SplitSeq(name, "/") {
		if p = clean(p); p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, "/")
}

func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune(`/+#*?"'\,={}`, r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
}

const (
	maxName = 128 // bytes of a sensor or a metric
	maxTags = 16
)

// check refuses what no series can be called.
func (p pushed) check() error {
	switch {
	case p.metric == "" || strings.Trim(clean(p.metric), "_") == "":
		return fmt.Errorf("%.40q is not the name of a metric", p.metric)
	case len(p.metric) > maxName || len(p.name) > maxName:
		return fmt.Errorf("%.40q: a name longer than %d bytes", cmp.Or(p.name, p.metric), maxName)
	case len(p.tags) > maxTags:
		return fmt.Errorf("%d tags, at most %d", len(p.tags), maxTags)
	}
	for k, v := range p.tags {
		if k == "" || len(k) > maxName || len(v) > maxName || strings.ContainsFunc(k+v, unicode.IsControl) {
			return fmt.Errorf("bad tag %.40q", k)
		}
	}
	return nil
}
