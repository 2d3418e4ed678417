package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/rules"
)

// fakeBuffer writes down what is appended, in order: "alarm a/-/1 1", "3 readings".
type fakeBuffer struct {
	mu           sync.Mutex
	log          []string
	alarmErr     error
	readingErr   error
	invalidValue float64 // of readings that are never taken; 0: none
	stored       []float64
	invalid      string // id of an alarm that is never taken
	failAfter    int    // readings calls that still work when readingErr is set
	block        chan struct{}
	alarmCalls   int
	readingCalls int
	captureErr   error
	events       []edgeagent.Event
}

func (b *fakeBuffer) Append(_ context.Context, rs []edgeagent.Reading) (edgeagent.Seq, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.readingCalls++
	if b.readingErr != nil && b.readingCalls > b.failAfter {
		return 0, b.readingErr
	}
	for _, r := range rs {
		if b.invalidValue != 0 && r.Value == b.invalidValue {
			return 0, fmt.Errorf("append readings: %w: %v", buffer.ErrInvalid, r.Value)
		}
	}
	for _, r := range rs {
		b.stored = append(b.stored, r.Value)
	}
	b.log = append(b.log, fmt.Sprintf("%d readings", len(rs)))
	return 0, nil
}

func (b *fakeBuffer) AppendEvents(_ context.Context, s edgeagent.Stream, evs []edgeagent.Event) (edgeagent.Seq, error) {
	if b.block != nil {
		<-b.block
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alarmCalls++
	if b.alarmErr != nil {
		return 0, b.alarmErr
	}
	for _, ev := range evs {
		if ev.ID == b.invalid {
			return 0, fmt.Errorf("append events: %w: %s", buffer.ErrInvalid, ev.ID)
		}
	}
	for _, ev := range evs {
		b.log = append(b.log, fmt.Sprintf("%s %s %d", s, ev.ID, ev.N))
	}
	b.events = append(b.events, evs...)
	return 0, nil
}

// Capture makes a part of every 100 readings.
func (b *fakeBuffer) Capture(rs []edgeagent.Reading) (parts [][]byte, thinned bool, err error) {
	if b.captureErr != nil {
		return nil, false, b.captureErr
	}
	for ; len(rs) > 0; rs = rs[min(100, len(rs)):] {
		parts = append(parts, fmt.Appendf(nil, "%d readings", min(100, len(rs))))
	}
	return parts, false, nil
}

func (b *fakeBuffer) refuseAlarms(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alarmErr = err
}

func (b *fakeBuffer) calls() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.alarmCalls
}

// fakeRules raises one alarm per reading whose value is not 0.
type fakeRules struct {
	quiet  bool
	n      int
	ticks  int
	timer  time.Duration // of NextTimer; negative: none
	onTick func(dst []edgeagent.Event) []edgeagent.Event
	onEval func()
}

func (r *fakeRules) Eval(dst []edgeagent.Event, rs []edgeagent.Reading) []edgeagent.Event {
	for _, x := range rs {
		if x.Value != 0 && !r.quiet {
			r.n++
			dst = append(dst, edgeagent.Event{Kind: edgeagent.KindAlarm, ID: fmt.Sprintf("a/-/%d", r.n), N: 1})
		}
	}
	if r.onEval != nil {
		r.onEval()
	}
	return dst
}

func (r *fakeRules) Tick(dst []edgeagent.Event, _ edgeagent.Instant) []edgeagent.Event {
	r.ticks++
	if r.onTick != nil {
		dst = r.onTick(dst)
	}
	return dst
}

func (r *fakeRules) NextTimer() (time.Duration, bool) { return r.timer, r.timer >= 0 }

func newTestPipeline(b appender, r ruler) *pipeline {
	return newPipeline(b, r, clock.Go(), slog.New(slog.DiscardHandler))
}

var hot = edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "boiler", Metric: "temperature", Unit: "Cel", Resolution: edgeagent.DefaultResolution})

func values(vs ...float64) []edgeagent.Reading {
	rs := make([]edgeagent.Reading, len(vs))
	for i, v := range vs {
		rs[i] = edgeagent.Reading{Series: hot, Value: v}
	}
	return rs
}

var errDisk = edgeagent.WithHint(errors.New("disk is full"), "make room")

func TestAlarmsAreAppendedBeforeTheirReadings(t *testing.T) {
	b := &fakeBuffer{}
	p := newTestPipeline(b, &fakeRules{timer: -1})
	if err := p.Put(t.Context(), values(0, 1, 1)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"alarm a/-/1 1", "alarm a/-/2 1", "3 readings"}, b.log); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if p.accepted.Load() != 5 || p.alarms.Load() != 2 {
		t.Errorf("accepted %d, alarms %d", p.accepted.Load(), p.alarms.Load())
	}
}

func TestRefusedAlarmsAreTriedAgainInOrder(t *testing.T) {
	b := &fakeBuffer{alarmErr: errDisk}
	p := newTestPipeline(b, &fakeRules{timer: -1})
	for range 3 {
		if err := p.Put(t.Context(), values(1)); err != nil {
			t.Fatal("readings are refused for the alarms' sake:", err)
		}
	}
	if got := p.pendingAlarms.Load(); got != 3 {
		t.Errorf("%d alarms pending, want 3", got)
	}
	// The readings went well, and yet the alarms are in trouble.
	h := p.troubles()
	if len(h) != 1 || h[0].Code != "alarms-pending" || h[0].Level != edgeagent.Failed || h[0].Hint != "make room" {
		t.Errorf("health %+v", h)
	}
	b.refuseAlarms(nil)
	if err := p.Put(t.Context(), values(1)); err != nil {
		t.Fatal(err)
	}
	want := []string{"1 readings", "1 readings", "1 readings", "alarm a/-/1 1", "alarm a/-/2 1", "alarm a/-/3 1", "alarm a/-/4 1", "1 readings"}
	if diff := cmp.Diff(want, b.log); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if h := p.troubles(); len(h) != 0 || p.pendingAlarms.Load() != 0 || p.accepted.Load() != 8 {
		t.Errorf("health %v, pending %d, accepted %d", h, p.pendingAlarms.Load(), p.accepted.Load())
	}
}

// TestInvalidReadingCostsOnlyItself: a reading that no buffer will ever take does not
// take the others of its sample with it.
func TestInvalidReadingCostsOnlyItself(t *testing.T) {
	b := &fakeBuffer{invalidValue: -1}
	p := newTestPipeline(b, &fakeRules{timer: -1, quiet: true})
	sample := make([]float64, 1000)
	var want []float64
	for i := range sample {
		sample[i] = float64(i + 1)
		if i%300 == 7 {
			sample[i] = -1
		} else {
			want = append(want, sample[i])
		}
	}
	if err := p.Put(t.Context(), values(sample...)); !errors.Is(err, buffer.ErrInvalid) {
		t.Errorf("Put: %v", err)
	}
	if diff := cmp.Diff(want, b.stored); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if p.accepted.Load() != uint64(len(want)) || p.refused.Load() != 4 {
		t.Errorf("accepted %d, refused %d", p.accepted.Load(), p.refused.Load())
	}
}

// TestInvalidAlarmHoldsNobodyUp: an alarm that no buffer will ever take is given up,
// counted, and those behind it go through.
func TestInvalidAlarmHoldsNobodyUp(t *testing.T) {
	b := &fakeBuffer{invalid: "a/-/2"}
	p := newTestPipeline(b, &fakeRules{timer: -1})
	if err := p.Put(t.Context(), values(1, 1, 1)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"alarm a/-/1 1", "alarm a/-/3 1", "3 readings"}, b.log); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if h := p.troubles(); len(h) != 1 || h[0].Code != "alarms-dropped" || p.pendingAlarms.Load() != 0 || p.accepted.Load() != 5 {
		t.Errorf("health %v, pending %d, accepted %d", h, p.pendingAlarms.Load(), p.accepted.Load())
	}
}

func TestPendingAlarmsAreBounded(t *testing.T) {
	b := &fakeBuffer{alarmErr: errDisk}
	p := newTestPipeline(b, &fakeRules{timer: -1})
	for range maxPendingAlarms + 44 {
		_ = p.Put(t.Context(), values(1))
	}
	if len(p.pending) != maxPendingAlarms || p.alarmsDropped.Load() != 44 || p.alarms.Load() != maxPendingAlarms+44 {
		t.Errorf("pending %d, dropped %d, raised %d", len(p.pending), p.alarmsDropped.Load(), p.alarms.Load())
	}
	if p.pending[0].ID != "a/-/1" {
		t.Errorf("the oldest is %s: it says how it began", p.pending[0].ID)
	}
	// One step that raises more than the bound is appended whole if the buffer lets it.
	b.refuseAlarms(nil)
	if err := p.Put(t.Context(), values(make([]float64, 300)...)); err != nil {
		t.Fatal(err)
	}
	ones := make([]float64, 2*maxPendingAlarms)
	for i := range ones {
		ones[i] = 1
	}
	if err := p.Put(t.Context(), values(ones...)); err != nil || p.alarmsDropped.Load() != 44 {
		t.Errorf("%v, dropped %d", err, p.alarmsDropped.Load())
	}
}

func TestRefusedReadingsAreCounted(t *testing.T) {
	b := &fakeBuffer{readingErr: errDisk, failAfter: 1}
	p := newTestPipeline(b, &fakeRules{timer: -1})
	if err := p.Put(t.Context(), values(make([]float64, maxAppend+100)...)); !errors.Is(err, errDisk) {
		t.Errorf("error %v", err)
	}
	if p.accepted.Load() != maxAppend || p.refused.Load() != 100 {
		t.Errorf("accepted %d, refused %d", p.accepted.Load(), p.refused.Load())
	}
	if r := p.lastRefusal.Load(); r == nil || !errors.Is(r.err, errDisk) {
		t.Errorf("refusal %v", r)
	}
	b.readingErr = nil
	if err := p.Put(t.Context(), values(0)); err != nil || p.lastRefusal.Load() != nil {
		t.Errorf("after the trouble: %v, %v", err, p.lastRefusal.Load())
	}
}

// steppedClock is a clock whose wall time goes back an hour with every look.
type steppedClock struct {
	clock.Clock
	mu   sync.Mutex
	wall time.Time
}

func (c *steppedClock) Wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(-time.Hour)
	return c.wall
}

func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := &fakeBuffer{readingErr: errDisk}
		p := newPipeline(b, &fakeRules{timer: -1}, &steppedClock{Clock: clock.Go(), wall: time.Now()}, slog.New(slog.NewTextHandler(&out, nil)))
		for range 250 { // 25 s
			_ = p.Put(t.Context(), values(0))
			sleep(t.Context(), 100*time.Millisecond)
		}
		// By run time: a clock that is set back must not silence the log.
		if n := strings.Count(out.String(), "buffer refused records"); n != 3 {
			t.Errorf("%d lines in 25 s, want 3", n)
		}
	})
}

// runPipeline runs p until the returned function is called.
func runPipeline(t *testing.T, p *pipeline) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return func() { cancel(); <-done }
}

func TestPipelineNeverSpins(t *testing.T) {
	cases := []struct {
		name  string
		timer time.Duration
		most  int // ticks in 10 s
	}{
		{"no timer", -1, 1},
		{"a timer that has passed for ever", 0, int(10*time.Second/leastTick) + 1},
		{"a timer far off", 24 * time.Hour, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &fakeRules{timer: c.timer}
				p := newTestPipeline(&fakeBuffer{}, r)
				stop := runPipeline(t, p)
				for range 100 {
					sleep(t.Context(), 100*time.Millisecond)
					if err := p.Put(t.Context(), values(0)); err != nil {
						t.Fatal(err)
					}
				}
				stop()
				if r.ticks > c.most || r.ticks == 0 {
					t.Errorf("%d ticks in 10 s, want 1 to %d", r.ticks, c.most)
				}
			})
		})
	}
}

// A reading that changes no timer must not wake anybody: that is a switch of
// goroutines per reading on one core.
func TestReadingsWakeTheTimersOnlyWhenNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeRules{timer: time.Minute}
		p := newTestPipeline(&fakeBuffer{}, r)
		stop := runPipeline(t, p)
		defer stop()
		synctest.Wait()
		_ = p.Put(t.Context(), values(0))
		if len(p.wake) != 0 {
			t.Error("woken for a timer that did not move")
		}
		p.mu.Lock()
		r.timer = 3 * time.Second
		p.mu.Unlock()
		_ = p.Put(t.Context(), values(0))
		sleep(t.Context(), 3*time.Second+time.Millisecond)
		p.mu.Lock()
		defer p.mu.Unlock()
		if r.ticks < 2 {
			t.Errorf("%d ticks: a timer that moved nearer was missed", r.ticks)
		}
	})
}

func TestRefusedAlarmsAreTriedAgainWithoutReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBuffer{alarmErr: errDisk}
		p := newTestPipeline(b, &fakeRules{timer: -1})
		stop := runPipeline(t, p)
		synctest.Wait()
		_ = p.Put(t.Context(), values(1))
		sleep(t.Context(), 10*time.Second)
		if n := b.calls(); n < 9 || n > 12 {
			t.Errorf("tried %d times in 10 s, want about 10", n)
		}
		b.refuseAlarms(nil)
		sleep(t.Context(), alarmRetry+time.Millisecond)
		if p.pendingAlarms.Load() != 0 {
			t.Error("still pending")
		}
		stop()
	})
}

func TestPipelineEndsWithALastAttempt(t *testing.T) {
	for _, c := range []struct {
		name    string
		mended  bool
		dropped uint64
	}{{"the buffer takes them", true, 0}, {"the buffer refuses to the end", false, 1}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &fakeBuffer{alarmErr: errDisk}
				p := newTestPipeline(b, &fakeRules{timer: -1})
				stop := runPipeline(t, p)
				synctest.Wait()
				_ = p.Put(t.Context(), values(1))
				if c.mended {
					b.refuseAlarms(nil)
				}
				stop()
				if p.alarmsDropped.Load() != c.dropped || p.accepted.Load() != 2-c.dropped || p.pendingAlarms.Load() != 0 {
					t.Errorf("dropped %d, accepted %d, pending %d", p.alarmsDropped.Load(), p.accepted.Load(), p.pendingAlarms.Load())
				}
			})
		})
	}
}

func TestRulesThatPanicCostNoReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBuffer{}
		r := &fakeRules{timer: -1, onEval: func() { panic("rule of doom") }, onTick: func([]edgeagent.Event) []edgeagent.Event { panic("tick of doom") }}
		p := newTestPipeline(b, r)
		stop := runPipeline(t, p)
		synctest.Wait()
		if err := p.Put(t.Context(), values(1, 1)); err != nil {
			t.Error(err)
		}
		stop()
		if diff := cmp.Diff([]string{"2 readings"}, b.log); diff != "" || p.accepted.Load() != 2 {
			t.Errorf("accepted %d (-want +got):\n%s", p.accepted.Load(), diff)
		}
		h := p.troubles()
		if len(h) != 1 || h[0].Code != "rules-panicked" || !strings.Contains(h[0].Text, "2 steps") || !strings.Contains(h[0].Text, "rule of doom") {
			t.Errorf("health %+v", h)
		}
	})
}

// Status looks at the rules while the disk hangs.
func TestRulesCanBeLookedAtWhileTheDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBuffer{block: make(chan struct{})}
		p := newTestPipeline(b, &fakeRules{timer: -1})
		var wg sync.WaitGroup
		wg.Go(func() { _ = p.Put(t.Context(), values(1)) })
		synctest.Wait()
		if !p.mu.TryLock() {
			t.Error("the rules' lock is held while the disk works")
		} else {
			p.mu.Unlock()
		}
		close(b.block)
		wg.Wait()
	})
}

const silence = `
version: 1
rules:
  - id: hot
    inputs: {temp: boiler/temperature}
    when: temp > 80
    for: 10s
    stale_after: 3s
    do: [{alert: {text: hot}}]
`

// A rule's "for" runs out between two readings, and only Run is there to notice.
func TestTimersMoveTheRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBuffer{}
		engine := compile(t, strings.Replace(silence, "stale_after: 3s", "stale_after: 1h", 1))
		c := clock.Go()
		p := newPipeline(b, engine, c, slog.New(slog.DiscardHandler))
		stop := runPipeline(t, p)
		defer stop()
		rs := values(90)
		rs[0].At = edgeagent.Instant{Wall: c.Wall().UnixNano(), Run: int64(c.Run())}
		if err := p.Put(t.Context(), rs); err != nil {
			t.Fatal(err)
		}
		sleep(t.Context(), 10*time.Second-time.Millisecond)
		if p.alarms.Load() != 0 {
			t.Error("fired before its time")
		}
		sleep(t.Context(), 10*time.Millisecond)
		if p.alarms.Load() != 1 {
			t.Error("a for that ran out without a reading did not fire")
		}
	})
}

// A sensor that falls silent must not let "for" run out: nobody knows that it is
// still hot.
func TestASilentSensorDoesNotFire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := compile(t, silence)
		c := clock.Go()
		p := newPipeline(&fakeBuffer{}, engine, c, slog.New(slog.DiscardHandler))
		stop := runPipeline(t, p)
		rs := values(90)
		rs[0].At = edgeagent.Instant{Wall: c.Wall().UnixNano(), Run: int64(c.Run())}
		if err := p.Put(t.Context(), rs); err != nil {
			t.Fatal(err)
		}
		sleep(t.Context(), time.Minute)
		stop()
		if got := engine.States()[0]; p.alarms.Load() != 0 || !got.Unknown {
			t.Errorf("%d alarms, state %+v", p.alarms.Load(), got)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	p := newTestPipeline(&countingBuffer{}, &fakeRules{timer: int64max})
	rs := values(make([]float64, 100)...)
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Put(b.Context(), rs)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/reading")
}

const int64max = time.Duration(1<<63 - 1)

// countingBuffer takes everything and keeps nothing.
type countingBuffer struct{ appender }

func (countingBuffer) Append(context.Context, []edgeagent.Reading) (edgeagent.Seq, error) {
	return 0, nil
}

func (countingBuffer) AppendEvents(context.Context, edgeagent.Stream, []edgeagent.Event) (edgeagent.Seq, error) {
	return 0, nil
}

var _ ruler = (*rules.Engine)(nil)
