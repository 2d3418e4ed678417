package rules

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/expression"
)

// Bounds of what may be loaded.
const (
	MaxRules    = 1000                 // in all files together
	MaxInputs   = 16                   // of one rule
	MaxDuration = 365 * 24 * time.Hour // of for, clear_for and stale_after
	maxID       = 64                   // bytes
)

// rule is a compiled [Rule].
type rule struct {
	index    int // place among all rules
	id       string
	inputs   []input // sorted by name; a condition's values stand in this order
	first    int     // the input that names the series of the rule's alarms
	starred  bool    // some inputs have a star
	plain    bool    // some inputs have none
	when     *expression.Program
	clear    *expression.Program // nil: not when
	timing   timing
	stale    time.Duration // 0: by the sensor's interval
	severity edgeagent.Severity
	text     template

	instances map[string]*instance
	// shared keeps the values of the inputs without a star for instances to
	// come; nil unless the rule has both kinds of inputs.
	shared *instance
}

type input struct {
	name    string
	pattern pattern
}

// slot returns the place of an input, or -1.
func (r *rule) slot(name string) int {
	return slices.IndexFunc(r.inputs, func(in input) bool { return in.name == name })
}

// fields are what a text may name besides the inputs.
var fields = []string{"instance", "rule", "series"}

// reserved are the fields of texts and the keys of alarms that are no inputs.
var reserved = []string{"instance", "reason", "rule", "series", "state"}

// Compile checks and compiles rule files. All mistakes are returned at once,
// joined by errors.Join, each a [*edgeagent.FieldError] with a path such as
// rules[0].when; with more than one file the path begins with files[0]. A mistake
// within an expression or a text wraps an error with a method Offset() int, in
// bytes from the start of the value.
func Compile(files []File) (*Engine, error) {
	var (
		rs    []*rule
		errs  []error
		taken = map[string]string{} // id → path
	)
	for i, f := range files {
		prefix := ""
		if len(files) > 1 {
			prefix = fmt.Sprintf("files[%d].", i)
		}
		if f.Version != 1 {
			errs = append(errs, edgeagent.Field(prefix+"version", "version %d is not known, want 1", f.Version))
		}
		for j, src := range f.Rules {
			path := fmt.Sprintf("%srules[%d]", prefix, j)
			r, mistakes := compileRule(src)
			if at, dup := taken[src.ID]; dup && src.ID != "" {
				mistakes = append(mistakes, edgeagent.Field("id", "%q is already the id of %s", src.ID, at))
			} else {
				taken[src.ID] = path
			}
			for _, err := range mistakes {
				errs = append(errs, edgeagent.InField(path, err))
			}
			r.index = len(rs)
			rs = append(rs, r)
		}
	}
	if len(rs) > MaxRules {
		errs = append(errs, edgeagent.Field("rules", "%d rules are more than %d", len(rs), MaxRules))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return newEngine(rs), nil
}

// ruleCompiler collects the mistakes of one rule.
type ruleCompiler struct {
	src  Rule
	out  *rule
	used []bool // inputs that something names
	errs []error
}

func (c *ruleCompiler) errorf(path, format string, args ...any) {
	c.errs = append(c.errs, edgeagent.Field(path, format, args...))
}

func compileRule(src Rule) (*rule, []error) {
	c := ruleCompiler{src: src, out: &rule{id: src.ID, instances: map[string]*instance{}}}
	c.id()
	c.inputs()
	c.conditions()
	c.durations()
	c.severity()
	c.actions()
	if len(c.errs) == 0 { // else one of them may be why an input is not used
		c.unused()
	}
	return c.out, c.errs
}

func (c *ruleCompiler) id() {
	switch id := c.src.ID; {
	case id == "":
		c.errorf("id", "the rule has no id")
	case len(id) > maxID:
		c.errorf("id", "id of %d bytes is over %d", len(id), maxID)
	case slices.ContainsFunc([]byte(id), func(b byte) bool { return !isIDByte(b) }):
		c.errorf("id", `id %q may hold letters, digits, "-", "_" and "." only`, id)
	}
}

func isIDByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '_' || b == '.'
}

func (c *ruleCompiler) inputs() {
	if len(c.src.Inputs) == 0 {
		c.errorf("inputs", "the rule has no inputs, want name: sensor/metric")
	}
	if len(c.src.Inputs) > MaxInputs {
		c.errorf("inputs", "%d inputs are more than %d", len(c.src.Inputs), MaxInputs)
	}
	for _, name := range slices.Sorted(maps.Keys(c.src.Inputs)) {
		path := "inputs." + name
		switch {
		case slices.Contains(reserved, name):
			c.errorf(path, "%q is not free: texts and alarms use it", name)
		case !expression.ValidName(name):
			c.errorf(path, "%q is no name: use letters, digits and _, and no word of the language", name)
		}
		p, err := parsePattern(c.src.Inputs[name])
		if err != nil {
			c.errorf(path, "%w", err)
		}
		c.out.starred = c.out.starred || p.star
		c.out.plain = c.out.plain || !p.star
		c.out.inputs = append(c.out.inputs, input{name, p})
	}
	c.used = make([]bool, len(c.out.inputs))
}

func (c *ruleCompiler) conditions() {
	if c.src.When == "" {
		c.errorf("when", "the rule has no condition")
	} else if c.out.when = c.condition("when", c.src.When); c.out.when != nil {
		if in := c.out.when.Inputs(); len(in) == 0 {
			c.errorf("when", "the condition names no input: it would never change")
		} else {
			c.out.first = in[0]
		}
	}
	if c.src.Clear != "" {
		c.out.clear = c.condition("clear", c.src.Clear)
	}
}

func (c *ruleCompiler) condition(path, source string) *expression.Program {
	names := make([]string, len(c.out.inputs))
	for i, in := range c.out.inputs {
		names[i] = in.name
	}
	p, err := expression.Compile(source, names)
	for _, e := range flatten(err) {
		c.errorf(path, "%w", e)
	}
	if err != nil {
		return nil
	}
	for _, i := range p.Inputs() {
		c.used[i] = true
	}
	return p
}

// flatten returns what errors.Join joined.
func flatten(err error) []error {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &joined):
		return joined.Unwrap()
	}
	return []error{err}
}

func (c *ruleCompiler) durations() {
	for _, d := range []struct {
		path  string
		value time.Duration
	}{{"for", c.src.For}, {"clear_for", c.src.ClearFor}, {"stale_after", c.src.StaleAfter}} {
		switch {
		case d.value < 0:
			c.errorf(d.path, "%v is negative", d.value)
		case d.value > MaxDuration:
			c.errorf(d.path, "%v is over %v", d.value, MaxDuration)
		}
	}
	c.out.timing = timing{int64(c.src.For), int64(c.src.ClearFor)}
	c.out.stale = c.src.StaleAfter
}

func (c *ruleCompiler) severity() {
	c.out.severity = edgeagent.Warning
	if s := c.src.Severity; s != nil {
		if *s > edgeagent.Critical {
			c.errorf("severity", "unknown severity %d, want info, warning or critical", *s)
		}
		c.out.severity = *s
	}
}

func (c *ruleCompiler) actions() {
	if len(c.src.Do) == 0 {
		c.errorf("do", `the rule does nothing: write "do: [{alert: {}}]" to raise an alarm`)
		return
	}
	for i, a := range c.src.Do {
		path := fmt.Sprintf("do[%d]", i)
		switch {
		case a.Alert == nil:
			c.errorf(path, `no action: write "alert: {}"`)
		case i > 0:
			c.errorf(path, "a second alert: this release raises one per rule")
		default:
			c.text(path+".alert.text", a.Alert.Text)
		}
	}
}

// text compiles an alert's text, or makes one of what the rule says of itself.
func (c *ruleCompiler) text(path, text string) {
	if len(c.src.Describe) > edgeagent.MaxEventText {
		c.errorf("describe", "%d bytes are over %d", len(c.src.Describe), edgeagent.MaxEventText)
	}
	switch {
	case text == "" && c.src.Describe != "":
		c.out.text = template{{literal: c.src.Describe}}
		return
	case text == "":
		text = "{{.rule}}: {{.series}}"
	}
	t, err := parseTemplate(text, func(field string) bool {
		return slices.Contains(fields, field) || c.out.slot(field) >= 0
	})
	if err != nil {
		c.errorf(path, "%w", err)
	}
	for _, p := range t {
		if i := c.out.slot(p.field); i >= 0 {
			c.used[i] = true
		}
	}
	c.out.text = t
}

func (c *ruleCompiler) unused() {
	for i, in := range c.out.inputs {
		if !c.used[i] {
			c.errorf("inputs."+in.name, "input %q is named neither in when nor in clear nor in the text", in.name)
		}
	}
}
