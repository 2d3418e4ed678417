package rules

import (
	"time"

	"github.com/edgeagent/edgeagent"
)

// Effect is something to be done to the world. Exactly one of its parts is set.
// Effects are commands, not states: whoever carries them out need not know what
// came before, and doing one twice does no harm, but for Run.
type Effect struct {
	Rule     string
	Instance string
	Alarm    string // id of the alarm it belongs to; empty for what a timer of a pin does
	At       edgeagent.Instant

	Output  *SetOutput
	Sample  *SetSampling
	Run     *RunProgram
	Capture *Captured
}

// SetOutput drives an output.
type SetOutput struct {
	Pin  string
	High bool
}

// SetSampling has the sensors of matching series sampled every Every; 0 returns
// to what is configured.
type SetSampling struct {
	Series string // "boiler/*"
	Every  time.Duration
}

// RunProgram starts a program of the list. Who carries it out holds MaxParallel
// and Timeout.
type RunProgram struct {
	Name        string
	Path        string
	User        string
	Args        []string
	Timeout     time.Duration
	MaxParallel int
}

// Captured are the raw readings around the moment in which an alarm was raised, in
// the order of their arrival. Thinned says that older ones did not fit.
type Captured struct {
	Readings []edgeagent.Reading
	Thinned  bool
}

// MaxEffects bounds the effects that wait for [Engine.Effects]; what comes on top
// of that replaces the oldest and is counted.
const MaxEffects = 1024

// Effects appends what is to be done since the last call to dst, in order. Call it
// after each Eval and Tick, when the alarms of that step are durable.
func (e *Engine) Effects(dst []Effect) []Effect {
	dst = append(dst, e.effects...)
	clear(e.effects)
	e.effects = e.effects[:0]
	return dst
}

func (e *Engine) effect(x Effect) {
	if len(e.effects) >= MaxEffects {
		copy(e.effects, e.effects[1:])
		e.effects = e.effects[:len(e.effects)-1]
		e.stats.EffectsDropped++
	}
	e.effects = append(e.effects, x)
}

// act does what a rule's list of actions says.
func (e *Engine) act(in *instance, list []action, st stamp) {
	for i := range list {
		a := &list[i]
		x := Effect{Rule: in.rule.id, Instance: in.name, Alarm: in.id, At: st.at}
		switch {
		case a.gpio != nil:
			e.pin(a.gpio.pin).want(a.gpio, e.now)
			e.movePin(a.gpio.pin, x)
		case a.sample != nil:
			in.boost = e.now + int64(a.sample.Limit)
			x.Sample = &SetSampling{a.sample.Series, a.sample.Every}
			e.effect(x)
		case a.exec != nil:
			x.Run = a.exec.program(in)
			e.effect(x)
		}
	}
}

// calm ends the faster sampling of an instance.
func (e *Engine) calm(in *instance, st stamp) {
	if in.boost == never {
		return
	}
	in.boost = never
	for _, a := range in.rule.do {
		if a.sample != nil {
			e.effect(Effect{Rule: in.rule.id, Instance: in.name, Alarm: in.id, At: st.at, Sample: &SetSampling{Series: a.sample.Series}})
		}
	}
}

func (x *execAction) program(in *instance) *RunProgram {
	args := make([]string, len(x.args))
	for i, t := range x.args {
		args[i] = t.fill(in.field)
	}
	return &RunProgram{x.name, x.command.Path, x.command.User, args, x.timeout, x.command.MaxParallel}
}

// pin is what the engine knows of an output. It keeps max_on and min_toggle.
type pin struct {
	name      string
	high      bool  // as last commanded
	known     bool  // it was commanded at all
	changedAt int64 // when high last changed
	wanted    bool  // what rules want, which may have to wait
	offAt     int64 // when max_on ends, or never
	minToggle int64
	maxOn     int64 // of the action that set it last; 0: none
	active    bool  // the level that max_on ends
}

func (e *Engine) pin(name string) *pin {
	for _, p := range e.pins {
		if p.name == name {
			return p
		}
	}
	p := &pin{name: name, offAt: never}
	e.pins = append(e.pins, p) // as many as the rule files name
	return p
}

// want notes what a rule wants of the pin.
func (p *pin) want(a *gpioAction, now int64) {
	p.wanted, p.minToggle = a.high, a.minToggle
	isAlready := p.known && p.high == a.high
	switch {
	case a.maxOn > 0:
		p.maxOn, p.active = a.maxOn, a.high
		if isAlready {
			p.offAt = min(p.offAt, p.changedAt+a.maxOn)
		}
	case a.high == p.active && !isAlready:
		p.maxOn = 0
	}
	if !p.known {
		p.changedAt = now - p.minToggle // the first change need not wait
	}
}

// due is when the pin changes by itself, or never.
func (p *pin) due() int64 {
	at := p.offAt
	if !p.known || p.wanted != p.high {
		at = min(at, p.changedAt+p.minToggle)
	}
	return at
}

// move returns whether the pin has to be driven now, and how.
func (p *pin) move(now int64) (high, ok bool) {
	ended := p.offAt <= now // whatever else is said
	if ended {
		p.wanted, p.offAt = !p.active, never
	}
	if p.known && p.wanted == p.high || now < p.changedAt+p.minToggle && !ended {
		return p.high, false
	}
	p.high, p.known, p.changedAt = p.wanted, true, now
	p.offAt = never
	if p.maxOn > 0 && p.high == p.active {
		p.offAt = now + p.maxOn
	}
	return p.high, true
}

func (e *Engine) movePin(name string, x Effect) {
	if high, ok := e.pin(name).move(e.now); ok {
		x.Output = &SetOutput{name, high}
		e.effect(x)
		e.pinsChanged = true
	}
}

// Output is an output that rules drive, for the part that drives it.
type Output struct {
	Pin    string
	OnExit string // high, low, or empty: leave it
	High   bool   // as last commanded
	Known  bool   // it was commanded
}

// Outputs returns the outputs of all rules by name, so that they can be set to
// their safe state at the end and after a crash.
func (e *Engine) Outputs() []Output {
	out := make([]Output, 0, len(e.onExit))
	for _, x := range e.onExit {
		o := Output{Pin: x.pin, OnExit: x.level}
		for _, p := range e.pins {
			if p.name == x.pin {
				o.High, o.Known = p.high, p.known
			}
		}
		out = append(out, o)
	}
	return out
}
