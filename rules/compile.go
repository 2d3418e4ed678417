package rules

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/expression"
)

// Bounds of what may be loaded.
const (
	MaxRules    = 1000                 // in all files together
	MaxInputs   = 16                   // of one rule
	MaxActions  = 16                   // in one list
	MaxDuration = 365 * 24 * time.Hour // of for, clear_for, cooldown, escalate.after and stale_after
	maxID       = 64                   // bytes
)

// Options is what rules are compiled against. The zero value is a world without
// models, detectors and bounds.
type Options struct {
	// Memory bounds the state of all rules together; 0: no bound. A file's own
	// bound holds besides.
	Memory edgeagent.Bytes
	// Models are what model("name", …) may ask. Nil: names are not checked, and
	// such calls are unknown, which is enough to check a file.
	Models map[string]Model
	// Detector makes the detector of a series that anomaly() or anomaly_alert()
	// ask about. Nil: they are unknown.
	Detector func(series string, f Facts) Detector
	// Facts are what is known of series besides the files: from the sensors'
	// configuration and their data sheets. What a file says goes before it.
	Facts map[string]Facts
	// Location is the time zone of hour() and weekday(); default UTC.
	Location *time.Location
}

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
	calls    []call
	timing   timing
	stale    time.Duration // 0: by the sensor's interval
	severity edgeagent.Severity
	builtin  bool   // it is the check of a series with facts
	about    *Facts // of a check
	hash     uint64 // of what decides about the state: see hashOf
	calendar bool   // it asks for the hour or the day

	escalateTo edgeagent.Severity
	alerts     bool
	text       template
	priority   string
	capture    *Capture
	tag        edgeagent.Quality
	do, undo   []action
	watchers   []*rule // rules that ask for this one's state
	depth      int     // 0, or one more than that of any rule it asks: it comes after them

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
var fields = []string{"instance", "reason", "rule", "series"}

// reserved are the fields of texts and the keys of alarms that are no inputs.
var reserved = []string{"instance", "priority", "reason", "rule", "series", "state"}

// Compile is [Options.Compile] without options.
func Compile(files []File) (*Engine, error) { return Options{}.Compile(files) }

// Compile checks and compiles rule files. All mistakes are returned at once,
// joined by errors.Join, each a [*edgeagent.FieldError] with a path such as
// rules[0].when; with more than one file the path begins with files[0]. A mistake
// within an expression or a text wraps an error with a method Offset() int, in
// bytes from the start of the value.
func (o Options) Compile(files []File) (*Engine, error) {
	if o.Location == nil {
		o.Location = time.UTC
	}
	c := compiler{opts: o, taken: map[string]string{}, pins: map[string]pinExit{}}
	for i, f := range files {
		prefix := ""
		if len(files) > 1 {
			prefix = fmt.Sprintf("files[%d].", i)
		}
		c.file(prefix, f)
	}
	c.defaults(o.Facts)
	if len(c.rules) > MaxRules {
		c.errs = append(c.errs, edgeagent.Field("rules", "%d rules are more than %d", len(c.rules), MaxRules))
	}
	if o.Detector != nil && len(c.errs) == 0 {
		c.checks()
	}
	c.link()
	c.toggles()
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	e := newEngine(c.rules, o)
	e.facts, e.onExit = c.facts, slices.SortedFunc(maps.Values(c.pins), func(a, b pinExit) int { return strings.Compare(a.pin, b.pin) })
	e.layered = slices.ContainsFunc(c.rules, func(r *rule) bool { return r.depth > 0 })
	e.tags = slices.ContainsFunc(c.rules, func(r *rule) bool { return r.tag > 0 || r.builtin })
	if err := c.fits(e, files); err != nil {
		return nil, err
	}
	e.populate()
	return e, nil
}

// compiler collects what all files say.
type compiler struct {
	opts  Options
	rules []*rule
	paths []string // of rules
	facts []fact
	taken map[string]string // id → path
	pins  map[string]pinExit
	errs  []error
}

// pinExit is what an output does when the agent stops.
type pinExit struct{ pin, level, path string }

func (c *compiler) file(prefix string, f File) {
	if f.Version != 1 {
		c.errs = append(c.errs, edgeagent.Field(prefix+"version", "version %d is not known, want 1", f.Version))
	}
	if f.Memory < 0 {
		c.errs = append(c.errs, edgeagent.Field(prefix+"memory", "%v is negative", f.Memory))
	}
	for _, name := range slices.Sorted(maps.Keys(f.Sensors)) {
		p, err := f.Sensors[name].check(name)
		c.errs = append(c.errs, inFields(prefix+"sensors."+name, err)...)
		c.facts = append(c.facts, fact{p, f.Sensors[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(f.Exec)) {
		c.errs = append(c.errs, inFields(prefix+"exec."+name, f.Exec[name].check())...)
	}
	for j, src := range f.Rules {
		path := fmt.Sprintf("%srules[%d]", prefix, j)
		r, mistakes := c.rule(src, f)
		if at, dup := c.taken[src.ID]; dup && src.ID != "" {
			mistakes = append(mistakes, edgeagent.Field("id", "%q is already the id of %s", src.ID, at))
		} else {
			c.taken[src.ID] = path
		}
		c.errs = append(c.errs, inFields(path, mistakes)...)
		r.index = len(c.rules)
		c.rules, c.paths = append(c.rules, r), append(c.paths, path)
	}
	for j, s := range f.Shape {
		_, mistakes := compileShape(s)
		c.errs = append(c.errs, inFields(fmt.Sprintf("%sshape[%d]", prefix, j), mistakes)...)
	}
}

func inFields(path string, errs []error) []error {
	for i, err := range errs {
		errs[i] = edgeagent.InField(path, err)
	}
	return errs
}

// toggles has all actions of an output keep the longest min_toggle of any: it is
// about the output, not about who drives it.
func (c *compiler) toggles() {
	longest := map[string]int64{}
	for range 2 {
		for _, r := range c.rules {
			for _, a := range slices.Concat(r.do, r.undo) {
				if g := a.gpio; g != nil {
					g.minToggle = max(g.minToggle, longest[g.pin])
					longest[g.pin] = g.minToggle
				}
			}
		}
	}
}

// checks makes a rule for each series, or pattern, whose facts can be checked: it
// raises an alarm while a reading cannot be what it says it is, and lowers the
// quality of the readings. Nobody has to ask for it.
func (c *compiler) checks() {
	checked := map[string]bool{} // series and ids
	for i := range c.facts {
		f := &c.facts[i]
		if f.facts.Min == nil && f.facts.Max == nil && f.facts.MaxRate == 0 && f.facts.Every == 0 {
			continue
		}
		series := f.pattern.name("*")
		id := checkID(series)
		if checked[series] {
			continue // another file has facts of it, too: the first count
		}
		if checked[id] {
			id = otherID(id, series)
		}
		checked[series], checked[id] = true, true
		if _, taken := c.taken[id]; taken {
			continue // somebody has a rule of that name instead
		}
		r, errs := c.rule(Rule{
			ID: id, Inputs: map[string]string{"x": series}, When: "faulty(x)",
			Do: []Action{{Alert: &Alert{Text: "{{.series}}: {{.reason}}"}}},
		}, File{})
		if len(errs) > 0 {
			continue // cannot be: the facts' name has been checked
		}
		c.taken[id] = "sensors." + series
		r.builtin, r.about, r.index = true, &f.facts, len(c.rules)
		c.rules, c.paths = append(c.rules, r), append(c.paths, "sensors."+series)
	}
}

// checkID names the check of a series: "check.boiler-temp".
func checkID(series string) string {
	id := []byte("check." + series)
	for i, b := range id {
		if !isIDByte(b) {
			id[i] = '-'
		}
	}
	return string(id[:min(len(id), maxID)])
}

// otherID names the check of a series whose name is another's when written as an
// id, or as far as an id goes.
func otherID(id, series string) string {
	h := fnv.New32a()
	h.Write([]byte(series))
	sum := fmt.Sprintf("-%08x", h.Sum32())
	return id[:min(len(id), maxID-len(sum))] + sum
}

// check checks facts; name is the series that they are about.
func (f Facts) check(name string) (p pattern, errs []error) {
	errorf := func(path, format string, args ...any) {
		errs = append(errs, edgeagent.Field(path, format, args...))
	}
	p, err := parsePattern(name)
	if err != nil {
		errorf("", "%w", err)
	}
	if f.Min != nil && f.Max != nil && *f.Min >= *f.Max {
		errorf("min", "%v is not below max, %v", *f.Min, *f.Max)
	}
	if f.Resolution < 0 {
		errorf("resolution", "%v is negative", f.Resolution)
	}
	if f.Every < 0 || f.Every > MaxDuration {
		errorf("every", "%v is not within 0s and %v", f.Every, MaxDuration)
	}
	if f.Lateness < 0 || f.Lateness > time.Hour {
		errorf("lateness", "%v is not within 0s and 1h", f.Lateness)
	}
	return p, errs
}

// link ties rules that ask for the state of others to them, and refuses circles.
func (c *compiler) link() {
	byID := map[string]*rule{}
	for _, r := range c.rules {
		byID[r.id] = r
	}
	for i, r := range c.rules {
		for j := range r.calls {
			call := &r.calls[j]
			if call.fn != ruleFn {
				continue
			}
			if call.watched = byID[call.Text]; call.watched == nil {
				c.errs = append(c.errs, edgeagent.Field(c.paths[i]+".when", "%s: there is no rule %q", call.Source, call.Text))
			} else if !slices.Contains(call.watched.watchers, r) {
				call.watched.watchers = append(call.watched.watchers, r)
			}
		}
	}
	circle := false
	for i, r := range c.rules {
		if reaches(r, r, map[*rule]bool{}) {
			circle = true
			c.errs = append(c.errs, edgeagent.Field(c.paths[i]+".when", "the rule asks for its own state, by way of rule(…).firing"))
		}
	}
	if !circle {
		for _, r := range c.rules {
			r.sink(0)
		}
	}
}

// sink puts a rule, and those that ask for its state, at depth or below.
func (r *rule) sink(depth int) {
	if depth < r.depth || depth > 0 && depth == r.depth {
		return
	}
	r.depth = depth
	for _, w := range r.watchers {
		w.sink(depth + 1)
	}
}

// reaches reports whether target's state depends on that of r.
func reaches(r, target *rule, seen map[*rule]bool) bool {
	for _, w := range r.watchers {
		if w == target {
			return true
		}
		if !seen[w] {
			seen[w] = true
			if reaches(w, target, seen) {
				return true
			}
		}
	}
	return false
}

// Cost is the memory of one rule.
type Cost struct {
	Rule  string
	Bytes int64 // of one instance, with what its series take as far as no rule before it has them
	Calls int   // values that are worked out for each evaluation
	Many  bool  // one such instance for each text of its star
}

// Costs returns the memory of each rule, in order.
func (e *Engine) Costs() []Cost {
	bare := newEngine(e.rules, e.opts)
	bare.facts = e.facts
	var out []Cost
	for _, r := range e.rules {
		if r.builtin {
			continue // it gets what is left
		}
		out = append(out, Cost{r.id, r.cost() + bare.trackCost(r, "*"), len(r.calls), r.starred})
		if !r.starred {
			bare.bind(newInstance(r, onlyInstance)) // what it shares is counted once
		}
	}
	return out
}

// fits holds the memory of one instance of every rule against the bounds.
func (c *compiler) fits(e *Engine, files []File) error {
	costs := e.Costs()
	var errs []error
	var all int64
	i := 0
	for j, f := range files {
		var sum int64
		for range f.Rules {
			sum += costs[i].Bytes
			i++
		}
		if limit := int64(f.Memory); limit > 0 && sum > limit {
			path := "memory"
			if len(files) > 1 {
				path = fmt.Sprintf("files[%d].memory", j)
			}
			errs = append(errs, edgeagent.Field(path, "the rules need %v at least, more than %v", edgeagent.Bytes(sum), f.Memory))
		}
		all += sum
	}
	if limit := int64(c.opts.Memory); limit > 0 && all > limit {
		errs = append(errs, &edgeagent.FieldError{Path: "memory", Err: edgeagent.WithHint(
			fmt.Errorf("the rules need %v at least, more than %v", edgeagent.Bytes(all), c.opts.Memory),
			`raise "rules.memory", or shorten what "edgeagent rules check" shows as large`)})
	}
	return errors.Join(errs...)
}
