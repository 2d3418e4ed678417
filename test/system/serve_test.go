//go:build system

package system

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/sinks/postgres"
	"github.com/edgeagent/edgeagent/hub/sinks/postgres/pgtest"
	"github.com/edgeagent/edgeagent/hub/sinks/sqlite"
	"github.com/edgeagent/edgeagent/hub/web"
)

// serveProc is `edgehub serve` or a worker, `edgehub ingest`, on a configuration in a
// directory of its own.
type serveProc struct {
	t    testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
}

// newServe starts a program of edgehub; config has DIR for its directory.
func newServe(t testing.TB, config string, args ...string) *serveProc {
	t.Helper()
	// Unix socket paths are short; test directories are not.
	dir, err := os.MkdirTemp("", "eh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "edgehub.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(config, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &serveProc{t: t, dir: dir, args: append(args, "-c", file)}
	s.start()
	t.Cleanup(func() {
		if s.cmd != nil {
			s.kill()
		}
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("standard error of edgehub %v:\n%s", args, tail(string(text), 30))
		}
	})
	return s
}

func (s *serveProc) start() {
	s.t.Helper()
	s.cmd = exec.Command(bin(s.t, "edgehub"), s.args...)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// kill is kill -9.
func (s *serveProc) kill() {
	s.t.Helper()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

func (s *serveProc) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Error(err)
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("edgehub after SIGTERM: %v", err)
	}
	s.cmd = nil
}

// ask reads what a command of edgehub prints as JSON; ok is false while no hub answers.
func (s *serveProc) ask(v any, args ...string) (ok bool) {
	out, err := exec.Command(bin(s.t, "edgehub"), append(args, "--json", "--state", s.dir)...).Output()
	return err == nil && json.Unmarshal(out, v) == nil
}

// connected waits until the hub's session is at the broker: before that, what a gateway
// says at the start of its session reaches nobody, and is repeated after minutes only.
func (s *serveProc) connected() {
	s.t.Helper()
	waitFor(s.t, 20*time.Second, "the hub to be connected", func() bool {
		text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		return containsLine(text, "receiver connected")
	})
}

// complete reports whether the hub says that it has everything of n devices.
func (s *serveProc) complete(n int) bool {
	var list []web.Device
	if !s.ask(&list, "devices") || len(list) != n {
		return false
	}
	for _, d := range list {
		if !d.Complete || d.Missing > 0 {
			return false
		}
	}
	return true
}

// holds reports whether the hub has all records of n agents that take so many each, and
// says so.
func (s *serveProc) holds(n int, each uint64) bool {
	var list []web.Device
	if !s.ask(&list, "devices") {
		return false
	}
	held := uint64(0)
	for _, d := range list {
		held += d.Records
	}
	return held >= uint64(n)*each && s.complete(n)
}

// numbersTo is an agent that replays numbers to a hub.
const numbersTo = `
version: 1
device: {id: counter-%d}
sensors:
  - {name: numbers, driver: replay, file: DIR/numbers.csv, metric: n, pace: %d/s}
buffer: {dir: DIR/buffer}
destinations:
  - name: cloud
    receiver: hub
    links: [{url: "%s"}]
    reconnect: {base: 200ms, cap: 2s}
    confirm_timeout: 30s
`

// checkStored holds what is stored against 1 … total of each of n agents: every number
// once, every identity once.
func checkStored(t *testing.T, r hub.Reader, n, total int) {
	t.Helper()
	type id struct {
		device string
		epoch  uint64
		seq    uint64
	}
	seen, ids := map[string][]int{}, map[id]bool{}
	for x, err := range r.Read(t.Context(), hub.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		key := id{x.Device, uint64(x.Epoch), uint64(x.Row.Seq)}
		if ids[key] {
			t.Fatalf("stored twice: %+v", key)
		}
		ids[key] = true
		if seen[x.Device] == nil {
			seen[x.Device] = make([]int, total+1)
		}
		v := int(x.Row.Value)
		if v < 1 || v > total {
			t.Fatalf("a number that was never sent: %v of %s", x.Row.Value, x.Device)
		}
		seen[x.Device][v]++
	}
	if len(seen) != n {
		t.Fatalf("records of %d devices, want %d", len(seen), n)
	}
	missing, doubled := 0, 0
	for _, counts := range seen {
		for _, c := range counts[1:] {
			switch {
			case c == 0:
				missing++
			case c > 1:
				doubled++
			}
		}
	}
	t.Logf("%d records of %d agents: %d missing, %d twice", len(ids), n, missing, doubled)
	if missing > 0 || doubled > 0 {
		t.Errorf("%d numbers are missing, %d are there twice", missing, doubled)
	}
}

// startAgents starts n agents that send 1 … total each.
func startAgents(t *testing.T, n, total, pace int, url string) {
	t.Helper()
	for i := range n {
		prepareNumberedWith(t, fmt.Sprintf(numbersTo, i, pace, url), total)
	}
}

// TestTwentyAgents is the promise of the hub in one test: 20 agents, two outages of the
// broker, one kill -9 of the hub, one of the database. Every reading is stored once, and
// the hub says that nothing is missing.
func TestTwentyAgents(t *testing.T) {
	const agents, total, pace = 20, 2000, 150
	pg, broker := pgtest.Start(t), newMosquitto(t)
	h := newServe(t, fmt.Sprintf(`
version: 1
state: DIR
broker: {listen: "off"}
inputs: [{url: "%s"}]
sink: {type: postgres, url: "%s"}
http: {listen: "off"}
replay: {after: 3s}
`, broker.url(), pg.URL()), "serve")
	h.connected()
	startAgents(t, agents, total, pace, broker.url())
	pause(2 * time.Second)
	broker.restart(2 * time.Second)
	pause(time.Second)
	h.kill()
	pause(time.Second)
	h.start()
	pause(2 * time.Second)
	pg.Kill()
	pause(2 * time.Second)
	pg.Restart()
	pause(time.Second)
	broker.restart(2 * time.Second)
	store, err := postgres.Open(t.Context(), pg.URL(), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	waitFor(t, 2*time.Minute, "every agent's records to be stored", func() bool { return h.holds(agents, total) })
	checkStored(t, store, agents, total)
	var gaps []web.Gap
	waitFor(t, 20*time.Second, "the hub to answer", func() bool { return h.ask(&gaps, "gaps") })
	if len(gaps) > 0 {
		t.Errorf("gaps: %+v", gaps)
	}
	h.stop()
}

// TestServeAlone is the same with nothing but the one program: its own broker goes down
// with it, and its SQLite file is all that is left.
func TestServeAlone(t *testing.T) {
	const agents, total, pace = 5, 3000, 300
	port := freePort(t)
	h := newServe(t, fmt.Sprintf(`
version: 1
state: DIR
broker: {listen: "127.0.0.1:%d"}
http: {listen: "off"}
replay: {after: 3s}
`, port), "serve")
	waitFor(t, 10*time.Second, "the hub's broker", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	startAgents(t, agents, total, pace, fmt.Sprintf("mqtt://127.0.0.1:%d", port))
	for range 3 {
		pause(2 * time.Second)
		h.kill()
		pause(time.Second)
		h.start()
	}
	waitFor(t, 2*time.Minute, "every agent's records to be stored", func() bool { return h.holds(agents, total) })
	var gaps []web.Gap
	waitFor(t, 20*time.Second, "the hub to answer", func() bool { return h.ask(&gaps, "gaps") })
	if len(gaps) > 0 {
		t.Errorf("gaps: %+v", gaps)
	}
	h.stop()
	store, err := sqlite.Open(context.Background(), filepath.Join(h.dir, "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	checkStored(t, store, agents, total)
}

// TestServeOverDTLS: gateways come without a broker, each with a key of its own, to a
// hub that is killed meanwhile.
func TestServeOverDTLS(t *testing.T) {
	const total = 3000
	t.Setenv("GATEWAY_KEY", "a key of 24 letters or so")
	port := freePort(t)
	h := newServe(t, fmt.Sprintf(`
version: 1
state: DIR
broker: {listen: "127.0.0.1:%d", users: [{name: pump, password: "env:GATEWAY_KEY", device: counter-0}]}
http: {listen: "off"}
inputs: [{name: dtls, url: "coaps://127.0.0.1:%d"}]
replay: {after: 3s}
`, freePort(t), port), "serve")
	links := fmt.Sprintf(`"coaps://127.0.0.1:%d", username: pump, password: "env:GATEWAY_KEY"`, port)
	config := strings.Replace(fmt.Sprintf(numbersTo, 0, 500, "LINK"), `"LINK"`, links, 1)
	a := prepareNumberedWith(t, config, total)
	for range 2 {
		pause(2 * time.Second)
		h.kill()
		pause(time.Second)
		h.start()
	}
	t.Logf("drained in %v", a.drained(90*time.Second))
	waitFor(t, 20*time.Second, "the hub to say that it has everything", func() bool { return h.complete(1) })
	h.stop()
	store, err := sqlite.Open(context.Background(), filepath.Join(h.dir, "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	checkStored(t, store, 1, total)
}
