package rules

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

// File is a rule file. It stands alone: nothing of it depends on the agent's
// configuration.
type File struct {
	Version int `yaml:"version"` // 1
	// Memory bounds the state of this file's rules; 0: the engine's bound alone.
	// Rules that need more are refused at load.
	Memory edgeagent.Bytes `yaml:"memory"`
	// Sensors are physical facts, by series ("boiler/temp", one "*" allowed).
	Sensors map[string]Facts `yaml:"sensors"`
	Rules   []Rule           `yaml:"rules"`
	Shape   []Shape          `yaml:"shape"`
	// Exec is the list of programs that rules may run, by the name they use.
	Exec map[string]Command `yaml:"exec"`
}

// Facts are what is known of a series before anything is measured. A zero or nil
// value means: not known.
type Facts struct {
	Unit       string        `yaml:"unit"`
	Min        *float64      `yaml:"min"` // physically possible, in the series' unit
	Max        *float64      `yaml:"max"`
	MaxRate    Rate          `yaml:"max_rate"` // "5/s", in the series' unit
	Every      time.Duration `yaml:"every"`    // how often a reading comes; decides when the last one is stale
	Resolution float64       `yaml:"resolution"`
	// Lateness is how far readings that the source dated may come out of order.
	// Within it they count in windows at their own time; later ones are counted
	// and not looked at. 0: each counts when it comes, whatever its time.
	Lateness time.Duration `yaml:"lateness"`
}

// Rate is a change per second. It is written "5/s", "300/m" or "100/h".
type Rate float64

// UnmarshalText reads a rate.
func (r *Rate) UnmarshalText(text []byte) error {
	number, unit, ok := strings.Cut(strings.TrimSpace(string(text)), "/")
	per, known := map[string]float64{"s": 1, "m": 60, "min": 60, "h": 3600}[strings.TrimSpace(unit)]
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || !known || err != nil || !(v > 0) || v > 1e300 {
		return edgeagent.WithHint(fmt.Errorf("bad rate %q", text), `write it like "5/s", "300/m" or "100/h"`)
	}
	*r = Rate(v / per)
	return nil
}

// Rule is one rule of a file.
type Rule struct {
	// ID is unique among all files: letters, digits, "-", "_", ".", at most 64
	// bytes. It is the first part of the ids of the rule's alarms.
	ID string `yaml:"id"`
	// Describe says in a sentence what the rule is for; it is the text of
	// alarms that have none of their own.
	Describe string `yaml:"describe"`
	// Inputs maps the names used in When, Clear and texts to series
	// ("boiler/temp"). A "*" stands for a part of one segment, at least one
	// byte and no slash ("pump-*/vibration"): the rule then has one instance for
	// each text that its stars stand for, and all stars of an instance stand for
	// the same text. At most 16 inputs, one star in each.
	Inputs map[string]string `yaml:"inputs"`
	// When is the condition, in the language of rules/expression.
	When string `yaml:"when"`
	// Exact: time windows keep their samples, up to 4,096, instead of 60 panes.
	Exact bool `yaml:"exact"`
	// For: When must hold this long before the rule fires. 0 to 365 days.
	For time.Duration `yaml:"for"`
	// Clear ends the alarm; default: When is false. While When is true the
	// alarm goes on, whatever Clear says.
	Clear string `yaml:"clear"`
	// ClearFor: Clear must hold this long. 0 to 365 days.
	ClearFor time.Duration `yaml:"clear_for"`
	// Cooldown: after it fired, the rule does not fire again for this long. A
	// condition that still holds then fires then. 0 to 365 days.
	Cooldown time.Duration `yaml:"cooldown"`
	// OnGap says what happens to For and ClearFor while the condition is unknown
	// or the agent is down; default hold.
	OnGap Gap `yaml:"on_gap"`
	// StaleAfter is how old an input's last reading may be before the input is
	// unknown. Default: three times the sensor's interval, at least 3 s, where
	// the engine knows the interval (Facts.Every, [Engine.SetIntervals]); else
	// readings do not age.
	StaleAfter time.Duration `yaml:"stale_after"`
	// Severity of the alarm; default warning.
	Severity *edgeagent.Severity `yaml:"severity"`
	// Escalate raises the severity of an alarm that goes on.
	Escalate *Escalate `yaml:"escalate"`
	// Do lists what happens when the rule fires, Undo what happens when it clears.
	// Alarms, sampling and tags end by themselves.
	Do   []Action `yaml:"do"`
	Undo []Undo   `yaml:"undo"`
}

// Escalate says that after After of firing the severity becomes To, once.
type Escalate struct {
	After time.Duration      `yaml:"after"`
	To    edgeagent.Severity `yaml:"to"`
}

// Gap says what a time that nobody saw does to a duration that runs.
type Gap uint8

// The ways to treat a gap.
const (
	Hold  Gap = iota // the time before it is kept, the gap does not count
	Reset            // it begins anew
	Count            // the gap counts as if the condition had held
)

var gapNames = [...]string{"hold", "reset", "count"}

// UnmarshalText reads hold, reset or count.
func (g *Gap) UnmarshalText(text []byte) error {
	for i, name := range gapNames {
		if string(text) == name {
			*g = Gap(i)
			return nil
		}
	}
	return fmt.Errorf("unknown way to treat a gap %q, want hold, reset or count", text)
}

// String returns the name.
func (g Gap) String() string { return gapNames[min(int(g), len(gapNames)-1)] }

// Action is what a rule does; exactly one key is set.
type Action struct {
	Alert  *Alert  `yaml:"alert"`
	GPIO   *GPIO   `yaml:"gpio"`
	Sample *Sample `yaml:"sample"`
	Exec   *Exec   `yaml:"exec"`
	Tag    *Tag    `yaml:"tag"`
}

// Undo is what a rule does when it clears; exactly one key is set.
type Undo struct {
	GPIO *GPIO `yaml:"gpio"`
	Exec *Exec `yaml:"exec"`
}

// Alert raises an alarm.
type Alert struct {
	// Text is the message for people: "{{.series}} at {{.temp}} degC". It may
	// name the inputs, rule, instance, series (that of the first input in When),
	// and reason (of a detector). Default: Describe. Cut off at 1 KiB when it is
	// filled in.
	Text string `yaml:"text"`
	// Priority is passed on in the alarm's attributes: low, normal, high.
	Priority string `yaml:"priority"`
	// Capture adds the raw readings of the inputs around the moment of firing.
	Capture *Capture `yaml:"capture"`
}

// Capture says which readings go with an alarm.
type Capture struct {
	Before time.Duration `yaml:"before"` // 0 to 1 h
	After  time.Duration `yaml:"after"`  // 0 to 1 h
	// Readings bounds how many are kept; the oldest go first. 16 to 8,192,
	// default 512. They count against the memory of the rules.
	Readings int `yaml:"readings"`
}

// GPIO sets an output that the agent's configuration names.
type GPIO struct {
	Pin string `yaml:"pin"`
	Set string `yaml:"set"` // high or low
	// MaxOn: after this long the pin goes back by itself, whatever the rule says;
	// 0: no bound.
	MaxOn time.Duration `yaml:"max_on"`
	// OnExit is the state when the agent stops or dies: high, low, or empty to
	// leave it. All rules must agree about a pin.
	OnExit string `yaml:"on_exit"`
	// MinToggle is the least time between two changes of the pin, whoever drives it;
	// a change that comes earlier waits, and the last one wins. Of several for a pin
	// the longest counts. MaxOn goes before it.
	MinToggle time.Duration `yaml:"min_toggle"`
}

// Sample has sensors sampled faster while the rule fires.
type Sample struct {
	Series string        `yaml:"series"` // "boiler/*": one "*" as in inputs
	Every  time.Duration `yaml:"every"`  // 10 ms to 1 h
	While  string        `yaml:"while"`  // "firing", which is the default
	Limit  time.Duration `yaml:"limit"`  // at most this long; default 30 min, at most 24 h
}

// Exec runs a program of the list.
type Exec struct {
	Run     string        `yaml:"run"`  // name in File.Exec
	Args    []string      `yaml:"args"` // texts with fields; no shell sees them
	Timeout time.Duration `yaml:"timeout"`
}

// Command is a program that rules may run.
type Command struct {
	Path        string `yaml:"path"` // absolute
	User        string `yaml:"user"` // who runs it; empty: the agent's user
	MaxParallel int    `yaml:"max_parallel"`
}

// Tag lowers the quality of the readings of the first input in When while the rule
// fires.
type Tag struct {
	Quality string `yaml:"quality"` // suspect, stale or bad
}

// Validate returns what [Compile] says of the file alone.
func (f File) Validate() error {
	_, err := Compile([]File{f})
	return err
}
