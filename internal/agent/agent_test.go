package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/i2c"
	"github.com/edgeagent/edgeagent/sim/bus"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// lonely is an agent without sensors and destinations. Its socket cannot be had:
// a listener would keep a bubble's time from passing.
const lonely = `
version: 1
device: {id: gw1}
buffer: {dir: DIR/buffer}
api: {socket: /dev/null/agent.sock}
`

const toBroker = `
destinations:
  - name: cloud
    format: line
    links: [{url: "URL"}]
    reconnect: {base: 100ms, cap: 200ms}
    linger: 10ms
`

func codes(s api.Status) []string {
	var out []string
	for _, w := range s.Health.Warnings {
		out = append(out, w.Code)
	}
	return out
}

func TestNewRefuses(t *testing.T) {
	good := func() *configs.Config { return parse(t, t.TempDir(), lonely, "") }
	cases := []struct {
		name string
		cfg  *configs.Config
		want string
	}{
		{"no configuration", nil, "agent has no configuration"},
		{"a configuration that nobody checked", &configs.Config{}, "check configuration: "},
		{"rules with a mistake", func() *configs.Config {
			c := good()
			var f configs.RuleFile
			if err := configs.Decode("r.yaml", []byte(silence), &f.File); err != nil {
				t.Fatal(err)
			}
			f.File.Rules[0].When = "tempp > 80"
			c.RuleFiles = []configs.RuleFile{f}
			return c
		}(), "compile rules: "},
		{"a socket that no system can bind", func() *configs.Config {
			c := good()
			c.API.Socket = strings.Repeat("x", 300)
			return c
		}(), "check configuration: "},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, err := New(Options{Config: c.cfg})
			if err == nil || !strings.HasPrefix(err.Error(), c.want) || a != nil {
				t.Errorf("error %v, want %s…", err, c.want)
			}
		})
	}
}

// at1970 is a clock that was never set.
type at1970 struct{ clock.Clock }

func (c at1970) Wall() time.Time { return time.Unix(0, 0).Add(c.Run()) }
func (at1970) Synced() bool      { return false }

func TestStartsWithNothingAtHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cfg := parse(t, dir, lonely+strings.Replace(toBroker, "URL", "mqtt://broker.invalid", 1)+`
sensors:
  - {name: missing, driver: bmxx80, bus: "97531", interval: 100ms}
`, "")
		withSource(cfg, "good", 100*time.Millisecond, func() (float64, error) { return 1, nil })
		r := start(t, Options{
			Config: cfg, Clock: at1970{clock.Go()}, Dial: noNetwork,
			I2C: i2c.OpenBus, // this machine may have a bus 1, but none of that number
		})
		sleep(t.Context(), 10*time.Second)
		s := r.Status(t.Context())
		if n := s.Buffer.Appended; n < 95 || n > 102 {
			t.Errorf("%d readings stored in 10 s at 10 Hz", n)
		}
		if len(s.Uplinks) != 1 || s.Uplinks[0].Backlog != s.Buffer.Appended || s.Uplinks[0].State == api.UplinkUp || s.Uplinks[0].LastError == "" {
			t.Errorf("uplink %+v", s.Uplinks)
		}
		got := codes(s)
		for _, want := range []string{"sensor-open", "clock-unsynced", "part-restarted"} {
			if !slices.Contains(got, want) {
				t.Errorf("no warning %s in %v", want, got)
			}
		}
		if s.Started.Year() != 1970 || s.Uptime != 10 {
			t.Errorf("started %v, up for %v s: both by the agent's clock", s.Started, s.Uptime)
		}
		began := time.Now()
		r.stop(t)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("stopping took %v", took)
		}
	})
}

// lines collects what a receiver gets, by line; each counts once.
type lines struct {
	mu   sync.Mutex
	seen map[string]int
}

func (l *lines) take(d mqtt.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(string(d.Payload)) {
		l.seen[line]++
	}
	d.Ack()
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// listen starts a broker and a receiver that is subscribed when it returns.
func listen(t *testing.T, o broker.Options, rc mqtt.ReceiverConfig) (url string, got *lines) {
	t.Helper()
	b := broker.New(o)
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	rc.URL, rc.ClientID = b.URL(), "test"
	receiver, err := mqtt.NewReceiver(rc)
	if err != nil {
		t.Fatal(err)
	}
	got = &lines{seen: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Run(ctx) })
	wg.Go(func() { _ = receiver.Run(ctx, got.take) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	waitFor(t, "the receiver", func() bool { return receiver.Stats().Connected })
	return b.URL(), got
}

func TestDeliversWhenTheBrokerComes(t *testing.T) {
	t.Parallel()
	url, got := listen(t, broker.Options{}, mqtt.ReceiverConfig{})
	dir := t.TempDir()
	var n atomic.Int64
	cfg := withSource(parse(t, dir, lonely+strings.Replace(toBroker, "URL", url, 1), ""), "count", 10*time.Millisecond,
		func() (float64, error) { return float64(n.Add(1)), nil })
	link := faultnet.NewSwitch(nil)
	link.Cut()
	r := start(t, Options{Config: cfg, Clock: clock.System(clock.Trusted, time.Time{}), Dial: link.DialContext, FlushOnStop: time.Minute})
	accepted := func() uint64 { _, n, _ := r.Counts(); return n }
	waitFor(t, "readings while the broker is away", func() bool { return accepted() >= 20 })
	if got.count() != 0 {
		t.Fatalf("%d lines through a link that is cut", got.count())
	}
	link.Restore()
	waitFor(t, "the backlog", func() bool { return got.count() >= 20 })
	r.stop(t)
	// FlushOnStop: all is confirmed. The broker may still be handing it on.
	waitFor(t, "the rest", func() bool { return uint64(got.count()) >= accepted() })
	taken, stored, _ := r.Counts()
	if taken != stored || uint64(got.count()) != stored {
		t.Errorf("taken %d, stored %d, arrived %d", taken, stored, got.count())
	}
	if s := r.Status(t.Context()); s.Uplinks[0].Backlog != 0 || s.Uplinks[0].Confirmed != stored {
		t.Errorf("after the flush: %+v", s.Uplinks[0])
	}
}

func TestWithoutFlushTheRestStaysInTheBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cfg := withSource(parse(t, dir, lonely+strings.Replace(toBroker, "URL", "mqtt://broker.invalid", 1), ""), "x", 100*time.Millisecond,
			func() (float64, error) { return 1, nil })
		r := start(t, Options{Config: cfg, Clock: clock.Go(), Dial: noNetwork})
		sleep(t.Context(), 2*time.Second)
		r.stop(t)
		_, stored, _ := r.Counts()
		again := start(t, Options{Config: parse(t, dir, lonely+strings.Replace(toBroker, "URL", "mqtt://broker.invalid", 1), ""), Clock: clock.Go(), Dial: noNetwork})
		sleep(t.Context(), time.Second)
		if s := again.Status(t.Context()); stored == 0 || s.Uplinks[0].Backlog != stored {
			t.Errorf("stored %d, found %d", stored, s.Uplinks[0].Backlog)
		}
		again.stop(t)
	})
}

func TestFlushGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withSource(parse(t, t.TempDir(), lonely+strings.Replace(toBroker, "URL", "mqtt://broker.invalid", 1), ""), "x", 100*time.Millisecond,
			func() (float64, error) { return 1, nil })
		r := start(t, Options{Config: cfg, Clock: clock.Go(), Dial: noNetwork, FlushOnStop: 3 * time.Second})
		sleep(t.Context(), time.Second)
		began := time.Now()
		r.stop(t)
		if took := time.Since(began); took < 3*time.Second || took > 7*time.Second {
			t.Errorf("took %v, want the flush's 3 s and little more", took)
		}
	})
}

func TestSecondAgentOnTheSameBuffer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, Options{Config: parse(t, dir, lonely, "")})
	waitFor(t, "the first agent", func() bool { return first.Status(t.Context()).Run != 0 })
	second := start(t, Options{Config: parse(t, dir, lonely, "")})
	err := <-second.done
	if !errors.Is(err, buffer.ErrLocked) || hintOf(err) == "" {
		t.Errorf("error %v, hint %q", err, hintOf(err))
	}
	if s := second.Status(t.Context()); !slices.Contains(codes(s), "agent-starting") {
		t.Errorf("warnings %v", codes(s))
	}
	first.stop(t)
}

func TestBufferThatCannotBeOpened(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(dir string) error
	}{
		{"a file", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }},
		{"a directory in place of a file", func(dir string) error { return os.MkdirAll(filepath.Join(dir, "LOCK"), 0o700) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := c.spoil(filepath.Join(dir, "buffer")); err != nil {
				t.Fatal(err)
			}
			a, err := New(Options{Config: parse(t, dir, lonely, "")})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err = a.Run(ctx)
			if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "buffer")) || !strings.Contains(hintOf(err), "buffer.dir") {
				t.Errorf("error %v, hint %q", err, hintOf(err))
			}
		})
	}
}

// Told to stop while it reads a damaged buffer, the agent ends in order.
func TestStopWhileTheBufferIsBeingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cfg := withSource(parse(t, dir, lonely, ""), "x", 100*time.Millisecond, func() (float64, error) { return 1, nil })
		cfg.Buffer.BlockSize = 16 // so that two seconds fill a block
		r := start(t, Options{Config: cfg, Clock: clock.Go()})
		sleep(t.Context(), 2*time.Second)
		r.stop(t)
		segments, err := filepath.Glob(filepath.Join(dir, "buffer", "*", "*.seg"))
		if err != nil || len(segments) == 0 {
			t.Fatalf("no segments: %v", err)
		}
		for _, name := range segments {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for i := range min(len(content), 16<<10) {
				content[i] ^= 0xFF
			}
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := buffer.Open(ctx, filepath.Join(dir, "buffer"), buffer.Options{Config: buffer.Default(), Clock: clock.Go()}); !errors.Is(err, context.Canceled) {
			t.Fatalf("the buffer opens without reading, so nothing is proven: %v", err)
		}
		a, err := New(Options{Config: parse(t, dir, lonely, ""), Clock: clock.Go()})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Run(ctx); err != nil {
			t.Errorf("told to stop: %v", err)
		}
	})
}

func TestRelativeBufferStartsAtTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := start(t, Options{Config: parse(t, dir, strings.Replace(lonely, "DIR/buffer", "data/buffer", 1), ""), Clock: clock.Go()})
		sleep(t.Context(), time.Second)
		if got, want := r.Status(t.Context()).Buffer.Dir, filepath.Join(dir, "data", "buffer"); got != want {
			t.Errorf("buffer in %s, want %s", got, want)
		}
		r.stop(t)
	})
}

func TestRunIsCalledOnce(t *testing.T) {
	a, err := New(Options{Config: parse(t, t.TempDir(), lonely, "")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Errorf("told to stop before it began: %v", err)
	}
	if err := a.Run(ctx); err == nil {
		t.Error("a second Run was accepted")
	}
}

// greenhouse is a chip whose temperature the test sets.
type greenhouse struct {
	chip *bus.BME280
	temp atomic.Uint64
}

func newGreenhouse(celsius float64) *greenhouse {
	g := &greenhouse{}
	g.set(celsius)
	g.chip = bus.NewBME280(0x76, func() (float64, float64, float64) { return math.Float64frombits(g.temp.Load()), 101_325, 50 })
	return g
}

func (g *greenhouse) set(celsius float64) { g.temp.Store(math.Float64bits(celsius)) }

const heat = `
version: 1
rules:
  - id: hot
    inputs: {temp: greenhouse/temperature}
    when: temp > 30
    clear: temp < 28
    do: [{alert: {text: "{{.temp}}"}}]
`

func storedAlarms(t *testing.T, dir string) []edgeagent.Event {
	t.Helper()
	b, _, err := buffer.Open(t.Context(), filepath.Join(dir, "buffer"), buffer.Options{Config: buffer.Default(), Device: "gw1"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(t.Context())
	var out []edgeagent.Event
	if err := readAlarms(t.Context(), b, func(ev edgeagent.Event) { out = append(out, ev) }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAlarmOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		g := newGreenhouse(35)
		run := func(hold time.Duration, during func(r *running)) {
			r := start(t, Options{
				Config: parse(t, dir, lonely+`
sensors:
  - {name: greenhouse, driver: bmxx80, bus: simulated, interval: 500ms}
`, heat),
				Clock: clock.Go(), I2C: bus.New(g.chip).Open,
			})
			sleep(t.Context(), hold)
			during(r)
			r.stop(t)
		}
		firing := func(r *running, want int, raised uint64) {
			t.Helper()
			s := r.Status(t.Context())
			if _, _, alarms := r.Counts(); s.Rules.Firing != uint64(want) || alarms != raised {
				t.Errorf("%d rules fire, want %d; %d alarm transitions, want %d", s.Rules.Firing, want, alarms, raised)
			}
			if want == 1 && (len(s.Rules.Instances) != 1 || s.Rules.Instances[0].State != api.RuleFiring || s.Rules.Instances[0].Text == "") {
				t.Errorf("status shows %+v", s.Rules.Instances)
			}
		}
		run(5*time.Second, func(r *running) { firing(r, 1, 1) })
		g.set(29) // not hot any more, and not cool enough to clear
		run(5*time.Second, func(r *running) { firing(r, 1, 0) })
		run(5*time.Second, func(r *running) {
			firing(r, 1, 0)
			g.set(20)
			sleep(t.Context(), 2*time.Second)
			firing(r, 0, 1)
		})
		run(2*time.Second, func(r *running) { firing(r, 0, 0) })
		alarms := storedAlarms(t, dir)
		if len(alarms) != 2 || alarms[0].ID != alarms[1].ID || alarms[0].N != 1 || alarms[1].N != 2 || alarms[1].Attrs["state"] != edgeagent.AlarmCleared {
			t.Errorf("stored %+v", alarms)
		}
	})
}

func TestStuckSensorHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGreenhouse(20)
		cfg := withSource(parse(t, t.TempDir(), lonely+`
sensors:
  - {name: greenhouse, driver: bmxx80, bus: simulated, interval: 500ms, timeout: 1s}
`, heat), "good", 100*time.Millisecond, func() (float64, error) { return 1, nil })
		var log syncBuffer
		r := start(t, Options{Config: cfg, Clock: clock.Go(), I2C: bus.New(g.chip).Open, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		sleep(t.Context(), 3*time.Second)
		g.chip.SetFault(bus.Stuck)
		before := r.Status(t.Context()).Sensors[1].Samples
		sleep(t.Context(), 10*time.Second)
		s := r.Status(t.Context())
		if s.Sensors[0].Health.Code != "sensor-stuck" {
			t.Errorf("the stuck sensor says %+v", s.Sensors[0].Health)
		}
		if n := s.Sensors[1].Samples - before; n < 95 {
			t.Errorf("the other was sampled %d times in 10 s, want 100", n)
		}
		began := time.Now()
		r.stop(t)
		if took := time.Since(began); took > sensorsGrace {
			t.Errorf("stopping took %v, over the grace of %v", took, sensorsGrace)
		}
		if strings.Contains(log.String(), "did not stop in time") {
			t.Errorf("the stage was given up before the scheduler had ended:\n%s", log.String())
		}
		g.chip.SetFault(bus.None) // the call that hangs comes back
		sleep(t.Context(), time.Second)
	})
}

// The sensors' stage must outlast what the scheduler allows itself.
func TestSensorsHaveTheTimeTheyMayTake(t *testing.T) {
	if most := sensors.PutGrace + time.Second; sensorsGrace <= most {
		t.Errorf("grace %v, the scheduler takes up to %v", sensorsGrace, most)
	}
}

func TestNotANumberIsRefusedAndShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withSource(parse(t, t.TempDir(), lonely, ""), "mad", 100*time.Millisecond, func() (float64, error) { return math.NaN(), nil })
		r := start(t, Options{Config: cfg, Clock: clock.Go()})
		sleep(t.Context(), 2*time.Second)
		s := r.Status(t.Context())
		if s.Buffer.Appended != 0 || s.Sensors[0].Health.Level == edgeagent.OK || !strings.Contains(s.Sensors[0].LastError, "NaN") {
			t.Errorf("stored %d, sensor %+v", s.Buffer.Appended, s.Sensors[0])
		}
		r.stop(t)
	})
}

func TestStatusBeforeDuringAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withSource(parse(t, t.TempDir(), lonely+strings.Replace(toBroker, "URL", "mqtt://broker.invalid", 1), heat), "x", 100*time.Millisecond,
			func() (float64, error) { return 42, nil })
		a, err := New(Options{Config: cfg, Version: "v1.2.3", Clock: clock.Go(), Dial: noNetwork})
		if err != nil {
			t.Fatal(err)
		}
		phases := map[string]string{}
		look := func(phase string) api.Status {
			s := a.Status(t.Context())
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			var back api.Status
			if err := json.Unmarshal(text, &back); err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(back)
			if err != nil || !bytes.Equal(text, again) {
				t.Errorf("%s: status changed on its way through JSON (%v):\n%s\n%s", phase, err, text, again)
			}
			if s.Version != "v1.2.3" || s.Device != "gw1" {
				t.Errorf("%s: %s %s", phase, s.Version, s.Device)
			}
			phases[phase] = fmt.Sprint(s.Health.Level, " ", codes(s))
			return s
		}
		look("before")
		if taken, accepted, alarms := a.Counts(); taken+accepted+alarms != 0 || a.Gaps() != nil {
			t.Error("counts before Run")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		sleep(ctx, 2*time.Second)
		s := look("during")
		if len(s.Sensors) != 1 || len(s.Sensors[0].Values) != 1 || s.Sensors[0].Values[0].Value != 42 || s.Rules.Loaded != 1 || s.Buffer.Appended == 0 {
			t.Errorf("%+v", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		after := look("after")
		if after.Run != s.Run || after.Uplinks[0].State != api.UplinkStopped {
			t.Errorf("after the end: run %v, uplink %v", after.Run, after.Uplinks[0].State)
		}
		for phase, code := range map[string]string{"before": "agent-starting", "after": "agent-stopped"} {
			if !strings.Contains(phases[phase], code) {
				t.Errorf("%s: %s", phase, phases[phase])
			}
		}
		if strings.Contains(phases["during"], "agent-") {
			t.Errorf("during: %s", phases["during"])
		}
	})
}

func TestStatusFromManySides(t *testing.T) {
	t.Parallel()
	cfg := withSource(parse(t, t.TempDir(), lonely, heat), "x", 10*time.Millisecond, func() (float64, error) { return 1, nil })
	r := start(t, Options{Config: cfg})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				_ = r.Status(t.Context())
				r.Counts()
				r.Gaps()
			}
		})
	}
	wg.Wait()
	waitFor(t, "a reading", func() bool { _, n, _ := r.Counts(); return n > 0 })
	r.stop(t)
}

func TestNoSecretsInStatusAndLog(t *testing.T) {
	t.Parallel()
	const secret = "correct-horse-battery"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, got := listen(t, broker.Options{Users: map[string]string{"gw": secret, "wrong": "other"}}, mqtt.ReceiverConfig{Username: "wrong", Password: plain(t, "other")})
	for _, user := range []string{"gw", "wrong"} {
		var log syncBuffer
		cfg := withSource(parse(t, dir, lonely+strings.Replace(toBroker, `"URL"`, fmt.Sprintf(`"%s", username: %s, password: "file:DIR/secret"`, url, user), 1), ""),
			"x", 10*time.Millisecond, func() (float64, error) { return 1, nil })
		r := start(t, Options{Config: cfg, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		if user == "gw" {
			waitFor(t, "lines of a login with the right password", func() bool { return got.count() > 0 })
		} else {
			waitFor(t, "a refused login", func() bool { s := r.Status(t.Context()); return len(s.Uplinks) == 1 && s.Uplinks[0].LastError != "" })
		}
		text, err := json.Marshal(r.Status(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		r.stop(t)
		if strings.Contains(string(text), secret) || strings.Contains(log.String(), secret) {
			t.Errorf("%s: the password stands in\n%s\n%s", user, text, log.String())
		}
	}
}

func plain(t *testing.T, s string) (secret edgeagent.Secret) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := secret.UnmarshalText([]byte("file:" + file)); err != nil {
		t.Fatal(err)
	}
	if err := secret.Resolve(""); err != nil {
		t.Fatal(err)
	}
	return secret
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// One destination that cannot be made leaves the other alone.
func TestDestinationThatCannotBeMade(t *testing.T) {
	t.Parallel()
	url, got := listen(t, broker.Options{}, mqtt.ReceiverConfig{})
	cfg := withSource(parse(t, t.TempDir(), lonely+strings.Replace(toBroker, "URL", url, 1), ""), "x", 10*time.Millisecond, func() (float64, error) { return 1, nil })
	good := cfg.Destinations[0]
	a, err := New(Options{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	bad := good
	bad.Name, bad.Links = "bad", nil // configs would have found it
	cfg.Destinations = []uplink.Config{bad, good}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	waitFor(t, "lines at the good one", func() bool { return got.count() > 5 })
	s := a.Status(t.Context())
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(s.Uplinks) != 2 || s.Uplinks[0].Name != "bad" || s.Uplinks[0].State != api.UplinkStopped || s.Uplinks[1].State != api.UplinkUp {
		t.Errorf("uplinks %+v", s.Uplinks)
	}
	at := slices.IndexFunc(s.Health.Warnings, func(w api.Warning) bool { return w.Part == "uplink/bad" })
	if at < 0 || s.Health.Warnings[at].Hint == "" {
		t.Errorf("warnings %+v", s.Health.Warnings)
	}
}

// A link that is dead does not keep a destination from its second one.
func TestSecondLink(t *testing.T) {
	t.Parallel()
	url, got := listen(t, broker.Options{}, mqtt.ReceiverConfig{})
	cfg := withSource(parse(t, t.TempDir(), lonely+strings.Replace(toBroker, "URL", url, 1), ""), "x", 10*time.Millisecond, func() (float64, error) { return 1, nil })
	links := &cfg.Destinations[0].Links
	*links = append([]uplink.LinkConfig{{URL: "mqtt://127.0.0.1:1"}}, *links...)
	a, err := New(Options{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	waitFor(t, "lines over the second link", func() bool { return got.count() > 5 })
	s := a.Status(t.Context())
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s.Uplinks[0].State != api.UplinkUp || s.Uplinks[0].Link != (*links)[1].URL {
		t.Errorf("uplink %+v, want it on %s", s.Uplinks[0], (*links)[1].URL)
	}
}

// stopNotes writes down in which order the parts end.
type stopNotes struct {
	mu sync.Mutex
	b  strings.Builder
}

func TestStagesStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var notes stopNotes
		part := func(name string) *stage {
			return &stage{name: name, grace: time.Second, leaves: []*leaf{newLeaf(name, func(ctx context.Context) error {
				<-ctx.Done()
				notes.mu.Lock()
				defer notes.mu.Unlock()
				fmt.Fprint(&notes.b, name, " ")
				return nil
			})}}
		}
		a, err := New(Options{Config: parse(t, t.TempDir(), lonely, "")})
		if err != nil {
			t.Fatal(err)
		}
		stages := []*stage{part("cloud"), part("rules"), part("sensors")}
		for _, s := range stages {
			s.start(t.Context())
		}
		a.stop(t.Context(), stages)
		if got := notes.b.String(); got != "sensors rules cloud " {
			t.Errorf("order %q", got)
		}
	})
}

func TestOpenAlarms(t *testing.T) {
	firing := func(id string, n uint32) edgeagent.Event {
		return edgeagent.Event{Kind: edgeagent.KindAlarm, ID: id, N: n, Attrs: map[string]string{"state": edgeagent.AlarmFiring}}
	}
	cleared := func(id string, n uint32) edgeagent.Event {
		ev := firing(id, n)
		ev.Attrs["state"] = edgeagent.AlarmCleared
		return ev
	}
	cases := []struct {
		name string
		in   []edgeagent.Event
		want []string
	}{
		{"nothing", nil, nil},
		{"fires", []edgeagent.Event{firing("r/-/1", 1)}, []string{"r/-/1 1"}},
		{"fired and cleared", []edgeagent.Event{firing("r/-/1", 1), cleared("r/-/1", 2)}, nil},
		{"escalated", []edgeagent.Event{firing("r/-/1", 1), firing("r/-/1", 2)}, []string{"r/-/1 2"}},
		{"a clear without a beginning", []edgeagent.Event{cleared("r/-/1", 2)}, nil},
		{"two instances, one with a slash", []edgeagent.Event{firing("r/b/c/2", 1), firing("r/a/1", 1), cleared("r/a/1", 2)}, []string{"r/b/c/2 1"}},
		{"a lost clear, then another alarm", []edgeagent.Event{firing("r/-/1", 1), firing("r/-/2", 1)}, []string{"r/-/1 1", "r/-/2 1"}},
		// Without the clear of the second the engine would take the first for firing.
		{"a lost clear, then another alarm that is over", []edgeagent.Event{firing("r/-/1", 1), firing("r/-/2", 1), cleared("r/-/2", 2)}, []string{"r/-/1 1", "r/-/2 2"}},
		// The second still fires: the late clear of the first says nothing of it.
		{"a late clear of an older alarm", []edgeagent.Event{firing("r/-/1", 1), firing("r/-/2", 1), cleared("r/-/1", 2)}, []string{"r/-/2 1"}},
		{"a third after both", []edgeagent.Event{firing("r/-/1", 1), firing("r/-/2", 1), cleared("r/-/2", 2), firing("r/-/3", 1)}, []string{"r/-/1 1", "r/-/3 1"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			open := openAlarms{}
			for _, ev := range c.in {
				open.take(ev)
			}
			var got []string
			for _, ev := range open.records() {
				got = append(got, fmt.Sprint(ev.ID, " ", ev.N))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
		})
	}
}

// A stream of a million alarms that come and go must not be kept.
func TestOpenAlarmsAreFew(t *testing.T) {
	open := openAlarms{}
	for i := range 1000 {
		id := fmt.Sprintf("r/%d/%d", i%10, i)
		open.take(edgeagent.Event{ID: id, Attrs: map[string]string{"state": edgeagent.AlarmFiring}})
		open.take(edgeagent.Event{ID: id, Attrs: map[string]string{"state": edgeagent.AlarmCleared}})
	}
	if len(open) != 0 {
		t.Errorf("%d instances are kept", len(open))
	}
}

func TestStateDir(t *testing.T) {
	cases := []struct {
		name string
		env  map[string]string
		want string // a pattern
	}{
		{"systemd", map[string]string{"STATE_DIRECTORY": "/s/one:/s/two"}, `^/s/one$`},
		{"none", map[string]string{"XDG_STATE_HOME": "/x"}, `^/var/lib/edgeagent$|^/x/edgeagent$`},
		{"home", map[string]string{"HOME": "/h"}, `^/var/lib/edgeagent$|^/h/.local/state/edgeagent$`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range []string{"STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"} {
				t.Setenv(name, c.env[name])
			}
			got, err := StateDir()
			if err != nil || !regexp.MustCompile(c.want).MatchString(got) {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
}
