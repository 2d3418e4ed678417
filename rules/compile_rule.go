package rules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/expression"
)

// action is a compiled [Action] that has an effect.
type action struct {
	gpio   *gpioAction
	sample *Sample
	exec   *execAction
}

type gpioAction struct {
	pin              string
	high             bool
	maxOn, minToggle int64
}

type execAction struct {
	name    string
	command Command
	args    []template
	timeout time.Duration
}

// ruleCompiler collects the mistakes of one rule.
type ruleCompiler struct {
	*compiler
	src  Rule
	file File
	out  *rule
	used []bool // inputs that something names
	errs []error
}

func (c *ruleCompiler) errorf(path, format string, args ...any) {
	c.errs = append(c.errs, edgeagent.Field(path, format, args...))
}

// within reports a duration that is not within 0 and most.
func (c *ruleCompiler) within(path string, d, most time.Duration) {
	if d < 0 || d > most {
		c.errorf(path, "%v is not within 0s and %v", d, most)
	}
}

func (c *compiler) rule(src Rule, f File) (*rule, []error) {
	rc := ruleCompiler{compiler: c, src: src, file: f, out: &rule{id: src.ID, instances: map[string]*instance{}}}
	rc.id()
	rc.inputs()
	rc.conditions()
	rc.durations()
	rc.severity()
	rc.actions()
	if len(rc.errs) == 0 { // else one of them may be why an input is not used
		rc.unused()
	}
	rc.out.hash = hashOf(src)
	return rc.out, rc.errs
}

// hashOf is the hash of what a rule's state is about: when it differs, the state
// is of another rule. Texts, severities and actions may change without that.
func hashOf(r Rule) uint64 {
	h := fnv.New64a()
	put := func(s string) {
		var n [4]byte
		binary.LittleEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Inputs)) {
		put(name)
		put(r.Inputs[name])
	}
	put(r.When)
	put(r.Clear)
	put(fmt.Sprint(r.Exact, r.For, r.ClearFor, r.StaleAfter))
	return h.Sum64()
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
	names := make([]string, len(c.out.inputs))
	for i, in := range c.out.inputs {
		names[i] = in.name
	}
	scope := expression.NewScope(names)
	if c.src.When == "" {
		c.errorf("when", "the rule has no condition")
	} else if c.out.when = c.condition(scope, "when", c.src.When); c.out.when != nil {
		if in := c.out.when.Inputs(); len(in) == 0 {
			c.errorf("when", "the condition names no input: it would never change")
		} else {
			c.out.first = in[0]
		}
	}
	if c.src.Clear != "" {
		c.out.clear = c.condition(scope, "clear", c.src.Clear)
	}
	if len(c.errs) == 0 {
		c.calls(scope)
	}
}

func (c *ruleCompiler) condition(scope *expression.Scope, path, source string) *expression.Program {
	p, err := scope.Compile(source)
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

// maxRuleCalls bounds what is worked out for one evaluation of a rule.
const maxRuleCalls = 64

// calls prepares what the conditions ask besides the inputs' values.
func (c *ruleCompiler) calls(scope *expression.Scope) {
	list := scope.Calls()
	if len(list) > maxRuleCalls {
		c.errorf("when", "the conditions make %d calls, more than %d", len(list), maxRuleCalls)
		return
	}
	c.out.calls = make([]call, len(list))
	for i, src := range list {
		out := &c.out.calls[i]
		out.Call, out.fn = src, functionOf(src.Func)
		out.windowed = out.fn != fractionFn && (src.Window != (expression.Window{}) || out.fn == prevFn)
		out.spec = specOf(src, c.src.Exact)
		c.out.calendar = c.out.calendar || out.fn == hourFn || out.fn == weekdayFn
		switch out.fn {
		case modelFn:
			c.model(out)
		case ageFn:
			c.thresholds(out, len(c.out.inputs)+i)
		}
	}
}

// model finds the model that a call names.
func (c *ruleCompiler) model(out *call) {
	out.model = noModel(len(out.Features))
	if c.opts.Models == nil {
		return
	}
	m, ok := c.opts.Models[out.Text]
	switch {
	case !ok:
		c.errorf("when", "%s: there is no model %q%s", out.Source, out.Text, known(slices.Sorted(maps.Keys(c.opts.Models))))
	case m.Features() != len(out.Features):
		c.errorf("when", "%s: model %q wants %d numbers, not %d", out.Source, out.Text, m.Features(), len(out.Features))
	default:
		out.model = m
	}
}

func known(names []string) string {
	if len(names) == 0 || len(names) > 8 {
		return ""
	}
	return ", known are " + strings.Join(names, ", ")
}

// noModel stands for models while a file is only checked.
type noModel int

func (n noModel) Features() int { return int(n) }
func (n noModel) Scorer() func(x []float64) float64 {
	return func([]float64) float64 { return expression.NaN() }
}

// thresholds finds what an age is compared with.
func (c *ruleCompiler) thresholds(out *call, slot int) {
	found := false
	for _, p := range []*expression.Program{c.out.when, c.out.clear} {
		if p == nil {
			continue
		}
		limits, other := p.Thresholds(slot)
		out.free = out.free || other
		for _, s := range limits {
			found = true
			if s >= 0 && s < MaxDuration.Seconds() {
				out.thresholds = append(out.thresholds, int64(s*float64(time.Second)))
			}
		}
	}
	out.free = out.free || !found
}

func (c *ruleCompiler) durations() {
	type bounded struct {
		path  string
		value time.Duration
	}
	list := []bounded{
		{"for", c.src.For}, {"clear_for", c.src.ClearFor}, {"cooldown", c.src.Cooldown}, {"stale_after", c.src.StaleAfter},
	}
	if e := c.src.Escalate; e != nil {
		list = append(list, bounded{"escalate.after", e.After})
		if e.After == 0 {
			c.errorf("escalate.after", "after how long of firing is missing")
		}
	}
	for _, d := range list {
		switch {
		case d.value < 0:
			c.errorf(d.path, "%v is negative", d.value)
		case d.value > MaxDuration:
			c.errorf(d.path, "%v is over %v", d.value, MaxDuration)
		}
	}
	c.out.timing = timing{hold: int64(c.src.For), clearHold: int64(c.src.ClearFor), cooldown: int64(c.src.Cooldown), gap: c.src.OnGap}
	if e := c.src.Escalate; e != nil {
		c.out.timing.escalate = int64(e.After)
	}
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
	if e := c.src.Escalate; e != nil {
		if c.out.escalateTo = e.To; e.To <= c.out.severity || e.To > edgeagent.Critical {
			c.errorf("escalate.to", "%v is not above the rule's severity, %v", e.To, c.out.severity)
		}
	}
}

// text compiles a text that may name inputs.
func (c *ruleCompiler) text(path, text string) template {
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
	return t
}

func (c *ruleCompiler) unused() {
	for i, in := range c.out.inputs {
		if !c.used[i] {
			c.errorf("inputs."+in.name, "input %q is named neither in when nor in clear nor in the text", in.name)
		}
	}
}

func (c *ruleCompiler) actions() {
	if len(c.src.Describe) > edgeagent.MaxEventText {
		c.errorf("describe", "%d bytes are over %d", len(c.src.Describe), edgeagent.MaxEventText)
	}
	if len(c.src.Do) == 0 {
		c.errorf("do", `the rule does nothing: write "do: [{alert: {}}]" to raise an alarm`)
	}
	if c.src.Escalate != nil && !slices.ContainsFunc(c.src.Do, func(a Action) bool { return a.Alert != nil }) {
		c.errorf("escalate", "the rule raises no alarm that could escalate")
	}
	c.out.do = c.list("do", c.src.Do)
	undo := make([]Action, len(c.src.Undo))
	for i, u := range c.src.Undo {
		undo[i] = Action{GPIO: u.GPIO, Exec: u.Exec}
	}
	c.out.undo = c.list("undo", undo)
}

func (c *ruleCompiler) list(name string, list []Action) []action {
	if len(list) > MaxActions {
		c.errorf(name, "%d actions are more than %d", len(list), MaxActions)
		return nil
	}
	var out []action
	for i, a := range list {
		path := fmt.Sprintf("%s[%d]", name, i)
		set := 0
		for _, is := range []bool{a.Alert != nil, a.GPIO != nil, a.Sample != nil, a.Exec != nil, a.Tag != nil} {
			if is {
				set++
			}
		}
		switch {
		case set == 0:
			c.errorf(path, "no action: write one of %s", map[string]string{"do": `"alert: {}", gpio, sample, exec and tag`, "undo": "gpio and exec"}[name])
		case set > 1:
			c.errorf(path, "one action has one key: begin another with a dash")
		case a.Alert != nil:
			c.alert(path+".alert", *a.Alert)
		case a.Tag != nil:
			c.tagged(path+".tag", *a.Tag)
		case a.GPIO != nil:
			out = append(out, action{gpio: c.gpio(path+".gpio", *a.GPIO)})
		case a.Sample != nil:
			out = append(out, action{sample: c.sample(path+".sample", *a.Sample)})
		default:
			out = append(out, action{exec: c.exec(path+".exec", *a.Exec)})
		}
	}
	return out
}

func (c *ruleCompiler) alert(path string, a Alert) {
	if c.out.alerts {
		c.errorf(strings.TrimSuffix(path, ".alert"), "a second alert: a rule raises one")
		return
	}
	c.out.alerts = true
	switch text := a.Text; {
	case text == "" && c.src.Describe != "":
		c.out.text = template{{literal: c.src.Describe}}
	case text == "":
		c.out.text = c.text(path+".text", "{{.rule}}: {{.series}}")
	default:
		c.out.text = c.text(path+".text", text)
	}
	if c.out.priority = a.Priority; !slices.Contains([]string{"", "low", "normal", "high"}, a.Priority) {
		c.errorf(path+".priority", "unknown priority %q, want low, normal or high", a.Priority)
	}
	if a.Capture == nil {
		return
	}
	cp := *a.Capture
	c.within(path+".capture.before", cp.Before, time.Hour)
	c.within(path+".capture.after", cp.After, time.Hour)
	if cp.Before+cp.After == 0 {
		c.errorf(path+".capture", "nothing to capture: say how long before and after")
	}
	if cp.Readings == 0 {
		cp.Readings = 512
	}
	if cp.Readings < 16 || cp.Readings > 8192 {
		c.errorf(path+".capture.readings", "%d is not within 16 and 8192", cp.Readings)
	}
	c.out.capture = &cp
}

func (c *ruleCompiler) tagged(path string, t Tag) {
	for q := edgeagent.Suspect; q <= edgeagent.Bad; q++ {
		if t.Quality == q.String() {
			c.out.tag = max(c.out.tag, q)
			return
		}
	}
	c.errorf(path+".quality", "unknown quality %q, want suspect, stale or bad", t.Quality)
}

func (c *ruleCompiler) gpio(path string, g GPIO) *gpioAction {
	level := func(key, value string, optional bool) {
		if value != "high" && value != "low" && (value != "" || !optional) {
			c.errorf(path+"."+key, "unknown level %q, want high or low", value)
		}
	}
	if g.Pin == "" {
		c.errorf(path+".pin", "the name of an output is missing")
	}
	level("set", g.Set, false)
	level("on_exit", g.OnExit, true)
	c.within(path+".max_on", g.MaxOn, MaxDuration)
	c.within(path+".min_toggle", g.MinToggle, MaxDuration)
	before, seen := c.pins[g.Pin]
	switch {
	case !seen || before.level == "":
		c.pins[g.Pin] = pinExit{g.Pin, g.OnExit, c.src.ID}
	case g.OnExit != "" && g.OnExit != before.level:
		c.errorf(path+".on_exit", "rule %s leaves %s %s at the end, this one %s", before.path, g.Pin, before.level, g.OnExit)
	}
	return &gpioAction{g.Pin, g.Set == "high", int64(g.MaxOn), int64(g.MinToggle)}
}

func (c *ruleCompiler) sample(path string, s Sample) *Sample {
	if _, err := parsePattern(s.Series); err != nil {
		c.errorf(path+".series", "%w", err)
	}
	if s.Every < 10*time.Millisecond || s.Every > time.Hour {
		c.errorf(path+".every", "%v is not within 10ms and 1h", s.Every)
	}
	if s.While != "" && s.While != "firing" {
		c.errorf(path+".while", "unknown %q, want firing", s.While)
	}
	if s.Limit == 0 {
		s.Limit = 30 * time.Minute
	}
	c.within(path+".limit", s.Limit, 24*time.Hour)
	return &s
}

func (c *ruleCompiler) exec(path string, x Exec) *execAction {
	cmd, ok := c.file.Exec[x.Run]
	if !ok {
		c.errorf(path+".run", "%q is not in the list of programs%s", x.Run, known(slices.Sorted(maps.Keys(c.file.Exec))))
	}
	out := &execAction{name: x.Run, command: cmd, timeout: x.Timeout}
	if len(x.Args) > 32 {
		c.errorf(path+".args", "%d arguments are more than 32", len(x.Args))
	}
	for i, a := range x.Args {
		out.args = append(out.args, c.text(fmt.Sprintf("%s.args[%d]", path, i), a))
	}
	if out.timeout == 0 {
		out.timeout = 10 * time.Second
	}
	c.within(path+".timeout", out.timeout, time.Hour)
	out.command.MaxParallel = max(1, cmd.MaxParallel)
	return out
}

// check checks a program of the list.
func (x Command) check() (errs []error) {
	if !filepath.IsAbs(x.Path) && !strings.HasPrefix(x.Path, "/") {
		errs = append(errs, edgeagent.Field("path", "%q is not an absolute path", x.Path))
	}
	if x.MaxParallel < 0 || x.MaxParallel > 16 {
		errs = append(errs, edgeagent.Field("max_parallel", "%d is not within 1 and 16", x.MaxParallel))
	}
	return errs
}
