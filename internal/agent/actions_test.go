package agent

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/sensors/exec"
	"github.com/edgeagent/edgeagent/sensors/gpio"
)

// bench of outputs: what was driven, by name, as "relay=high".
type outputBench struct {
	mu    sync.Mutex
	log   []string
	fails map[string]error
	open  map[string]bool
}

func newOutputBench() *outputBench {
	return &outputBench{fails: map[string]error{}, open: map[string]bool{}}
}

func (b *outputBench) openOutput(c gpio.OutputConfig, high bool) (Output, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fails[c.Name]; err != nil {
		return nil, err
	}
	if b.open[c.Name] {
		return nil, errors.New("busy")
	}
	b.open[c.Name] = true
	b.log = append(b.log, c.Name+":"+levelOf(high))
	return &benchOutput{b, c.Name}, nil
}

func (b *outputBench) fail(name string, err error) { b.mu.Lock(); b.fails[name] = err; b.mu.Unlock() }

func (b *outputBench) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := strings.Join(b.log, " ")
	b.log = nil
	return s
}

// last is what was driven last.
func (b *outputBench) last() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.log) == 0 {
		return ""
	}
	return b.log[len(b.log)-1]
}

type benchOutput struct {
	b    *outputBench
	name string
}

func (o *benchOutput) Set(high bool) error {
	o.b.mu.Lock()
	defer o.b.mu.Unlock()
	if err := o.b.fails[o.name]; err != nil {
		return err
	}
	o.b.log = append(o.b.log, o.name+"="+levelOf(high))
	return nil
}

func (o *benchOutput) Close() error {
	o.b.mu.Lock()
	defer o.b.mu.Unlock()
	o.b.open[o.name] = false
	return nil
}

func outputConfig(list ...gpio.OutputConfig) *configs.Config { return &configs.Config{Outputs: list} }

func TestOutputsAreDriven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOutputBench()
		c := outputConfig(gpio.OutputConfig{Name: "pump"}, gpio.OutputConfig{Name: "valve", Safe: "high"}, gpio.OutputConfig{Name: "lamp"})
		exits := []rules.Output{{Pin: "valve"}, {Pin: "lamp", OnExit: "high"}}
		o := newOutputs(c, exits, b.openOutput, clock.Go(), slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- o.Run(ctx) }()
		step := func(what, want string, d time.Duration) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := b.said(); got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		step("start", "pump:low valve:high lamp:high", 0)
		o.set("pump", true)
		step("a rule", "pump=high", 0)
		o.set("pump", true)
		step("the same again", "", time.Minute)
		b.fail("pump", errors.New("EIO"))
		o.set("pump", false)
		step("it fails", "", 0)
		if h := o.troubles(); len(h) != 1 || h[0].Code != "output-failed" || !strings.Contains(h[0].Text, "output pump is not low: EIO") {
			t.Errorf("health %+v", h)
		}
		o.set("valve", false)
		step("the others go on", "valve=low", 0)
		step("it is tried, and fails", "", 10*time.Second)
		b.fail("pump", nil)
		step("it works again", "pump:low", time.Minute)
		if h := o.troubles(); len(h) != 0 {
			t.Errorf("health %+v", h)
		}
		o.set("pump", true)
		b.fail("lamp", nil)
		step("on", "pump=high", 0)
		if o.set("nobody", true) {
			t.Error("an output that is not there is known")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := b.said(); got != "pump=low valve=high" {
			t.Errorf("at the end %q", got)
		}
		for name, open := range b.open {
			if open {
				t.Errorf("%s is still open", name)
			}
		}
	})
}

// An output that failed is tried once more at the end, whatever its back-off.
func TestOutputsAreMadeSafeWhateverFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOutputBench()
		b.fail("a", errors.New("gone"))
		c := outputConfig(gpio.OutputConfig{Name: "a"}, gpio.OutputConfig{Name: "b"})
		var log strings.Builder
		o := newOutputs(c, nil, b.openOutput, clock.Go(), slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- o.Run(ctx) }()
		synctest.Wait()
		o.set("b", true)
		synctest.Wait()
		b.said()
		cancel()
		<-done
		if got := b.said(); got != "b=low" {
			t.Errorf("at the end %q", got)
		}
		if !strings.Contains(log.String(), "not in its safe state") {
			t.Errorf("nobody says that a is not safe: %s", log.String())
		}
	})
}

const relayRules = `version: 1
rules:
  - id: hot
    inputs: {t: boiler/value}
    when: t > 80
    do:
      - alert: {}
      - gpio: {pin: relay, set: high, on_exit: low}
      - sample: {series: boiler/*, every: 50ms}
      - exec: {run: note, args: ["{{.series}}", "{{.t}}"]}
    undo:
      - gpio: {pin: relay, set: low}
exec:
  note: {path: /bin/note}
`

// TestRuleDrivesOutput: from a reading to the relay and the program, and all safe at
// the end.
func TestRuleDrivesOutput(t *testing.T) {
	dir := t.TempDir()
	b := newOutputBench()
	cfg := parse(t, dir, "version: 1\nbuffer: {dir: DIR/buffer}\napi: {socket: DIR/a.sock}\noutputs: [{name: relay, line: GPIO17}]", relayRules)
	var temperature, taken atomic.Int64
	withSource(cfg, "boiler", time.Hour, func() (float64, error) { taken.Add(1); return float64(temperature.Load()), nil })
	temperature.Store(90) // the only sample of an hour finds it hot
	r := start(t, Options{Config: cfg, Clock: clock.Go(), OpenOutput: b.openOutput, Dial: noNetwork})
	waitFor(t, "faster samples", func() bool { return taken.Load() > 20 })
	waitFor(t, "the relay", func() bool { return b.last() == "relay=high" || b.last() == "relay:high" })
	waitFor(t, "the program that is not there", func() bool { return r.programs.failed.Load() == 1 })
	if n := r.programs.started.Load(); n != 1 {
		t.Errorf("%d programs started", n)
	}
	if s := r.Status(t.Context()); !slices.ContainsFunc(s.Health.Warnings, func(w api.Warning) bool { return w.Part == "programs" }) {
		t.Errorf("status does not tell of the program: %+v", s.Health.Warnings)
	}
	temperature.Store(20)
	waitFor(t, "the relay", func() bool { return b.last() == "relay=low" })
	waitFor(t, "the old rate", func() bool {
		before := taken.Load()
		sleep(t.Context(), 200*time.Millisecond)
		return taken.Load() == before
	})
	r.scheduler.Faster("test", func(string) bool { return true }, 10*time.Millisecond)
	temperature.Store(90)
	waitFor(t, "the relay", func() bool { return b.last() == "relay=high" })
	r.stop(t)
	if got := b.last(); got != "relay=low" {
		t.Errorf("at the end %q", got)
	}
}

func TestConfigurationNamesOutputs(t *testing.T) {
	dir := t.TempDir()
	for outputs, want := range map[string]string{
		"": `the configuration has no output "relay"`,
		"outputs: [{name: rely, line: GPIO17}]\n":  `did you mean "rely"?`,
		"outputs: [{name: relay, line: GPIO17}]\n": "",
	} {
		path := filepath.Join(dir, "agent.yaml")
		writeFile(t, filepath.Join(dir, "rules.yaml"), relayRules)
		_, err := configs.Parse(path, []byte("version: 1\n"+outputs+"rules: {files: [rules.yaml]}\n"), configs.Options{Drivers: Drivers()})
		var w strings.Builder
		if list, ok := errors.AsType[configs.Errors](err); ok {
			_ = list.Render(&w)
		}
		if (err == nil) != (want == "") || !strings.Contains(w.String(), want) || err != nil && !strings.Contains(w.String(), "rules.yaml:8:") {
			t.Errorf("%q: %s", outputs, w.String())
		}
	}
}

func TestSafeOutputs(t *testing.T) {
	b := newOutputBench()
	b.fail("c", errors.New("busy"))
	cfg := outputConfig(gpio.OutputConfig{Name: "a", Safe: "high"}, gpio.OutputConfig{Name: "c"}, gpio.OutputConfig{Name: "b"})
	cfg.RuleFiles = []configs.RuleFile{{File: rules.File{Rules: []rules.Rule{
		{Do: []rules.Action{{GPIO: &rules.GPIO{Pin: "b", Set: "low"}}}, Undo: []rules.Undo{{GPIO: &rules.GPIO{Pin: "b", OnExit: "high"}}}},
	}}}}
	got := SafeOutputs(cfg, b.openOutput)
	want := []SafeOutput{{"a", true, nil}, {"c", false, b.fails["c"]}, {"b", true, nil}}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
	if said := b.said(); said != "a:high b:high" || b.open["a"] || b.open["b"] {
		t.Errorf("%q, %v", said, b.open)
	}
}

func TestSensorsOf(t *testing.T) {
	for _, tt := range []struct{ pattern, sensor, want string }{
		{"boiler/*", "boiler", "true"},
		{"boiler/temp", "boiler", "true"},
		{"boiler/*", "boiler2", "false"},
		{"hall/*/temp", "hall/north", "true"},
		{"hall/*/temp", "hall/north/upper", "false"},
		{"hall/*/temp", "hall", "false"},
		{"pump-*/v", "pump-1", "true"},
		{"pump-*/v", "pump-", "false"},
		{"aba*aba/v", "aba", "false"},
		{"*", "x", "false"},
	} {
		if got := strconv.FormatBool(sensorsOf(tt.pattern)(tt.sensor)); got != tt.want {
			t.Errorf("%s of %s: %s", tt.pattern, tt.sensor, got)
		}
	}
}

// ran is a program that a test lets run.
func effectOf(name string, parallel int) rules.Effect {
	return rules.Effect{Rule: "r", Instance: "i", Alarm: "r/i/1", Run: &rules.RunProgram{Name: name, Path: "/bin/" + name, MaxParallel: parallel, Timeout: 5 * time.Second}}
}

func TestPrograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrograms(clock.Go(), slog.New(slog.DiscardHandler))
		var mu sync.Mutex
		running, most := map[string]int{}, map[string]int{}
		var took []time.Duration
		begun := time.Now()
		p.run = func(ctx context.Context, x exec.Program) ([]byte, error) {
			mu.Lock()
			running[x.Path]++
			most[x.Path] = max(most[x.Path], running[x.Path])
			took = append(took, time.Since(begun))
			mu.Unlock()
			defer func() { mu.Lock(); running[x.Path]--; mu.Unlock() }()
			if x.Path == "/bin/hangs" {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}
			time.Sleep(100 * time.Millisecond)
			return []byte("done"), nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		for range 5 {
			p.add(effectOf("valve", 0))
			p.add(effectOf("siren", 3))
		}
		time.Sleep(time.Second)
		mu.Lock()
		diff := cmp.Diff(map[string]int{"/bin/valve": 1, "/bin/siren": 3}, most)
		mu.Unlock()
		if diff != "" {
			t.Errorf("at a time (-want +got):\n%s", diff)
		}
		if p.started.Load() != 10 || p.depth.Load() != 0 {
			t.Errorf("%d started, %d wait", p.started.Load(), p.depth.Load())
		}
		mu.Lock()
		took = nil
		mu.Unlock()
		for range 20 {
			p.add(effectOf("flap", 8))
		}
		time.Sleep(10 * time.Second)
		mu.Lock()
		n := len(took)
		mu.Unlock()
		if n < programBurst+4 || n > programBurst+6 {
			t.Errorf("a rule that flaps started %d programs in 10 s", n)
		}
		time.Sleep(time.Minute)
		p.add(effectOf("hangs", 1))
		time.Sleep(6 * time.Second)
		if p.failed.Load() != 1 || len(p.troubles()) != 1 || !strings.Contains(p.troubles()[0].Text, "not done within 5s") {
			t.Errorf("a program that hangs: %d failed, %+v", p.failed.Load(), p.troubles())
		}
		p.add(effectOf("valve", 1))
		time.Sleep(time.Second)
		if len(p.troubles()) != 0 {
			t.Errorf("after one that went well: %+v", p.troubles())
		}
		for range maxWaitingPrograms + 10 {
			p.add(effectOf("hangs", 1))
		}
		synctest.Wait()
		if n := p.dropped.Load(); n < 9 || n > 10 {
			t.Errorf("%d dropped", n)
		}
		cancel()
		<-done
	})
}

func TestEffectsAreHandedOn(t *testing.T) {
	var log strings.Builder
	a := &actions{logger: slog.New(slog.NewTextHandler(&log, nil)), outputs: newOutputs(outputConfig(), nil, nil, clock.Go(), slog.New(slog.DiscardHandler))}
	p := newTestPipeline(&fakeBuffer{}, rulesOf(t, rules.File{Rules: []rules.Rule{{
		ID: "r", Inputs: map[string]string{"x": "s/x"}, When: "x > 5", Do: []rules.Action{{GPIO: &rules.GPIO{Pin: "led", Set: "high"}}},
	}}}))
	p.carry = a
	if err := p.Put(t.Context(), readingOf(9, time.Second)); err != nil {
		t.Fatal(err)
	}
	if a.unknown.Load() != 1 || !strings.Contains(log.String(), "output=led") {
		t.Errorf("%d refused: %s", a.unknown.Load(), &log)
	}
}
