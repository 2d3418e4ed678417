package main

import (
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/ruletest"
)

// The JSON objects of the rules commands: contracts, see cli-json.md.

// rulesChecked is that of "rules check".
type rulesChecked struct {
	Files  []string      `json:"files"`
	Memory int64         `json:"memory"`
	Rules  []checkedRule `json:"rules"`
}

type checkedRule struct {
	ID     string `json:"id"`
	Memory int64  `json:"memory"`
	Calls  int    `json:"calls"`
	Each   bool   `json:"each"`
}

func checkOf(files []string, e *rules.Engine) rulesChecked {
	out := rulesChecked{Files: files, Rules: []checkedRule{}}
	for _, c := range e.Costs() {
		out.Memory += c.Bytes
		out.Rules = append(out.Rules, checkedRule{c.Rule, c.Bytes, c.Calls, c.Many})
	}
	return out
}

// rulesListed is that of "rules list".
type rulesListed struct {
	Rules []listedRule `json:"rules"`
}

type listedRule struct {
	ID       string             `json:"id"`
	Describe string             `json:"describe,omitempty"`
	Severity edgeagent.Severity `json:"severity"`
	Inputs   map[string]string  `json:"inputs"`
	When     string             `json:"when"`
	For      api.Seconds        `json:"for"`
	Clear    string             `json:"clear,omitempty"`
	ClearFor api.Seconds        `json:"clear_for"`
}

func listOf(files []rules.File) rulesListed {
	out := rulesListed{Rules: []listedRule{}}
	for _, f := range files {
		for _, r := range f.Rules {
			severity := edgeagent.Warning
			if r.Severity != nil {
				severity = *r.Severity
			}
			out.Rules = append(out.Rules, listedRule{
				ID: r.ID, Describe: r.Describe, Severity: severity, Inputs: r.Inputs, When: oneLine(r.When), For: api.SecondsOf(r.For),
				Clear: oneLine(r.Clear), ClearFor: api.SecondsOf(r.ClearFor),
			})
		}
	}
	return out
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// rulesTested is that of "rules test".
type rulesTested struct {
	OK    bool         `json:"ok"`
	Files []testedFile `json:"files"`
}

type testedFile struct {
	File       string     `json:"file"`
	Tests      []testedOf `json:"tests"`
	NeverFired []string   `json:"never_fired"`
}

type testedOf struct {
	Name     string          `json:"name"`
	OK       bool            `json:"ok"`
	Failures []testedFailure `json:"failures"`
}

type testedFailure struct {
	Expectation int         `json:"expectation"`
	At          api.Seconds `json:"at"`
	Rule        string      `json:"rule,omitempty"`
	When        string      `json:"when"`
	Want        string      `json:"want"`
	Got         string      `json:"got"`
}

func (t *rulesTested) add(path string, r ruletest.Report) {
	f := testedFile{File: path, Tests: []testedOf{}, NeverFired: append([]string{}, r.NeverFired...)}
	for _, x := range r.Results {
		one := testedOf{Name: x.Name, OK: len(x.Failures) == 0, Failures: []testedFailure{}}
		for _, y := range x.Failures {
			one.Failures = append(one.Failures, testedFailure{y.Index, api.SecondsOf(y.At), y.Rule, y.When, y.Want, y.Got})
		}
		t.OK = t.OK && one.OK
		f.Tests = append(f.Tests, one)
	}
	t.Files = append(t.Files, f)
}

// rulesReplayed is that of "rules backtest".
type rulesReplayed struct {
	From     api.Time       `json:"from"`
	To       api.Time       `json:"to"`
	Readings int            `json:"readings"`
	Stored   int            `json:"stored"`
	Rules    []replayedRule `json:"rules"`
	Note     string         `json:"note,omitempty"`
	// Against is null without --against.
	Against []replayedChange `json:"against"`
}

type replayedRule struct {
	ID     string      `json:"id"`
	Alerts int         `json:"alerts"`
	PerDay float64     `json:"per_day"`
	Firing api.Seconds `json:"firing"`
}

type replayedChange struct {
	Added    bool               `json:"added"`
	T        api.Time           `json:"t"`
	Rule     string             `json:"rule"`
	Series   string             `json:"series"`
	Severity edgeagent.Severity `json:"severity"`
	Text     string             `json:"text"`
}

func backtestOf(o ruletest.Outcome, was *ruletest.Outcome) rulesReplayed {
	out := rulesReplayed{From: api.At(o.From), To: api.At(o.To), Readings: o.Readings, Stored: o.Stored, Note: o.Note, Rules: []replayedRule{}}
	for _, r := range o.Rules {
		out.Rules = append(out.Rules, replayedRule{r.ID, r.Alerts, r.PerDay, api.SecondsOf(r.Firing)})
	}
	if was == nil {
		return out
	}
	out.Against = []replayedChange{}
	for _, c := range o.Against(*was) {
		ev := c.Alarm
		out.Against = append(out.Against, replayedChange{c.Added, api.At(time.Unix(0, ev.At.Wall)), ev.Attrs["rule"], ev.Series, ev.Severity, ev.Text})
	}
	return out
}

// ruleExplained is that of "rules explain".
type ruleExplained struct {
	Rule      string              `json:"rule"`
	At        api.Time            `json:"at"`
	Readings  int                 `json:"readings"`
	Instances []explainedInstance `json:"instances"`
}

type explainedInstance struct {
	Instance string          `json:"instance"`
	Series   string          `json:"series"`
	State    string          `json:"state"`
	Held     api.Seconds     `json:"held"`
	Needs    api.Seconds     `json:"needs"`
	Next     *api.Time       `json:"next"`
	When     []explainedPart `json:"when"`
	Clear    []explainedPart `json:"clear"`
}

type explainedPart struct {
	Depth  int    `json:"depth"`
	Source string `json:"source"`
	Value  string `json:"value"`
}

func explanationOf(x ruletest.Explanation) ruleExplained {
	out := ruleExplained{Rule: x.Rule, At: api.At(x.At), Readings: x.Readings, Instances: []explainedInstance{}}
	for _, in := range x.Instances {
		one := explainedInstance{
			Instance: in.Instance, Series: in.Series, State: in.State.State.String(),
			Held: api.SecondsOf(in.Held), Needs: api.SecondsOf(in.Needs), When: partsOf(in.When), Clear: partsOf(in.Clear),
		}
		if at, ok := x.NextAt(in); ok {
			next := api.At(at)
			one.Next = &next
		}
		out.Instances = append(out.Instances, one)
	}
	return out
}

func partsOf(parts []rules.Part) []explainedPart {
	out := []explainedPart{}
	for _, p := range parts {
		out = append(out, explainedPart{p.Depth, oneLine(p.Source), p.Value})
	}
	return out
}
