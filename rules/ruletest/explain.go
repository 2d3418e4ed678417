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

// Explain replays readings up to and including a moment and writes, for each
// instance of a rule, where it stands then and what each part of its conditions
// came to. A zero moment is that of the last reading.
func Explain(w io.Writer, files []rules.File, o rules.Options, readings iter.Seq2[edgeagent.Reading, error], id string, at time.Time) error {
	e, err := o.Compile(files)
	if err != nil {
		return err
	}
	shaper, err := rules.NewShaper(nil)
	if err != nil {
		return err
	}
	p := player{engine: e, shaper: shaper, open: map[string]int64{}, byRule: map[string]*RuleOutcome{}}
	for _, id := range e.Rules() {
		p.byRule[id] = &RuleOutcome{ID: id}
	}
	for r, err := range readings {
		if err != nil {
			return fmt.Errorf("read recorded readings: %w", err)
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
		return fmt.Errorf("there is no rule %q, known are %s", id, strings.Join(e.Rules(), ", "))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s at %s, after %d readings\n", id, time.Unix(0, p.now.Wall).UTC().Format(time.RFC3339Nano), p.out.Readings)
	if len(list) == 0 {
		b.WriteString("no instance: no series matched the * of its inputs\n")
	}
	for _, x := range list {
		fmt.Fprintf(&b, "%s (%s): %s", x.Instance, x.Series, x.State.State)
		if x.Needs > 0 {
			fmt.Fprintf(&b, ", has held for %s of %s", short(x.Held), short(x.Needs))
		}
		if x.NextOK {
			fmt.Fprintf(&b, ", looks again at %s", time.Unix(0, p.first+int64(x.Next)).UTC().Format(time.RFC3339Nano))
		}
		b.WriteString("\n")
		writeParts(&b, "when", x.When)
		writeParts(&b, "clear", x.Clear)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

func writeParts(b *strings.Builder, key string, parts []rules.Part) {
	for _, p := range parts {
		fmt.Fprintf(b, "  %-5s %-12s %s%s\n", key, p.Value, strings.Repeat("  ", p.Depth), strings.Join(strings.Fields(p.Source), " "))
		key = ""
	}
}
