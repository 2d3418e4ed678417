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
	ID       string `yaml:"id"`
	Describe string `yaml:"describe"`
	// Inputs maps the names used in When and Clear to series ("boiler/temp").
	Inputs map[string]string `yaml:"inputs"`
	When   string            `yaml:"when"`
	// For: When must hold this long before the rule fires.
	For time.Duration `yaml:"for"`
	// Clear ends the alarm; default: When is false.
	Clear    string             `yaml:"clear"`
	ClearFor time.Duration      `yaml:"clear_for"`
	Severity edgeagent.Severity `yaml:"severity"` // default warning
	Do       []Action           `yaml:"do"`
}

// Action is what a rule does when it fires; exactly one key is set.
type Action struct {
	Alert *Alert `yaml:"alert"`
}

// Alert raises an alarm.
type Alert struct {
	// Text is the message for people: "{{.series}} at {{.temp}} degC".
	Text string `yaml:"text"`
}
