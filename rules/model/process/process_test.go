package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent"
)

// script is a model of the test: what it says to each line; hang says nothing, hangUp
// ends the connection.
type script func(line string) string

const (
	hang   = ""
	hangUp = "\x00"
)

func greets(line string) (string, bool) {
	return "edgeagent-model 1 name=test features=2", line == version
}

// adds answers with the sum.
func adds(line string) string {
	if hello, ok := greets(line); ok {
		return hello
	}
	var id uint64
	var a, b float64
	if n, _ := fmt.Sscanf(line, "ping %d", &id); n == 1 {
		return fmt.Sprintf("pong %d", id)
	}
	if n, err := fmt.Sscanf(line, "score %d %g %g", &id, &a, &b); n != 3 {
		return fmt.Sprintf("error %d %v", id, err)
	}
	return fmt.Sprintf("score %d %v", id, a+b)
}

// rig runs a Process against scripts, one for each connection; the last serves all
// that follow.
type rig struct {
	*Process
	t       *testing.T
	scripts []script
	served  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	dials []time.Time
	text  strings.Builder
}

// Write takes the log.
func (r *rig) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *rig) logs() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// dialed returns when connections were tried.
func (r *rig) dialed() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.dials)
}

func config() Config {
	return Config{Socket: "/run/edgeagent/model.sock", Features: 2, Timeout: time.Second, MaxAge: 20 * time.Second}
}

// newRig starts a process in a bubble; it ends with the test.
func newRig(t *testing.T, scripts ...script) *rig {
	t.Helper()
	r := &rig{t: t, scripts: scripts}
	log := slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := New("pump", config(), log)
	if err != nil {
		t.Fatal(err)
	}
	p.dial = r.connect
	r.Process = p
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		r.served.Wait()
	})
	synctest.Wait()
	return r
}

func (r *rig) connect(context.Context) (net.Conn, error) {
	r.mu.Lock()
	s := r.scripts[min(len(r.dials), len(r.scripts)-1)]
	r.dials = append(r.dials, time.Now())
	r.mu.Unlock()
	if s == nil {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	r.served.Go(func() {
		defer theirs.Close()
		lines := bufio.NewScanner(theirs)
		for lines.Scan() {
			switch say := s(lines.Text()); say {
			case hang:
			case hangUp:
				return
			default:
				if _, err := io.WriteString(theirs, say+"\n"); err != nil {
					return
				}
			}
		}
	})
	return ours, nil
}

// call is a scorer; Eval tells apart what is known.
type call func(x []float64) float64

func (c call) Eval(x []float64) (score float64, ok bool) {
	score = c(x)
	return score, !math.IsNaN(score)
}

func (r *rig) call() call { return r.Scorer() }

// expect asks and waits for what is said at once, and to the same question after
// the model had time to answer.
func expect(t *testing.T, c call, a, b, now, then float64) {
	t.Helper()
	is := func(when string, want float64) {
		t.Helper()
		got, ok := c.Eval([]float64{a, b})
		if ok == math.IsNaN(got) || !(got == want || math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("%v+%v %s: %v, %v, want %v", a, b, when, got, ok, want)
		}
	}
	is("at once", now)
	synctest.Wait()
	is("then", then)
}

var nan = math.NaN()

func bubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

func TestLatestScoreIsGivenAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, adds)
		one, two := r.call(), r.call()
		expect(t, one, 1, 2, nan, 3)
		expect(t, two, 10, 20, nan, 30) // never that of the other call
		expect(t, one, 4, 5, 3, 9)
		expect(t, one, math.Inf(1), 5, 9, math.Inf(1))
		if _, ok := one.Eval([]float64{1}); ok {
			t.Error("too few features are scored")
		}
		if h := r.Health(); h != (edgeagent.Health{}) {
			t.Errorf("health %+v", h)
		}
		if s := r.Stats(); s.Answered != 4 || s.Asked != 4 || s.Scorers != 2 || !s.Connected || s.Attempts != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestSameFeaturesAreNotAskedAgainSoon(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, adds)
		c := r.call()
		for range 9 {
			c.Eval([]float64{1, nan})
			time.Sleep(time.Second)
		}
		if s := r.Stats(); s.Asked != 1 {
			t.Errorf("asked %d times in 9 s", s.Asked)
		}
		time.Sleep(3 * time.Second)
		c.Eval([]float64{1, nan})
		synctest.Wait()
		if s := r.Stats(); s.Asked != 2 {
			t.Errorf("asked %d times in 12 s", s.Asked)
		}
	})
}

func TestScoreAges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, adds, nil)
		c := r.call()
		expect(t, c, 1, 2, nan, 3)
		time.Sleep(20 * time.Second)
		if v, ok := c.Eval([]float64{5, 5}); !ok || v != 3 {
			t.Errorf("after MaxAge exactly: %v, %v", v, ok)
		}
		synctest.Wait()
		time.Sleep(20*time.Second + 1)
		if v, ok := c.Eval([]float64{6, 5}); ok {
			t.Errorf("after MaxAge: %v", v)
		}
	})
}

func TestTimeoutEndsTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		silent := func(line string) string {
			hello, _ := greets(line)
			if line != version {
				return hang
			}
			return hello
		}
		r := newRig(t, silent, adds)
		c := r.call()
		expect(t, c, 1, 2, nan, nan)
		time.Sleep(999 * time.Millisecond)
		if !r.Stats().Connected {
			t.Error("given up early")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		s := r.Stats()
		if s.Connected || s.Timeouts != 1 || s.Lost != 1 || s.InFlight != 0 {
			t.Errorf("after the timeout: %+v", s)
		}
		if h := r.Health(); h.Code != "model-down" || !strings.Contains(h.Text, "in time") || h.Hint == "" {
			t.Errorf("health %+v", h)
		}
		time.Sleep(time.Second)
		expect(t, c, 1, 2, nan, 3)
		if len(r.dialed()) != 2 {
			t.Errorf("%d connections", len(r.dialed()))
		}
	})
}

func TestIdleModelIsPinged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var pings atomic.Int32
		var deaf atomic.Bool
		r := newRig(t, func(line string) string {
			if strings.HasPrefix(line, "ping") {
				pings.Add(1)
				if deaf.Load() {
					return hang
				}
			}
			return adds(line)
		})
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if n := pings.Load(); n < 5 || n > 6 || len(r.dialed()) != 1 {
			t.Errorf("%d pings in a minute, %d connections", n, len(r.dialed()))
		}
		deaf.Store(true)
		time.Sleep(12 * time.Second)
		if r.Stats().Timeouts != 1 {
			t.Errorf("a model that is gone is not noticed: %+v", r.Stats())
		}
	})
}

// A model that works on one question at a time may have eight before it.
func TestSlowModelIsNotOverdue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(line string) string {
			if strings.HasPrefix(line, "score") {
				time.Sleep(900 * time.Millisecond)
			}
			return adds(line)
		})
		calls := make([]call, 12)
		for i := range calls {
			calls[i] = r.call()
			calls[i].Eval([]float64{float64(i), 1})
		}
		time.Sleep(12 * time.Second)
		for i, c := range calls {
			if v, ok := c.Eval([]float64{float64(i), 1}); !ok || v != float64(i)+1 {
				t.Errorf("call %d: %v, %v", i, v, ok)
			}
		}
		if s := r.Stats(); s.Timeouts != 0 || len(r.dialed()) != 1 || s.Latency < 900*time.Millisecond {
			t.Errorf("%+v, %d connections", s, len(r.dialed()))
		}
	})
}

func TestNewQuestionsReplaceThoseThatWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		var seen []string
		r := newRig(t, func(line string) string {
			if strings.HasPrefix(line, "score") {
				seen = append(seen, line)
				<-release
			}
			return adds(line)
		})
		c := r.call()
		for i := range 5 {
			c.Eval([]float64{float64(i), 0})
			synctest.Wait()
		}
		close(release)
		synctest.Wait()
		if v, _ := c.Eval([]float64{4, 0}); v != 4 || len(seen) != 2 {
			t.Errorf("score %v, the model saw %q", v, seen)
		}
		if s := r.Stats(); s.Superseded != 3 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestErrorsOfTheModel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(line string) string {
			if rest, ok := strings.CutPrefix(line, "score "); ok {
				id, x, _ := strings.Cut(rest, " ")
				switch {
				case strings.HasPrefix(x, "99"):
					return "error " + id + " too hot"
				case strings.HasPrefix(x, "98"):
					return "score " + id + " nan"
				}
			}
			return adds(line)
		})
		c := r.call()
		expect(t, c, 1, 2, nan, 3)
		expect(t, c, 99, 1, 3, nan) // the last question has no answer
		expect(t, c, 98, 1, nan, nan)
		expect(t, c, 1, 3, nan, 4)
		if h := r.Health(); h.Level != edgeagent.OK {
			t.Errorf("health %+v", h)
		}
		for i := range 3 {
			c.Eval([]float64{99, float64(i)})
			synctest.Wait()
		}
		if h := r.Health(); h.Code != "model-errors" || !strings.Contains(h.Text, "too hot") {
			t.Errorf("health %+v", h)
		}
		if len(r.dialed()) != 1 {
			t.Error("an error ended the connection")
		}
	})
}

func TestModelsThatDoNotSpeakTheProtocol(t *testing.T) {
	for name, c := range map[string]struct {
		say  script
		want string
	}{
		"version":         {func(string) string { return "error only edgeagent-model 2" }, "refuses: only edgeagent-model 2"},
		"greeting":        {func(string) string { return "hello" }, "does not speak"},
		"features":        {func(string) string { return "edgeagent-model 1 features=3" }, "wants 3 features"},
		"silence":         {func(string) string { return hang }, "in time"},
		"hangs up":        {func(string) string { return hangUp }, "EOF"},
		"long line":       {func(string) string { return strings.Repeat("x", 2000) }, "longer than"},
		"unasked":         {after("score 77 1"), "not asked for"},
		"pong to a score": {after("pong 1"), "not asked for"},
		"twice":           {after("score 1 1\nscore 1 1"), "not asked for"},
		"garbage":         {after("\xff\xfe"), "does not speak"},
		"empty":           {after("\n"), "does not speak"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, c.say, adds)
				call := r.call()
				call.Eval([]float64{1, 2})
				time.Sleep(startTimeout + 500*time.Millisecond)
				synctest.Wait()
				if !strings.Contains(r.logs(), c.want) {
					t.Errorf("logs: %s, want %q", r.logs(), c.want)
				}
				time.Sleep(2 * time.Second)
				call.Eval([]float64{1, 3})
				synctest.Wait()
				if v, ok := call.Eval([]float64{1, 3}); !ok || v != 4 {
					t.Errorf("the next connection does not work: %v, %v", v, ok)
				}
			})
		})
	}
}

// after is a model that greets and then says one and the same.
func after(say string) script {
	return func(line string) string {
		if hello, ok := greets(line); ok {
			return hello
		}
		return say
	}
}

func TestAttemptsBackOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.call()
		for range 3600 {
			if _, ok := c.Eval([]float64{1, 2}); ok {
				t.Fatal("a score from nowhere")
			}
			time.Sleep(time.Second)
		}
		dials := r.dialed()
		n := len(dials)
		if first := dials[1].Sub(dials[0]); n < 55 || n > 75 || first != time.Second {
			t.Errorf("%d attempts in an hour, the second after %v", n, first)
		}
		if warnings := strings.Count(r.logs(), "level=WARN"); warnings != 1 {
			t.Errorf("%d warnings of one and the same", warnings)
		}
		if h := r.Health(); !strings.Contains(h.Text, "refused") || !strings.Contains(h.Hint, "/run/edgeagent/model.sock") {
			t.Errorf("health %+v", h)
		}
		if s := r.Stats(); s.Waiting != 1 {
			t.Errorf("%d wait for a model that is not there", s.Waiting)
		}
	})
}

// A question that brings the model down is not asked again by itself.
func TestPoisonIsNotRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var crashes atomic.Int32
		r := newRig(t, func(line string) string {
			if strings.HasSuffix(line, " 13 0") {
				crashes.Add(1)
				return hangUp
			}
			return adds(line)
		})
		poison, good := r.call(), r.call()
		poison.Eval([]float64{13, 0})
		for i := range 60 {
			good.Eval([]float64{float64(i), 100})
			time.Sleep(time.Second)
		}
		if v, ok := good.Eval([]float64{0, 0}); crashes.Load() != 1 || !ok || v < 150 {
			t.Errorf("%d crashes; the other call has %v, %v", crashes.Load(), v, ok)
		}
	})
}

func TestScorersAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, adds)
		for range maxScorers {
			r.call().Eval([]float64{1, 2})
		}
		synctest.Wait()
		if h := r.Health(); h.Level != edgeagent.OK {
			t.Errorf("health %+v", h)
		}
		expect(t, r.call(), 1, 2, nan, nan)
		if s := r.Stats(); s.Answered != maxScorers || s.Refused != 1 {
			t.Errorf("stats %+v", s)
		}
		if h := r.Health(); h.Code != "model-scorers" {
			t.Errorf("health %+v", h)
		}
	})
}

func TestScorersAllocateNothing(t *testing.T) {
	p, err := New("pump", config(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c, x := p.Scorer(), []float64{1, 2}
	if n := testing.AllocsPerRun(100, func() {
		x[0]++
		c(x)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConfigIsValidated(t *testing.T) {
	if err := config().Validate(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*Config){
		"socket":     func(c *Config) { c.Socket = "model.sock" },
		"socket ":    func(c *Config) { c.Socket = "/" + strings.Repeat("x", 100) },
		"command[0]": func(c *Config) { c.Command = []string{"python3", "model.py"} },
		"features":   func(c *Config) { c.Features = 0 },
		"features ":  func(c *Config) { c.Features = 1025 },
		"timeout":    func(c *Config) { c.Timeout = time.Millisecond },
		"timeout ":   func(c *Config) { c.Timeout = 2 * time.Minute },
		"max_age":    func(c *Config) { c.MaxAge = 500 * time.Millisecond },
		"max_age ":   func(c *Config) { c.MaxAge = 2 * time.Hour },
	} {
		c := config()
		change(&c)
		var fe *edgeagent.FieldError
		if err := c.Validate(); !errors.As(err, &fe) || fe.Path != strings.TrimSpace(field) {
			t.Errorf("%s: %v", field, err)
		}
		if _, err := New("x", c, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: New takes it", field)
		}
	}
	if filepath.IsAbs("/") && (Config{Socket: "/s", Features: 1}).Validate() != nil {
		t.Error("the defaults are refused")
	}
}

func BenchmarkAsk(b *testing.B) {
	p, err := New("pump", config(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	c, x := p.Scorer(), []float64{1, 2}
	b.ReportAllocs()
	for b.Loop() {
		x[0]++
		c(x)
	}
}
