package ruletest

import (
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// Explanation says where the instances of a rule stand at a moment.
type Explanation struct {
	Rule      string
	At        time.Time
	Readings  int // up to then
	Instances []rules.Explanation
	began     int64 // wall time at which the run time was 0
}

// NextAt returns when something happens to an instance without a reading.
func (x Explanation) NextAt(in rules.Explanation) (at time.Time, ok bool) {
	return time.Unix(0, x.began+int64(in.Next)).UTC(), in.NextOK
}

// Explain replays readings up to and including a moment and returns, for each
// instance of a rule, where it stands then and what each part of its conditions
// came to. A zero moment is that of the last reading.
func Explain(files []rules.File, o rules.Options, readings iter.Seq2[edgeagent.Reading, error], id string, at time.Time) (Explanation, error) {
	e, err := o.Compile(files)
	if err != nil {
		return Explanation{}, err
	}
	shaper, err := rules.NewShaper(nil)
	if err != nil {
		return Explanation{}, err
	}
	p := player{engine: e, shaper: shaper, open: map[string]int64{}, byRule: map[string]*RuleOutcome{}}
	for _, id := range e.Rules() {
		p.byRule[id] = &RuleOutcome{ID: id}
	}
	for r, err := range readings {
		if err != nil {
			return Explanation{}, fmt.Errorf("read recorded readings: %w", err)
		}
		if !at.IsZero() && r.At.Wall > at.UnixNano() {
			break
		}
		p.take(r)
	}
	p.flush()
	if !at.IsZero() && p.out.Readings > 0 {
		p.now = edgeagent.Instant{Wall: max(p.now.Wall, at.UnixNano()), Run: max(p.now.Run, at.UnixNano()-p.first)}
		e.Tick(nil, p.now)
	}
	list, ok := e.Explain(id)
	if !ok {
		return Explanation{}, fmt.Errorf("there is no rule %q, known are %s", id, strings.Join(e.Rules(), ", "))
	}
	return Explanation{id, time.Unix(0, p.now.Wall).UTC(), p.out.Readings, list, p.first}, nil
}

// WriteText writes the explanation for people.
func (x Explanation) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s at %s, after %d readings\n", x.Rule, x.At.Format(time.RFC3339Nano), x.Readings)
	if len(x.Instances) == 0 {
		b.WriteString("no instance: no series matched the * of its inputs\n")
	}
	for _, in := range x.Instances {
		fmt.Fprintf(&b, "%s (%s): %s", in.Instance, in.Series, in.State.State)
		if in.Needs > 0 {
			fmt.Fprintf(&b, ", has held for %s of %s", short(in.Held), short(in.Needs))
		}
		if next, ok := x.NextAt(in); ok {
			fmt.Fprintf(&b, ", looks again at %s", next.Format(time.RFC3339Nano))
		}
		b.WriteString("\n")
		writeParts(&b, "when", in.When)
		writeParts(&b, "clear", in.Clear)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeParts(b *strings.Builder, key string, parts []rules.Part) {
	for _, p := range parts {
		fmt.Fprintf(b, "  %-5s %-12s %s%s\n", key, p.Value, strings.Repeat("  ", p.Depth), strings.Join(strings.Fields(p.Source), " "))
		key = ""
	}
}
