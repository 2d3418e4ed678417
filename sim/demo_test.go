package sim

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runDemo runs a short demo whose hub stores through behind.
func runDemo(t *testing.T, total time.Duration, behind func(hub.Sink) hub.Sink) (Report, []Snapshot) {
	t.Helper()
	dir := t.TempDir()
	d, err := newDemo(DemoOptions{Dir: dir, Socket: filepath.Join(dir, "demo.sock"), Version: "test", For: total}, behind)
	if err != nil {
		t.Fatal(err)
	}
	var shown []Snapshot
	r, err := d.Run(t.Context(), func(_ context.Context, s Snapshot) { shown = append(shown, s) })
	if err != nil {
		t.Fatal(err)
	}
	return r, shown
}

func honest(s hub.Sink) hub.Sink { return s }

func TestDemoDeliversEverythingOnce(t *testing.T) {
	t.Parallel()
	r, shown := runDemo(t, 2*time.Second, honest)
	if !r.OK || r.Taken == 0 || r.Accepted < r.Taken || r.Delivered != r.Accepted || r.Lost != 0 {
		t.Errorf("verdict %+v", r)
	}
	if r.Seconds < 2 || r.LinkDown || r.FirstLiveAfter != 0 {
		t.Errorf("verdict %+v", r)
	}
	last := shown[len(shown)-1]
	if !last.Final || last.Received != r.Delivered || last.Taken != r.Taken || last.Buffered != 0 {
		t.Errorf("final snapshot %+v", last)
	}
	if len(last.Latest) == 0 || len(last.Latest) > maxLatest {
		t.Errorf("%d values shown", len(last.Latest))
	}
	for i, s := range shown[:len(shown)-1] {
		if s.Final || s.Cut {
			t.Errorf("snapshot %d: %+v", i, s)
		}
	}
	if len(shown) < 3 { // about 20 on a machine that has nothing else to do
		t.Errorf("shown %d times in two seconds", len(shown))
	}
}

// sinkFunc is a sink that is a function.
type sinkFunc func(context.Context, hub.Cut) error

func (f sinkFunc) Commit(ctx context.Context, c hub.Cut) error { return f(ctx, c) }

// The negative controls: a receiver that cheats, and the verdict must say so.
func TestDemoFindsOut(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		cheat func(sink hub.Sink, nth uint64, ctx context.Context, c hub.Cut) error
		found func(Report) bool
	}{
		{"a commit that never was", func(sink hub.Sink, nth uint64, ctx context.Context, c hub.Cut) error {
			if nth == 1 {
				return nil // "stored"
			}
			return sink.Commit(ctx, c)
		}, func(r Report) bool { return r.Lost > 0 && r.Duplicates == 0 }},
		{"a commit twice", func(sink hub.Sink, nth uint64, ctx context.Context, c hub.Cut) error {
			if nth == 1 {
				if err := sink.Commit(ctx, c); err != nil {
					return err
				}
			}
			return sink.Commit(ctx, c)
		}, func(r Report) bool { return r.Lost == 0 && r.Duplicates > 0 }},
		{
			"nothing is stored", func(hub.Sink, uint64, context.Context, hub.Cut) error { return nil },
			func(r Report) bool { return r.Delivered == 0 && r.Lost == int64(r.Accepted) },
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Uint64
			r, _ := runDemo(t, 1500*time.Millisecond, func(s hub.Sink) hub.Sink {
				return sinkFunc(func(ctx context.Context, cut hub.Cut) error { return c.cheat(s, n.Add(1), ctx, cut) })
			})
			if r.OK || !c.found(r) {
				t.Errorf("verdict %+v", r)
			}
		})
	}
}

func TestDemoEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := NewDemo(DemoOptions{Dir: dir, Socket: filepath.Join(dir, "demo.sock")})
	if err != nil {
		t.Fatal(err)
	}
	if d.Sensors() < 2 || d.Socket() != filepath.Join(dir, "demo.sock") {
		t.Errorf("%d sensors, socket %s", d.Sensors(), d.Socket())
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := d.Run(ctx, func(_ context.Context, s Snapshot) {
		if s.Received > 0 {
			cancel()
		}
	})
	if err != nil || !r.OK {
		t.Errorf("verdict %+v, %v", r, err)
	}
}

// A demo that cannot be prepared gives its port back.
func TestDemoThatCannotBePrepared(t *testing.T) {
	d, err := NewDemo(DemoOptions{Dir: filepath.Join(t.TempDir(), "missing")})
	if err == nil || d != nil {
		t.Fatalf("%v, %v", d, err)
	}
	// goleak would not see a listener without a goroutine: take it from the error's
	// demo by hand.
	d = &Demo{broker: newBroker(t)}
	addr := d.broker.Addr()
	if err := d.closeBroker(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	l.Close()
}

// An agent that cannot run ends the demo with its error, not with a verdict of zeros.
func TestDemoWhoseAgentFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := NewDemo(DemoOptions{Dir: dir, Socket: filepath.Join(dir, "demo.sock"), For: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	d.cfg.Buffer.Dir = filepath.Join(dir, "rules.yaml") // a file
	r, err := d.Run(t.Context(), func(context.Context, Snapshot) {})
	if err == nil || !strings.HasPrefix(err.Error(), "agent: ") || r.OK {
		t.Errorf("verdict %+v, error %v", r, err)
	}
}

func TestOutageAt(t *testing.T) {
	cases := []struct {
		name          string
		total, outage time.Duration
		want          time.Duration
	}{
		{"no end", 0, 10 * time.Second, 5 * time.Second},
		{"the example", 40 * time.Second, 10 * time.Second, 10 * time.Second},
		{"the least", 20 * time.Second, 10 * time.Second, 5 * time.Second},
		{"the default of 30 s more", 60 * time.Second, 30 * time.Second, 10 * time.Second},
		// A quarter of the time would leave nothing behind the outage.
		{"a long outage in little more", 40 * time.Second, 30 * time.Second, 5 * time.Second},
		{"a long outage", time.Hour, 30 * time.Minute, 10 * time.Second},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := &Demo{opts: DemoOptions{For: c.total, Outage: c.outage}}
			got := d.OutageAt()
			if got != c.want {
				t.Errorf("begins at %v, want %v", got, c.want)
			}
			if rest := c.total - c.outage - got; c.total > 0 && rest < MinAround/2 {
				t.Errorf("%v are left behind it", rest)
			}
		})
	}
}

func TestConfigurationTakesAnyPath(t *testing.T) {
	for _, socket := range []string{"/run/demo.sock", `C:\Users\n\x\demo.sock`, `/tmp/with "quotes"/s`} {
		d := &Demo{opts: DemoOptions{Dir: t.TempDir(), Socket: socket}, broker: newBroker(t)}
		if err := d.configure(); err != nil {
			t.Errorf("%s: %v", socket, err)
		} else if d.cfg.API.Socket != socket {
			t.Errorf("%s was read as %s", socket, d.cfg.API.Socket)
		}
		if err := d.closeBroker(); err != nil {
			t.Error(err)
		}
	}
}

func TestCommitsOfReadingsAreTimed(t *testing.T) {
	d := &Demo{}
	now := time.Unix(100, 0)
	d.onCommit(hub.Cut{Stream: edgeagent.StreamAlarm, Events: make([]hub.Event, 1)}, now)
	d.onCommit(hub.Cut{Stream: edgeagent.StreamTelemetry, Rows: []hub.Row{{Time: 5}, {Time: 9}, {Time: 2}}}, now)
	want := arrival{at: now, count: 3, first: 2, last: 9}
	if len(d.arrivals.entries) != 1 || d.arrivals.entries[0] != want {
		t.Errorf("%+v, want %+v", d.arrivals.entries, want)
	}
}
