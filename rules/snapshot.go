package rules

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/expression"
)

// Format of the snapshot: magic, version, CRC-32C of what follows; then the
// journal's number and the clock, pins, instances, series. Version 1.
const (
	snapshotMagic   = "ERS"
	snapshotVersion = 1
	maxSnapshot     = 2 << 30 // bytes; more is not read, nor can it be written
)

// Place is a place in the alarm stream: the last record that the state knows of.
type Place struct {
	Epoch edgeagent.Epoch
	Seq   edgeagent.Seq
}

// savedAt is when a state was saved.
type savedAt struct {
	seq       uint64 // of the last journal record it holds
	now, wall int64  // rules time, and wall time
	synced    bool
	run       edgeagent.Run
	started   bool
	place     Place
}

func (e *Engine) savedAt() savedAt {
	return savedAt{e.journalSeq, e.now, e.wall(), !e.unsynced && e.wallKnown, e.run, e.started, e.place}
}

func (w *encoder) savedAt(m savedAt) {
	w.u64(m.seq)
	w.i64(m.now)
	w.i64(m.wall)
	w.flag(m.synced)
	w.u32(uint32(m.run))
	w.flag(m.started)
	w.u64(uint64(m.place.Epoch))
	w.u64(uint64(m.place.Seq))
}

func (r *decoder) savedAt() savedAt {
	m := savedAt{r.u64(), r.i64(), r.i64(), r.flag(), edgeagent.Run(r.u32()), r.flag(), Place{edgeagent.Epoch(r.u64()), edgeagent.Seq(r.u64())}}
	if m.now < 0 || m.now > never/4 {
		r.err = errState
	}
	return m
}

// SetPlace says up to where the alarms that the engine has returned are durable.
// It goes into the journal and the snapshot: see [Engine.Load].
func (e *Engine) SetPlace(p Place) { e.place = p }

// Snapshot appends the whole state to dst. It takes as long as the state is large,
// and changes nothing.
func (e *Engine) Snapshot(dst []byte) []byte {
	w := &encoder{append(dst, snapshotMagic...)}
	w.u8(snapshotVersion)
	sum := len(w.b)
	w.u32(0)
	w.savedAt(e.savedAt())
	w.pins(e.pins)
	all := slices.Clone(e.instances)
	for _, r := range e.rules {
		if r.shared != nil {
			all = append(all, r.shared) // its name is empty
		}
	}
	w.u32(uint32(len(all)))
	for _, in := range all {
		w.instance(in, e.base)
	}
	names := slices.Sorted(maps.Keys(e.tracks))
	w.u32(uint32(len(names)))
	for _, name := range names {
		w.text(name)
		w.block(func() { w.track(e.tracks[name]) })
	}
	binary.LittleEndian.PutUint32(w.b[sum:], crc32.Checksum(w.b[sum+4:], castagnoli))
	return w.b
}

// Journal appends what has changed of instances and outputs since the last call to
// dst, as records of a journal: length, CRC-32C, content each. Write it when the
// alarms of the step are durable, not before.
func (e *Engine) Journal(dst []byte) []byte {
	changed := e.dirty
	e.dirty, e.urgent = false, false
	for _, in := range e.instances {
		if changed && in.changed {
			in.changed = false
			dst = e.record(dst, func(w *encoder) { w.u8('i'); w.instance(in, e.base) })
			dst = e.recordTracks(dst, in)
		}
	}
	if e.pinsChanged {
		e.pinsChanged = false
		dst = e.record(dst, func(w *encoder) { w.u8('p'); w.pins(e.pins) })
	}
	return dst
}

// beatEvery is how much of the time that a condition has held, or that a capture
// has run, a crash may cost: the journal says that often that it goes on.
const beatEvery = int64(time.Second)

// beatDue reports whether the journal should say what time it is.
func (e *Engine) beatDue() bool {
	if e.now-e.beat < beatEvery {
		return false
	}
	e.beat = e.now
	return e.Waiting()
}

// Waiting reports whether some rule measures a time: see [Store.Step].
func (e *Engine) Waiting() bool {
	return slices.ContainsFunc(e.instances, func(in *instance) bool {
		return in.machine.counting || in.ring != nil && in.ring.until != never ||
			slices.ContainsFunc(in.rule.calls, func(c call) bool { return c.fn == ageFn || c.fn == staleFn })
	})
}

func (e *Engine) record(dst []byte, content func(*encoder)) []byte {
	e.journalSeq++
	w := &encoder{dst}
	at := len(w.b)
	w.u64(0)
	w.savedAt(e.savedAt())
	content(w)
	body := w.b[at+8:]
	binary.LittleEndian.PutUint32(w.b[at:], uint32(len(body)))
	binary.LittleEndian.PutUint32(w.b[at+4:], crc32.Checksum(body, castagnoli))
	return w.b
}

// recordTracks writes what the series of an instance that has changed are known by,
// without their windows: what an age or a check has raised stays raised after a
// crash.
func (e *Engine) recordTracks(dst []byte, in *instance) []byte {
	for i := range in.calls {
		b := &in.calls[i]
		if b.track == nil || slices.ContainsFunc(in.calls[:i], func(o bound) bool { return o.track == b.track }) {
			continue
		}
		dst = e.record(dst, func(w *encoder) {
			w.u8('t')
			w.text(b.track.name)
			w.block(func() { w.known(b.track) })
		})
	}
	return dst
}

func (w *encoder) pins(pins []*pin) {
	w.u32(uint32(len(pins)))
	for _, p := range pins {
		w.text(p.name)
		for _, v := range []bool{p.high, p.known, p.wanted, p.active} {
			w.flag(v)
		}
		for _, v := range []int64{p.changedAt, p.offAt, p.minToggle, p.maxOn} {
			w.i64(v)
		}
	}
}

func (r *decoder) pins() []*pin {
	var out []*pin
	for range r.count(4 + 4 + 32) {
		p := &pin{name: r.text(), high: r.flag(), known: r.flag(), wanted: r.flag(), active: r.flag()}
		p.changedAt, p.offAt, p.minToggle, p.maxOn = r.time(), r.time(), r.span(), r.span()
		out = append(out, p)
	}
	return out
}

// savedInstance is the state of an instance, not yet looked into.
type savedInstance struct {
	rule, name string
	hash       uint64
	state      []byte
}

func (w *encoder) instance(in *instance, base int64) {
	w.text(in.rule.id)
	w.text(in.name)
	w.u64(in.rule.hash)
	w.block(func() { in.encode(w, base) })
}

func (r *decoder) instance() savedInstance {
	s := savedInstance{rule: r.text(), name: r.text(), hash: r.u64()}
	s.state = r.take(int(r.u32()))
	return s
}

func (in *instance) encode(w *encoder, base int64) {
	m := in.machine
	w.u8(uint8(m.phase))
	for _, v := range []bool{m.counting, m.blind, m.escalated, m.fired} {
		w.flag(v)
	}
	for _, v := range []int64{m.since, m.held, m.onset, m.firedAt, in.boost, in.onsetMs, in.lastOnset} {
		w.i64(v)
	}
	w.u32(uint32(in.onsetRun))
	w.u8(uint8(in.when))
	w.u8(uint8(in.clear))
	w.u8(uint8(in.phase))
	w.i64(in.since.Wall)
	w.text(in.id)
	w.u32(in.n)
	w.u8(uint8(in.severity))
	w.text(in.text)
	w.i64(in.last.at.Wall)
	w.i64(in.last.at.Run + base)
	w.flag(in.last.recorded)
	w.u32(uint32(len(in.slots)))
	for i := range in.slots {
		w.f64(in.values[i])
		w.i64(in.slots[i].staleAt)
		w.series(in.slots[i].series)
	}
	for i := range in.calls {
		if in.calls[i].fn == fractionFn {
			in.calls[i].encode(w)
		}
	}
	if in.ring != nil {
		in.ring.encode(w)
	}
}

func (in *instance) decode(r *decoder) {
	m := &in.machine
	m.phase = Phase(r.u8())
	m.counting, m.blind, m.escalated, m.fired = r.flag(), r.flag(), r.flag(), r.flag()
	m.since, m.held, m.onset, m.firedAt = r.time(), r.time(), r.time(), r.time()
	in.boost, in.onsetMs, in.lastOnset = r.time(), r.time(), r.time()
	in.onsetRun = edgeagent.Run(r.u32())
	in.when, in.clear, in.phase = expression.Truth(r.u8()), expression.Truth(r.u8()), Phase(r.u8())
	in.since = edgeagent.Instant{Wall: r.i64()}
	in.id, in.n, in.severity, in.text = r.text(), r.u32(), edgeagent.Severity(r.u8()), r.text()
	in.last = stamp{edgeagent.Instant{Wall: r.i64(), Run: r.i64()}, r.flag()}
	waits := m.phase == Pending || m.phase == Clearing
	if int(r.u32()) != len(in.slots) || m.phase > Clearing || m.counting && !waits || in.phase > Unknown || in.when > expression.True || in.clear > expression.True || in.severity > edgeagent.Critical {
		r.err = errState
		return
	}
	for i := range in.slots {
		in.values[i], in.slots[i].staleAt, in.slots[i].series = r.f64(), r.time(), r.series()
	}
	for i := range in.calls {
		if in.calls[i].fn == fractionFn {
			in.calls[i].decode(r)
		}
	}
	if in.ring != nil {
		in.ring.decode(r)
	}
}

// known writes a track without its windows.
func (w *encoder) known(t *track) {
	w.f64(t.value)
	w.i64(t.usableAt)
	w.flag(t.used)
	w.i64(t.began)
	w.i64(t.latest)
	w.u32(uint32(t.lateRun))
	w.f64(t.score)
	w.flag(t.alerted)
	if w.flag(t.detector != nil); t.detector != nil {
		w.block(func() { w.b = t.detector.AppendState(w.b) })
	}
}

func (w *encoder) track(t *track) {
	w.known(t)
	w.u32(uint32(len(t.order)))
	for _, s := range t.order {
		w.u8(uint8(s.class))
		w.i64(int64(s.span.Duration))
		w.u32(uint32(s.span.Count))
		w.flag(s.exact)
		w.block(func() { t.windows[s].encode(w) })
	}
}

func (t *track) decodeKnown(r *decoder) {
	t.value, t.usableAt, t.used, t.began, t.latest, t.lateRun = r.f64(), r.time(), r.flag(), r.time(), r.i64(), int(r.u32())
	t.score, t.alerted = r.f64(), r.flag()
	if r.flag() {
		state := r.take(int(r.u32()))
		if t.detector != nil && r.err == nil {
			if err := t.detector.SetState(state); err != nil {
				t.score, t.alerted = expression.NaN(), false // it learns anew
			}
		}
	}
}

// decode restores what the rules of today still look at.
func (t *track) decode(r *decoder) {
	t.decodeKnown(r)
	for range r.count(1 + 8 + 4 + 1 + 4) {
		s := windowSpec{class: windowClass(r.u8())}
		s.span.Duration, s.span.Count, s.exact = time.Duration(r.i64()), int(r.u32()), r.flag()
		block := r.block()
		if w := t.windows[s]; w != nil && r.err == nil {
			w.decode(block) // one that does not fit begins anew
		}
	}
}

// savedTrack is what the journal knows of a series, as of the rules time at.
type savedTrack struct {
	at    int64
	state []byte
}

// saved is a state that was read and not yet put to use.
type saved struct {
	savedAt
	pins      []*pin
	instances []savedInstance
	tracks    map[string][]byte
	// tracksFrom is when tracks were saved: the journal goes on without them.
	tracksFrom savedAt
	known      map[string]savedTrack // from the journal
}

func decodeSnapshot(b []byte) (*saved, error) {
	head := len(snapshotMagic) + 1
	if len(b) < head+4 || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("not a snapshot of rules: %w", errState)
	}
	if v := b[head-1]; v != snapshotVersion {
		return nil, fmt.Errorf("snapshot of version %d, this release knows %d", v, snapshotVersion)
	}
	r := &decoder{b: b[head:]}
	if sum := r.u32(); sum != crc32.Checksum(r.b, castagnoli) {
		return nil, fmt.Errorf("checksum: %w", errState)
	}
	s := &saved{savedAt: r.savedAt(), pins: r.pins(), tracks: map[string][]byte{}, known: map[string]savedTrack{}}
	for range r.count(4 + 4 + 8 + 4) {
		s.instances = append(s.instances, r.instance())
	}
	for range r.count(8) {
		name := r.text()
		s.tracks[name] = r.take(int(r.u32()))
	}
	if len(r.b) > 0 {
		r.err = errState
	}
	s.tracksFrom = s.savedAt
	return s, r.err
}

// replay takes the journal's records that are newer than the state. It returns
// how many bytes of the journal are whole: what follows was cut off.
func (s *saved) replay(journal []byte) (whole int) {
	for len(journal)-whole >= 8 {
		head := &decoder{b: journal[whole:]}
		n, sum := int(head.u32()), head.u32()
		if n < 0 || n > len(head.b) || crc32.Checksum(head.b[:n], castagnoli) != sum {
			return whole
		}
		r := &decoder{b: head.b[:n]}
		m := r.savedAt()
		switch kind := r.u8(); {
		case r.err != nil || m.seq <= s.seq:
		case kind == 'i':
			if in := r.instance(); r.err == nil {
				s.put(in)
			}
		case kind == 't':
			name := r.text()
			if state := r.block(); r.err == nil {
				s.known[name] = savedTrack{m.now, state.b}
			}
		case kind == 'p':
			if pins := r.pins(); r.err == nil {
				s.pins = pins
			}
		}
		if r.err != nil {
			return whole
		}
		if m.seq > s.seq {
			s.savedAt = m
		}
		whole += 8 + n
	}
	return whole
}

func (s *saved) put(in savedInstance) {
	i := slices.IndexFunc(s.instances, func(x savedInstance) bool { return x.rule == in.rule && x.name == in.name })
	if i < 0 {
		s.instances = append(s.instances, in)
	} else {
		s.instances[i] = in
	}
}

// Loaded says what [Engine.Load] found.
type Loaded struct {
	Place     Place // read the alarm stream from behind it
	Instances int   // restored
	Reset     int   // not restored, since their rule is another one now, or gone
	Down      time.Duration
	Whole     int // bytes of the journal that could be read
}

// Load restores the state that Snapshot and Journal saved; either may be nil.
// now is the present, and synced says whether its wall time can be trusted: then
// the time in which no engine ran is known. Call it once, after SetRun and
// SetIntervals, before Restore and the first Eval or Tick. After an error the
// engine is as new.
func (e *Engine) Load(snapshot, journal []byte, now edgeagent.Instant, synced bool) (Loaded, error) {
	s := &saved{tracks: map[string][]byte{}, known: map[string]savedTrack{}}
	if snapshot != nil {
		var err error
		if s, err = decodeSnapshot(snapshot); err != nil {
			return Loaded{}, fmt.Errorf("read state of rules: %w", err)
		}
	}
	out := Loaded{Whole: s.replay(journal)}
	if s.savedAt == (savedAt{}) {
		return out, nil
	}
	out.Place = s.place
	if synced && s.synced && now.Wall > s.wall {
		// After a month all windows are empty; more would only be counted through.
		out.Down = min(time.Duration(now.Wall-s.wall), expression.MaxWindow)
	}
	e.journalSeq, e.place = s.seq, s.place
	e.now = s.now
	e.base = s.now + int64(out.Down) - now.Run
	e.wallAhead, e.wallKnown = now.Wall-e.now-int64(out.Down), true
	e.started, e.resumed = s.started, true
	out.Reset, out.Down = e.adopt(s, out.Down)
	out.Instances = len(s.instances) - out.Reset
	return out, nil
}

// adopt puts a state to use. It returns how many instances it did not fit, and for how
// long nobody has listened.
func (e *Engine) adopt(s *saved, unknown time.Duration) (reset int, _ time.Duration) {
	down := int64(unknown)
	fresh := map[*instance]bool{}
	for _, in := range e.instances {
		fresh[in] = true
	}
	var restored []*instance
	for _, x := range s.instances {
		in := e.revive(x, s.run)
		if in == nil {
			reset++
			continue
		}
		delete(fresh, in)
		if x.name != "" {
			restored = append(restored, in)
		}
	}
	revived := map[*track]*revived{}
	for name, t := range e.tracks {
		revived[t] = t.revive(s, name)
	}
	known := len(e.instances)
	heardTo, full := e.refill(s, down, fresh, revived)
	if full {
		down -= heardTo - s.now
		e.now = heardTo
	}
	for _, in := range e.instances[known:] {
		fresh[in] = true // a series that came since
		restored = append(restored, in)
	}
	for _, t := range e.tracks {
		switch x := revived[t]; {
		case full:
			t.adopt(e.now+down, heardTo, heardTo)
		case x == nil: // a series that came with what could be read
			t.adopt(e.now+down, s.now, s.now)
		default:
			t.adopt(e.now+down, s.tracksFrom.now, x.at)
		}
	}
	e.adoptPins(s.pins, restored, e.now+down)
	e.begin()
	for _, in := range restored {
		in.machine.resume(in.rule.timing.gap, down, e.now+down)
		if in.ring != nil && in.ring.until != never && !full {
			in.ring.thinned = true // what was read before is gone
		}
		in.last.at.Run -= e.base // it was in rules time
		in.next = e.plan(in)
		e.timers.fix(in)
	}
	if !e.started {
		return reset, time.Duration(down)
	}
	for _, in := range e.instances {
		if fresh[in] {
			in.next = e.now // has to be looked at for the first time
			e.timers.fix(in)
		}
	}
	return reset, time.Duration(down)
}

// revived is until when the state of a series goes, in rules time.
type revived struct {
	windows int64 // its last reading that windows hold
	known   int64 // its last reading that the rest knows
	at      int64 // when the rest was saved
}

// revive restores what was saved of a series.
func (t *track) revive(s *saved, name string) *revived {
	from := s.tracksFrom.now
	t.try(s.tracks[name], t.decode)
	out := &revived{windows: t.since(from), at: from}
	if x, ok := s.known[name]; ok && t.try(x.state, t.decodeKnown) {
		out.at = x.at
	}
	out.known = t.since(out.at)
	return out
}

// since is the time of the last reading that counts in a state as of at.
func (t *track) since(at int64) int64 {
	if t.used {
		return t.usableAt
	}
	return at
}

// adopt puts the state of a series to use. Nobody has listened, as far as is known,
// from the times given until now: ages do not grow by that, and what wants to have
// watched begins anew.
func (t *track) adopt(now, windowsTo, at int64) {
	t.heard = now
	if deaf := now - windowsTo; deaf > 0 {
		t.rewatch(deaf, now)
	}
	if c, ok := t.detector.(Checker); ok && now > at {
		c.Resume(now)
	}
	if t.used {
		t.usableAt = min(t.usableAt, at) + now - at
	}
	if t.began >= 0 {
		t.began += now - at
	}
}

// rewatch takes a time into account in which nobody listened. One that is shorter
// than a window's panes is within what their edge is good to.
func (t *track) rewatch(deaf, now int64) {
	for _, w := range t.windows {
		switch w := w.(type) {
		case *paneWindow:
			if deaf > w.width {
				w.since = now
			}
		case *sampleWindow:
			if deaf > w.length/panes {
				w.since = now
			}
		}
	}
}

// try decodes a state, which may be nil, and undoes that if it does not fit.
func (t *track) try(state []byte, decode func(*decoder)) bool {
	before := *t
	r := &decoder{b: state}
	if state != nil {
		decode(r)
	}
	if r.err != nil {
		*t = before
	}
	return r.err == nil
}

// adoptPins goes on with the outputs of rules that do so themselves, and of those
// whose alarm may. Others are nobody's: only a max_on that runs is kept, and ends.
func (e *Engine) adoptPins(pins []*pin, restored []*instance, now int64) {
	held := map[string]bool{}
	for _, r := range e.rules {
		if r.alerts || slices.ContainsFunc(restored, func(in *instance) bool { return in.rule == r }) {
			for _, a := range slices.Concat(r.do, r.undo) {
				if a.gpio != nil {
					held[a.gpio.pin] = true
				}
			}
		}
	}
	for _, p := range pins {
		switch {
		case held[p.name] && p.offAt > now:
			e.pins = append(e.pins, p)
		case p.offAt != never: // or it ran out meanwhile: not on again for a moment
			off := !p.active
			e.pins = append(e.pins, &pin{name: p.name, high: off, known: true, wanted: off, changedAt: now, offAt: never})
		}
	}
}

// revive restores one instance if its rule is still the same.
func (e *Engine) revive(x savedInstance, run edgeagent.Run) *instance {
	i := slices.IndexFunc(e.rules, func(r *rule) bool { return r.id == x.rule && r.hash == x.hash })
	if i < 0 || e.rules[i].starred != (x.name != onlyInstance) {
		return nil
	}
	in := e.rules[i].shared
	if x.name != "" {
		in = e.instance(e.rules[i], x.name)
	}
	if in == nil {
		return nil
	}
	before := *in
	values, slots := slices.Clone(in.values), slices.Clone(in.slots)
	r := &decoder{b: x.state}
	if in.decode(r); r.err != nil || len(r.b) > 0 {
		copy(before.values, values)
		copy(before.slots, slots)
		*in = before
		return nil
	}
	if run != e.run {
		in.lastOnset = -1
	}
	return in
}
