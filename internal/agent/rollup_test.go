package agent

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sync/mqtt"
)

// A buffer that was full for long while the broker was away delivers what is left of
// all that it took: readings, and rollups that stand for the rest.
func TestDeliversRollups(t *testing.T) {
	t.Parallel()
	url, got := listen(t, broker.Options{}, mqtt.ReceiverConfig{})
	dir := t.TempDir()
	total := overfill(t, dir+"/buffer")
	cfg := parse(t, dir, lonely+strings.Replace(toBroker, "URL", url, 1), "")
	r := start(t, Options{Config: cfg, Clock: clock.System(clock.Trusted, time.Time{})})
	waitFor(t, "the backlog", func() bool {
		s := r.Status(t.Context())
		return len(s.Uplinks) == 1 && s.Uplinks[0].Confirmed > 0 && s.Uplinks[0].Backlog == 0
	})
	want := r.Status(t.Context()).Uplinks[0].Confirmed
	waitFor(t, "the rest", func() bool { return uint64(got.count()) >= want })
	r.stop(t)
	got.mu.Lock()
	defer got.mu.Unlock()
	readings, rolled := 0, 0
	for line := range got.seen {
		_, count, ok := strings.Cut(line, "x_count=")
		if !ok {
			readings++
			continue
		}
		number, _, _ := strings.Cut(count, "i")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		rolled += n
	}
	if rolled == 0 || readings == 0 || readings+rolled != total {
		t.Errorf("%d readings and rollups of %d arrived, %d were stored", readings, rolled, total)
	}
}

// overfill puts more into a small buffer than it holds, and returns how much.
func overfill(t *testing.T, dir string) (total int) {
	t.Helper()
	o := buffer.Options{Config: buffer.Config{MaxBytes: 4 << 20}, Device: "gw1"}
	b, _, err := buffer.Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Register(buffer.Destination{Name: "cloud"}); err != nil {
		t.Fatal(err)
	}
	series := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "pump", Metric: "x", Resolution: edgeagent.DefaultResolution})
	rng := rand.New(rand.NewPCG(1, 2))
	for b.Stats().Streams[edgeagent.StreamTelemetry].RolledUp == 0 {
		rs := make([]edgeagent.Reading, 4000)
		for i := range rs { // values that no codec makes small
			rs[i] = edgeagent.Reading{Series: series, At: edgeagent.Instant{Wall: int64(total+i) * 1e9}, Value: rng.NormFloat64(), Recorded: true}
		}
		if _, err := b.Append(t.Context(), rs); err != nil {
			t.Fatal(err)
		}
		total += len(rs)
	}
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return total
}
