package ruletest

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// File is a file of tests.
type File struct {
	Rules []string `yaml:"rules"` // rule files, relative to this one
	Tests []Test   `yaml:"tests"`
}

// Test is one story.
type Test struct {
	Name  string        `yaml:"name"`
	Every time.Duration `yaml:"every"` // between two steps; default 1 s
	// Start is the wall time of the first step, which hour() and weekday() see:
	// RFC 3339; default 2026-01-05T00:00:00Z, a Monday.
	Start     string            `yaml:"start"`
	Input     map[string]string `yaml:"input"` // values by series
	Expect    []Expect          `yaml:"expect"`
	RestartAt []time.Duration   `yaml:"restart_at"` // save, load, go on
}

// Expect is what has to be at a moment, or between two. Of Between, both ends
// count.
type Expect struct {
	At      *time.Duration  `yaml:"at"`
	Between []time.Duration `yaml:"between"`

	Rule     string `yaml:"rule"`
	Instance string `yaml:"instance"` // default: any
	// At: State of the rule's instance. "idle" is also one whose condition is
	// unknown, "firing" also one that is clearing.
	State *rules.Phase `yaml:"state"`
	// At: levels of outputs, high or low.
	GPIO map[string]string `yaml:"gpio"`
	// Between: how many alarms were raised, by Rule if it is set, of Severity
	// (escalated or not) if that is.
	Alerts   *int                `yaml:"alerts"`
	Severity *edgeagent.Severity `yaml:"severity"`
	// Between: a regular expression that the text of one of them matches.
	Text string `yaml:"text"`
}

const (
	maxSteps     = 1_000_000
	defaultEvery = time.Second
	defaultStart = "2026-01-05T00:00:00Z"
)

// Validate checks what can be checked without the rules. Its errors are joined
// [edgeagent.FieldError] values.
func (f File) Validate() error {
	var errs []error
	if len(f.Rules) == 0 {
		errs = append(errs, edgeagent.Field("rules", "no rule file is named"))
	}
	if len(f.Tests) == 0 {
		errs = append(errs, edgeagent.Field("tests", "there are no tests"))
	}
	for i, t := range f.Tests {
		errs = append(errs, edgeagent.InField(fmt.Sprintf("tests[%d]", i), t.validate()))
	}
	return errors.Join(errs...)
}

func (t Test) validate() error {
	var errs []error
	errorf := func(path, format string, args ...any) {
		errs = append(errs, edgeagent.Field(path, format, args...))
	}
	if t.Name == "" {
		errorf("name", "the test has no name")
	}
	if t.Every < 0 || t.Every > 24*time.Hour {
		errorf("every", "%v is not within 1ms and 24h", t.Every)
	}
	if _, err := time.Parse(time.RFC3339, t.Start); t.Start != "" && err != nil {
		errorf("start", "bad time %q, write it like %s", t.Start, defaultStart)
	}
	if len(t.Expect) == 0 {
		errorf("expect", "nothing is expected: the test could not fail")
	}
	for series, text := range t.Input {
		if _, err := parseValues(text); err != nil {
			errorf("input."+series, "%w", err)
		}
	}
	for i, x := range t.Expect {
		errs = append(errs, edgeagent.InField(fmt.Sprintf("expect[%d]", i), x.validate()))
	}
	for i, d := range t.RestartAt {
		if d < 0 {
			errorf(fmt.Sprintf("restart_at[%d]", i), "%v is negative", d)
		}
	}
	return errors.Join(errs...)
}

func (x Expect) validate() error {
	var errs []error
	errorf := func(path, format string, args ...any) {
		errs = append(errs, edgeagent.Field(path, format, args...))
	}
	switch {
	case (x.At == nil) == (x.Between == nil):
		errorf("", "say when: at, or between")
	case x.At != nil && *x.At < 0:
		errorf("at", "%v is negative", *x.At)
	case x.At != nil && x.State == nil && len(x.GPIO) == 0:
		errorf("", `nothing is expected: write state or gpio`)
	case x.At != nil && (x.Alerts != nil || x.Severity != nil || x.Text != ""):
		errorf("at", "alerts, severity and text are counted between two times")
	case x.Between != nil && (len(x.Between) != 2 || x.Between[0] > x.Between[1]):
		errorf("between", "want two times, the earlier first")
	case x.Between != nil && x.Alerts == nil && x.Text == "":
		errorf("", "nothing is expected: write alerts or text")
	case x.Between != nil && (x.State != nil || len(x.GPIO) > 0):
		errorf("between", "state and gpio are looked at at one time")
	}
	if x.State != nil && x.Rule == "" {
		errorf("rule", "whose state is missing")
	}
	if _, err := regexp.Compile(x.Text); err != nil {
		errorf("text", "%w", err)
	}
	for pin, level := range x.GPIO {
		if level != "high" && level != "low" {
			errorf("gpio."+pin, "unknown level %q, want high or low", level)
		}
	}
	return errors.Join(errs...)
}

// value is a reading to come; none is a step without one.
type value struct {
	v       float64
	quality edgeagent.Quality
	none    bool
}

var item = regexp.MustCompile(`^(_|[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?|nan)([-+][0-9.]+(?:[eE][-+]?[0-9]+)?)?(?:x([0-9]+))?(?:!(good|suspect|stale|bad))?$`)

// parseValues reads "70x60 70+0.5x40 _x120".
func parseValues(text string) ([]value, error) {
	var out []value
	for _, word := range regexp.MustCompile(`\S+`).FindAllString(text, -1) {
		m := item.FindStringSubmatch(word)
		if m == nil {
			return nil, fmt.Errorf(`bad values %q, write "70", "70x60", "70+0.5x40", "_x120" or "70!bad"`, word)
		}
		n := 1
		if m[3] != "" {
			var err error
			if n, err = strconv.Atoi(m[3]); err != nil || len(out)+n > maxSteps {
				return nil, fmt.Errorf("%q: more than %d steps", word, maxSteps)
			}
		}
		v := value{none: m[1] == "_", v: math.NaN(), quality: edgeagent.Quality(max(0, slices.Index([]string{"good", "suspect", "stale", "bad"}, m[4])))}
		step := 0.0
		for i, p := range []*float64{&v.v, &step} {
			if m[i+1] == "" || m[i+1] == "_" || m[i+1] == "nan" {
				continue
			}
			var err error
			if *p, err = strconv.ParseFloat(m[i+1], 64); err != nil {
				return nil, fmt.Errorf("bad number in %q", word)
			}
		}
		start := v.v
		for i := range n {
			v.v = start + float64(i)*step
			out = append(out, v)
		}
	}
	if len(out) > maxSteps {
		return nil, fmt.Errorf("more than %d steps", maxSteps)
	}
	return out, nil
}
