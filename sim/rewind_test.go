package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sim/bus"
	"github.com/edgeagent/edgeagent/sync/mqtt"
)

// restored is a gateway whose buffer is put back to an older state while the hub
// remembers the newer one.
type restored struct {
	t      *testing.T
	dir    string
	cfg    *configs.Config
	link   *faultnet.Switch
	hub    *hub.Hub
	url    string // of the broker
	wg     sync.WaitGroup
	noHub  func()            // stops it
	flush  time.Duration     // for the agent to deliver what is left when it stops
	epochs []edgeagent.Epoch // of the buffer, at each open

	mu     sync.Mutex // guards what follows
	rows   map[string]bool
	twice  int // rows that were stored before, under whatever identity
	alarms []edgeagent.Event
}

// credulous is a hub of which the agent hears what it holds, and nothing that shows
// whose records those are.
type credulous struct{ hub.Input }

func (c credulous) Publish(ctx context.Context, topic string, payload []byte) error {
	var a edgeagent.Ack
	if err := json.Unmarshal(payload, &a); err != nil {
		return err
	}
	a.Top, a.Conflict = nil, nil
	payload, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return c.Input.Publish(ctx, topic, payload)
}

func newRestored(t *testing.T, behind func(hub.Input) hub.Input) *restored {
	t.Helper()
	b := newBroker(t)
	r := &restored{t: t, dir: t.TempDir(), url: b.URL(), link: faultnet.NewSwitch(nil), rows: map[string]bool{}}
	text := fmt.Sprintf(`
version: 1
device: {id: gw}
sensors: [{name: s, driver: bmxx80, bus: simulated, address: 0x76, interval: 10ms}]
buffer: {dir: %q}
destinations:
  - {name: cloud, receiver: hub, links: [{url: %q}], reconnect: {base: 50ms, cap: 100ms}}
api: {socket: off}
`, filepath.Join(r.dir, "buffer"), b.URL())
	var err error
	if r.cfg, err = configs.Parse(filepath.Join(r.dir, "agent.yaml"), []byte(text), configs.Options{Drivers: agent.Drivers()}); err != nil {
		t.Fatal(err)
	}
	stop := r.background(b.Run)
	t.Cleanup(func() { r.noHub(); stop(); r.wg.Wait() })
	r.noHub = func() {}
	r.startHub(behind, hub.Options{})
	return r
}

// background runs something until stop is called.
func (r *restored) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	r.wg.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			r.t.Errorf("in the background: %v", err)
		}
	})
	return cancel
}

// startHub starts a hub that knows nothing, in place of another.
func (r *restored) startHub(behind func(hub.Input) hub.Input, o hub.Options) {
	r.t.Helper()
	r.noHub()
	in, err := mqtt.NewReceiver(mqtt.ReceiverConfig{URL: r.url, ClientID: "hub"})
	if err != nil {
		r.t.Fatal(err)
	}
	o.Sink, o.AckEvery = r, 20*time.Millisecond
	h, err := hub.New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.hub = h
	r.noHub = r.background(func(ctx context.Context) error { return h.Run(ctx, behind(in)) })
	r.until("the hub's connection", func() bool { return in.Stats().Connected })
}

// Commit implements hub.Sink: it knows what it has by content.
func (r *restored) Commit(_ context.Context, c hub.Cut) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range c.Rows {
		row := content(x.Series.Key().Name(), x.Time, x.Value)
		if r.rows[row] {
			r.twice++
		}
		r.rows[row] = true
	}
	for _, e := range c.Events {
		if c.Stream == edgeagent.StreamAlarm {
			r.alarms = append(r.alarms, e.Event)
		}
	}
	return nil
}

func content(series string, at int64, value float64) string {
	return fmt.Sprint(series, " ", at, " ", value)
}

func (r *restored) until(what string, done func() bool) {
	r.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(2 * time.Minute) // a busy machine may need them
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			r.t.Fatalf("waited in vain for %s: %+v", what, r.hub.Stats())
		}
	}
}

// live is one life of the agent, until done; it reports whether it asked to be
// started again.
func (r *restored) live(what string, done func(*agent.Agent) bool) (restart bool) {
	r.t.Helper()
	a, err := agent.New(agent.Options{
		Config: r.cfg, Logger: slog.New(slog.DiscardHandler), Clock: clock.System(clock.Trusted, time.Time{}),
		I2C: bus.New(bus.NewBME280(0x76, bus.Since(bus.Greenhouse{}.At))).Open, Dial: r.link.DialContext, FlushOnStop: r.flush,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	over := false
	r.until(what, func() bool {
		select {
		case err = <-ended:
			over = true
		default:
		}
		return over || a.Status(ctx).Buffer.Epoch != 0 && done(a)
	})
	if !over {
		cancel()
		err = <-ended
	}
	r.epochs = append(r.epochs, a.Status(context.Background()).Buffer.Epoch)
	if err != nil && !errors.Is(err, agent.ErrRestart) {
		r.t.Fatal(err)
	}
	return err != nil
}

// stored returns the content of all readings that the buffer has.
func (r *restored) stored() map[string]bool {
	r.t.Helper()
	ro, err := buffer.OpenReadOnly(r.t.Context(), r.cfg.Buffer.Dir, r.cfg.Buffer.Encryption)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := ro.Close(); err != nil {
			r.t.Error(err)
		}
	}()
	out := map[string]bool{}
	names := map[uint32]string{}
	var dec block.Decoder
	_, err = ro.Blocks(r.t.Context(), buffer.Query{Stream: edgeagent.StreamTelemetry}, func(blk []byte) error {
		hdr, err := block.Check(blk)
		if err != nil {
			return err
		}
		if hdr.Kind == block.KindSeries {
			_, _, entries, _, err := dec.Series(blk)
			for _, e := range entries {
				names[e.ID] = e.Key.Name()
			}
			return err
		}
		rows, _, err := dec.Readings(nil, blk)
		for _, x := range rows {
			out[content(names[x.Series], x.Time, x.Value)] = true
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// putBack makes the directory as it was, with files and directory that stay what they
// are: an image of the file system that is put back looks like that.
func putBack(t *testing.T, dir string, saved map[string][]byte) {
	t.Helper()
	for path := range files(t, dir) {
		if _, kept := saved[path]; !kept {
			if err := os.Remove(filepath.Join(dir, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for path, b := range saved {
		if err := os.WriteFile(filepath.Join(dir, path), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir)] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func appended(n uint64) func(*agent.Agent) bool {
	return func(a *agent.Agent) bool { return a.Status(context.Background()).Buffer.Appended >= n }
}

func confirmed(n uint64) func(*agent.Agent) bool {
	return func(a *agent.Agent) bool {
		s := a.Status(context.Background())
		return len(s.Uplinks) == 1 && s.Uplinks[0].Confirmed >= n
	}
}

// play lets the buffer go back, with offline readings taken after that, and returns
// how many of the readings that the agent had are not at the hub though the agent
// thinks so.
func (r *restored) play(offline uint64, flush time.Duration) (lost, restarts int) {
	dir := r.cfg.Buffer.Dir
	r.live("the first readings", confirmed(50))
	saved := files(r.t, dir)
	r.live("readings that the copy does not have", confirmed(50))
	putBack(r.t, dir, saved)
	r.link.Cut()
	if offline > 0 {
		r.live("readings taken offline", appended(offline))
	}
	mine := r.stored()
	r.link.Restore()
	r.flush = flush // nothing is on its way when the last life is over
	for r.live("what was taken before to be confirmed", confirmed(30)) {
		if restarts++; restarts > 3 {
			r.t.Fatal("it starts again for ever")
		}
	}
	for x := range r.stored() {
		mine[x] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for x := range mine {
		if !r.rows[x] {
			lost++
		}
	}
	return lost, restarts
}

// A buffer that is put back in place: one orderly restart, a new epoch, and nothing
// is confirmed that the hub never saw.
func TestBufferPutBack(t *testing.T) {
	t.Parallel()
	for name, offline := range map[string]uint64{"at once": 0, "few newer readings": 30, "more newer readings than the hub has": 250} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRestored(t, func(in hub.Input) hub.Input { return in })
			lost, restarts := r.play(offline, time.Minute)
			if lost > 0 {
				t.Errorf("%d readings are not at the hub", lost)
			}
			first, last := r.epochs[0], r.epochs[len(r.epochs)-1]
			if restarts != 1 || first == last || r.epochs[len(r.epochs)-2] != first {
				t.Errorf("%d restarts, epochs %v", restarts, r.epochs)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			states := map[uint32]string{} // the first of them got its number in the newer epoch last
			for _, ev := range r.alarms {
				states[ev.N] = ev.Attrs["state"] + " " + ev.Severity.String() + " " + ev.ID
			}
			id := " critical agent:rewind/cloud/" + first.String()
			if want := map[uint32]string{1: "firing" + id, 2: "cleared" + id}; !maps.Equal(states, want) || len(r.alarms) != 2 {
				t.Errorf("alarms %+v", r.alarms)
			}
		})
	}
}

// The negative control: an agent that is told only what the hub holds believes it.
func TestBufferPutBackWithoutProof(t *testing.T) {
	t.Parallel()
	r := newRestored(t, func(in hub.Input) hub.Input { return credulous{in} })
	// What the hub holds in quarantine is never confirmed: that flush takes all its time.
	if lost, restarts := r.play(250, 2*time.Second); lost < 30 || restarts != 0 {
		t.Errorf("%d readings lost, %d restarts: the test proves nothing", lost, restarts)
	}
}
