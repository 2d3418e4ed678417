package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/sensors"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parse reads a configuration as the program does. DIR in it is dir, where a
// rules.yaml is written if rulesFile is not empty.
func parse(t *testing.T, dir, text, rulesFile string) *configs.Config {
	t.Helper()
	if rulesFile != "" {
		text += "\nrules: {files: [rules.yaml]}\n"
		if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(rulesFile), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := configs.Parse(filepath.Join(dir, "agent.yaml"), []byte(strings.ReplaceAll(text, "DIR", dir)), configs.Options{Drivers: Drivers(), Secrets: true})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func compile(t *testing.T, text string) *rules.Engine {
	t.Helper()
	var f rules.File
	if err := configs.Decode("rules.yaml", []byte(text), &f); err != nil {
		t.Fatal(err)
	}
	e, err := rules.Compile([]rules.File{f})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// running is an agent in its own goroutine.
type running struct {
	*Agent
	cancel context.CancelFunc
	done   chan error
}

func start(t *testing.T, o Options) *running {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Agent: a, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- a.Run(ctx) }()
	return r
}

// stop ends the agent, which must not fail.
func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Errorf("run: %v", err)
	}
}

// waitFor looks until cond holds.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
		sleep(t.Context(), 5*time.Millisecond)
	}
}

// fakeSource is a source that a test controls.
type fakeSource struct {
	value func() (float64, error)
	env   sensors.Env
}

func (s *fakeSource) Validate() error { return nil }

func (s *fakeSource) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	return &fakeSource{value: s.value, env: env}, nil
}

func (s *fakeSource) Sample(_ context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	v, err := s.value()
	if err != nil {
		return dst, err
	}
	return append(dst, edgeagent.Reading{Series: s.env.NewSeries("value", "1", edgeagent.Gauge), At: s.env.Now(), Value: v}), nil
}

func (s *fakeSource) Close() error { return nil }

// withSource adds a sensor of the test's own to a configuration.
func withSource(cfg *configs.Config, name string, every time.Duration, value func() (float64, error)) *configs.Config {
	cfg.Sensors = append(cfg.Sensors, sensors.Config{Name: name, Driver: "fake", Interval: every, Options: &fakeSource{value: value}})
	return cfg
}

var errUnreachable = errors.New("network is unreachable")

// noNetwork is a dialer without a network.
func noNetwork(context.Context, string, string) (net.Conn, error) { return nil, errUnreachable }

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
