package rules

import (
	"time"

	"github.com/edgeagent/edgeagent"
)

// File is a rule file. It stands alone: nothing of it depends on the agent's
// configuration.
type File struct {
	Version int    `yaml:"version"` // 1
	Rules   []Rule `yaml:"rules"`
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
	// For: When must hold this long before the rule fires. 0 to 365 days.
	For time.Duration `yaml:"for"`
	// Clear ends the alarm; default: When is false. While When is true the
	// alarm goes on, whatever Clear says.
	Clear string `yaml:"clear"`
	// ClearFor: Clear must hold this long. 0 to 365 days.
	ClearFor time.Duration `yaml:"clear_for"`
	// StaleAfter is how old an input's last reading may be before the input is
	// unknown. Default: three times the sensor's interval, at least 3 s, where
	// the engine knows the interval (see [Engine.SetIntervals]); else readings do
	// not age.
	StaleAfter time.Duration `yaml:"stale_after"`
	// Severity of the alarm; default warning.
	Severity *edgeagent.Severity `yaml:"severity"`
	// Do lists what happens; in this release exactly one alert.
	Do []Action `yaml:"do"`
}

// Action is what a rule does when it fires; exactly one key is set.
type Action struct {
	Alert *Alert `yaml:"alert"`
}

// Alert raises an alarm.
type Alert struct {
	// Text is the message for people: "{{.series}} at {{.temp}} degC". It may
	// name the inputs, rule, instance and series (that of the first input in
	// When). Default: Describe. Cut off at 1 KiB when it is filled in.
	Text string `yaml:"text"`
}

// Validate returns what [Compile] says of the file alone.
func (f File) Validate() error {
	_, err := Compile([]File{f})
	return err
}
