package agent

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
)

// silentServer accepts and never says anything.
func silentServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		l.Close()
		done.Wait()
		for _, c := range conns {
			c.Close()
		}
	})
	return l.Addr().String()
}

// TestDeadInputsStallNobody: of every kind of input one that is dead, and one sensor
// that is well keeps its interval beside them; and all of it ends in time.
func TestDeadInputsStallNobody(t *testing.T) {
	dir, dead := t.TempDir(), silentServer(t)
	cfg := parse(t, dir, fmt.Sprintf(`version: 1
buffer: {dir: DIR/buffer}
api: {socket: DIR/a.sock}
outputs: [{name: relay, chip: gpiochip99, line: 1}]
sensors:
  - {name: a, driver: modbus, url: "tcp://%[1]s", registers: [{metric: v}], interval: 100ms}
  - {name: b, driver: modbus, url: "rtu://DIR/none", registers: [{metric: v}], interval: 100ms}
  - {name: c, driver: mqtt, url: "mqtt://%[1]s", topics: [{filter: "#"}]}
  - {name: d, driver: push, listen: "%[1]s"}
  - {name: e, driver: exec, command: [/bin/sleep, "100"], timeout: 300ms}
  - {name: f, driver: gps, port: DIR/none}
  - {name: g, driver: gpio, chip: gpiochip99, line: 1}
  - {name: h, driver: gpio, chip: gpiochip99, line: 2, mode: edge}
  - {name: i, driver: gpio, chip: gpiochip99, line: 3, mode: counter}
`, dead), "")
	withSource(cfg, "well", 20*time.Millisecond, func() (float64, error) { return 1, nil })
	r := start(t, Options{Config: cfg, Clock: clock.Go(), Dial: noNetwork, Root: dir})
	well := func() sensors.SourceStats {
		list := r.scheduler.Stats()
		return list[len(list)-1]
	}
	waitFor(t, "the sensor that is well", func() bool { taken, _, _ := r.Counts(); return taken > 100 })
	waitFor(t, "the others to be known as dead", func() bool {
		bad := 0
		for _, s := range r.scheduler.Stats() {
			if s.Errors > 0 {
				bad++
			}
		}
		return bad == 9
	})
	before := well().Samples
	waitFor(t, "more samples of the sensor that is well", func() bool { return well().Samples > before+20 })
	if st := well(); st.Errors > 0 {
		t.Errorf("the sensor that is well: %d samples, %d errors", st.Samples, st.Errors)
	}
	if h := r.outputs.troubles(); len(h) != 1 {
		t.Errorf("an output that is not there: %+v", h)
	}
	r.stop(t)
}

// What speaks when it likes is not stale because an interval has passed.
func TestIntervalsForRules(t *testing.T) {
	cfg := parse(t, t.TempDir(), `version: 1
sensors:
  - {name: load, driver: load, interval: 5s}
  - {name: level, driver: gpio, line: A}
  - {name: edge, driver: gpio, line: B, mode: edge}
  - {name: gps, driver: gps, port: /dev/x, every: 1m}
  - {name: mqtt, driver: mqtt, topics: [{filter: a}]}
  - {name: push, driver: push}
  - {name: old, driver: replay, file: x.csv}
`, "")
	want := map[string]time.Duration{"load": 5 * time.Second, "level": time.Second, "edge": 10 * time.Second, "gps": time.Minute}
	if diff := cmp.Diff(want, intervals(cfg.Sensors)); diff != "" {
		t.Errorf("intervals (-want +got):\n%s", diff)
	}
}
