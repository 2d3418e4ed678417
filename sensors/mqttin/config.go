package mqttin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Drivers lists the drivers of this package.
func Drivers() []sensors.Driver {
	return []sensors.Driver{{
		Name:    "mqtt",
		Summary: "what devices publish to a local MQTT broker: numbers, alone or in JSON",
		New:     func() sensors.DriverConfig { return Default() },
	}}
}

// Bounds of the configuration.
const (
	maxTopics    = 64
	maxMaxSeries = 5_000
	maxMetrics   = 256 // of one filter
)

// Config is the configuration of the driver mqtt.
type Config struct {
	URL      string           `yaml:"url"`       // mqtt://host:1883
	ClientID string           `yaml:"client_id"` // default: a random one
	Username string           `yaml:"username"`
	Password edgeagent.Secret `yaml:"password"`
	// MaxSeries bounds the series; what comes on top is refused.
	MaxSeries int     `yaml:"max_series"`
	Topics    []Topic `yaml:"topics"`
}

// Topic says what to read from the topics that match a filter.
type Topic struct {
	Filter string `yaml:"filter"`
	// Sensor is put behind the configured name: "{1}" is the first level of the
	// topic, "{2}" the second. Default: what the wildcards stand for.
	Sensor string `yaml:"sensor"`
	Format string `yaml:"format"` // json (default), value
	// Metric names the value of the format value: a text, or "{3}". Default: the
	// last level of the topic.
	Metric string `yaml:"metric"`
	// Metrics limits what is read of JSON and gives it units. Default: all numbers.
	Metrics []Metric `yaml:"metrics"`
	// States are the numbers of texts; default ON 1, OFF 0, in any case.
	States map[string]float64 `yaml:"states"`
	// Retained: stale (default), skip, or fresh.
	Retained string `yaml:"retained"`
	// Time is the path of the message's own time: RFC 3339, or seconds, milli-,
	// micro- or nanoseconds since 1970.
	Time string `yaml:"time"`
}

// Metric is a value in a JSON message.
type Metric struct {
	Path string `yaml:"path"` // keys joined by dots: ENERGY.Power
	Name string `yaml:"name"` // default: the path with underscores
	Unit string `yaml:"unit"`
	Kind string `yaml:"kind"` // gauge (default), counter, state
}

// Values of the key retained.
const (
	RetainedStale = "stale"
	RetainedSkip  = "skip"
	RetainedFresh = "fresh"
)

// Default returns the configuration with its defaults set.
func Default() *Config { return &Config{URL: "mqtt://127.0.0.1:1883", MaxSeries: 1000} }

// Validate checks the keys.
func (c *Config) Validate() error {
	var errs []error
	if _, err := c.address(); err != nil {
		errs = append(errs, edgeagent.Field("url", "%w", edgeagent.WithHint(err, `write "mqtt://127.0.0.1:1883"; this driver knows no TLS`)))
	}
	if c.MaxSeries < 1 || c.MaxSeries > maxMaxSeries {
		errs = append(errs, edgeagent.Field("max_series", "%d is out of range, want 1 to %d", c.MaxSeries, maxMaxSeries))
	}
	if !c.Password.IsZero() && c.Username == "" {
		errs = append(errs, edgeagent.Field("username", "missing key username: a password needs one"))
	}
	if len(c.Topics) == 0 || len(c.Topics) > maxTopics {
		errs = append(errs, edgeagent.Field("topics", "%w", edgeagent.WithHint(fmt.Errorf("%d filters, want 1 to %d", len(c.Topics), maxTopics),
			`write "topics: [{filter: zigbee2mqtt/+}]"`)))
	}
	seen := map[string]bool{}
	for i, t := range c.Topics {
		path := fmt.Sprintf("topics[%d]", i)
		errs = append(errs, edgeagent.InField(path, t.validate()))
		if seen[t.Filter] {
			errs = append(errs, edgeagent.Field(path+".filter", "%q is there twice", t.Filter))
		}
		seen[t.Filter] = true
	}
	return errors.Join(errs...)
}

// address returns host and port.
func (c *Config) address() (string, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "mqtt" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", fmt.Errorf("%q is not the address of a broker", c.URL)
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "1883")), nil
}

func (t Topic) validate() error {
	errs := []error{checkFilter(t.Filter)}
	add := func(key, format string, args ...any) { errs = append(errs, edgeagent.Field(key, format, args...)) }
	if t.Format != "" && t.Format != "json" && t.Format != "value" {
		add("format", "%q is not possible, want json or value", t.Format)
	}
	switch t.Retained {
	case "", RetainedStale, RetainedSkip, RetainedFresh:
	default:
		add("retained", "%q is not possible, want stale, skip or fresh", t.Retained)
	}
	errs = append(errs, checkTemplate("sensor", t.Sensor, t.Filter), checkTemplate("metric", t.Metric, t.Filter))
	switch {
	case t.Format == "value" && (len(t.Metrics) > 0 || t.Time != ""):
		add("metrics", `only JSON has several values and a time: write "format: json"`)
	case t.Format != "value" && t.Metric != "":
		add("metric", `names the value of "format: value"; for JSON use metrics`)
	case strings.Contains(t.Metric, "/"):
		add("metric", "%q holds a slash", t.Metric)
	case len(t.Metrics) > maxMetrics:
		add("metrics", "%d metrics, at most %d", len(t.Metrics), maxMetrics)
	}
	for i, m := range t.Metrics {
		path := fmt.Sprintf("metrics[%d]", i)
		if m.Path == "" {
			add(path+".path", "missing key path")
		}
		if strings.Contains(m.Name, "/") {
			add(path+".name", "%q holds a slash", m.Name)
		}
		if _, err := edgeagent.ParseKind(cmp.Or(m.Kind, "gauge")); err != nil {
			add(path+".kind", "%w", err)
		}
	}
	return errors.Join(errs...)
}

func checkFilter(f string) error {
	levels := strings.Split(f, "/")
	for i, l := range levels {
		if l != "+" && l != "#" && strings.ContainsAny(l, "+#") || l == "#" && i != len(levels)-1 {
			return edgeagent.Field("filter", `%q: "+" stands for one whole level, "#" for all that is left, at the end`, f)
		}
	}
	if f == "" || len(f) > 1024 || strings.ContainsRune(f, 0) {
		return edgeagent.Field("filter", "%q is not a topic filter", f)
	}
	return nil
}

// checkTemplate checks that the levels which a text names are there.
func checkTemplate(key, text, filter string) error {
	levels := strings.Count(filter, "/") + 1
	if strings.HasSuffix(filter, "#") {
		levels = 1 << 10
	}
	name, err := expand(text, func(n int) (string, bool) { return "x", n >= 1 && n <= levels })
	if err != nil {
		return edgeagent.Field(key, "%w", err)
	}
	if name == "" {
		return nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || segment(part) != part {
			return edgeagent.Field(key, "%.80q is not a name: use letters, digits, dots, dashes and underscores, up to 64 between two slashes", text)
		}
	}
	return nil
}

// expand puts the levels of a topic in place of {1}, {2} and so on.
func expand(text string, level func(n int) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "{")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		number, after, closed := strings.Cut(rest, "}")
		n, err := strconv.Atoi(number)
		if err != nil || !closed {
			return "", fmt.Errorf("%q: want {1}, {2} … for the levels of the topic", "{"+rest)
		}
		l, ok := level(n)
		if !ok {
			return "", fmt.Errorf("the topic has no level {%d}", n)
		}
		b.WriteString(l)
		text = after
	}
}

// Pace implements sensors.SelfPaced: devices speak when they like.
func (c *Config) Pace() (time.Duration, bool) { return 0, true }

// Open makes the source. The broker need not be there: it is sought by Sample.
func (c *Config) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	address, err := c.address()
	if err != nil {
		return nil, err
	}
	return newSource(env, c, address), nil
}
