//go:build system

package system

import (
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
	"github.com/edgeagent/edgeagent/hub/web"
)

// natsNode is one node of a cluster of nats-server with an MQTT listener.
type natsNode struct {
	t    testing.TB
	conf string
	log  string
	port int // of NATS
	mqtt int
	cmd  *exec.Cmd
}

// newCluster starts a cluster of three nodes on loopback.
func newCluster(t testing.TB) []*natsNode {
	t.Helper()
	if _, err := exec.LookPath("nats-server"); err != nil {
		t.Fatal("nats-server is not installed: apt-get install nats-server")
	}
	dir := t.TempDir()
	nodes := make([]*natsNode, 3)
	var peers strings.Builder
	ports := make([]int, 3)
	for i := range nodes {
		ports[i] = freePort(t)
		fmt.Fprintf(&peers, "nats://127.0.0.1:%d ", ports[i])
	}
	routes := peers.String()
	for i := range nodes {
		n := &natsNode{t: t, port: freePort(t), mqtt: freePort(t)}
		n.conf, n.log = filepath.Join(dir, fmt.Sprint("n", i, ".conf")), filepath.Join(dir, fmt.Sprint("n", i, ".log"))
		text := fmt.Sprintf(`
server_name: n%d
listen: 127.0.0.1:%d
log_file: %q
jetstream { store_dir: %q, max_memory_store: 64MB, max_file_store: 1GB }
cluster { name: edge, listen: 127.0.0.1:%d, routes: [%s] }
mqtt { listen: "127.0.0.1:%d" }
`, i, n.port, n.log, filepath.Join(dir, fmt.Sprint("js", i)), ports[i], strings.ReplaceAll(strings.TrimSpace(routes), " ", ", "), n.mqtt)
		if err := os.WriteFile(n.conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		nodes[i] = n
		n.start()
	}
	t.Cleanup(func() {
		for _, n := range nodes {
			if n.cmd != nil {
				n.kill()
			}
			if t.Failed() {
				text, _ := os.ReadFile(n.log)
				t.Logf("log of a node:\n%s", tail(string(text), 15))
			}
		}
	})
	for _, n := range nodes {
		waitFor(t, 30*time.Second, "a node to listen for MQTT", func() bool {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.mqtt))
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
	waitFor(t, 30*time.Second, "the cluster to have a leader", func() bool {
		for _, n := range nodes {
			text, _ := os.ReadFile(n.log)
			if strings.Contains(string(text), "JetStream cluster new metadata leader") {
				return true
			}
		}
		return false
	})
	return nodes
}

func (n *natsNode) start() {
	n.t.Helper()
	n.cmd = exec.Command("nats-server", "-c", n.conf)
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
}

// kill is kill -9.
func (n *natsNode) kill() {
	n.t.Helper()
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	n.cmd = nil
}

// toCluster is an agent that may use each node.
const toCluster = `
version: 1
device: {id: counter-%d}
sensors:
  - {name: numbers, driver: replay, file: DIR/numbers.csv, metric: n, pace: %d/s}
buffer: {dir: DIR/buffer}
destinations:
  - name: cloud
    receiver: hub
    links: [%s]
    reconnect: {base: 200ms, cap: 2s}
    confirm_timeout: 15s
`

// TestWorkersOnCluster: three workers share a stream on a cluster of three nodes. One node
// and one worker are killed while agents drain. Every reading is stored once.
func TestWorkersOnCluster(t *testing.T) {
	const agents, total, pace = 6, 20_000, 3000
	pg, nodes := pgtest.Start(t), newCluster(t)
	var urls []string
	for _, n := range nodes {
		urls = append(urls, fmt.Sprintf("127.0.0.1:%d", n.port))
	}
	workers := make([]*serveProc, 3)
	for i := range workers {
		workers[i] = newServe(t, fmt.Sprintf(`
version: 1
state: DIR
inputs: [{url: "nats://%s", stream: EDGE, replicas: 3}]
sink: {type: postgres, url: "%s"}
replay: {after: 3s}
`, strings.Join(urls, ","), pg.URL()), "ingest", "--worker", fmt.Sprint("w", i))
		waitFor(t, time.Minute, "a worker to take messages", func() bool {
			text, _ := os.ReadFile(filepath.Join(workers[i].dir, "log"))
			return containsLine(text, "input takes messages")
		})
	}
	for i := range agents {
		var links []string
		for k := range nodes {
			links = append(links, fmt.Sprintf(`{url: "mqtt://127.0.0.1:%d"}`, nodes[(i+k)%len(nodes)].mqtt))
		}
		prepareNumberedWith(t, fmt.Sprintf(toCluster, i, pace, strings.Join(links, ", ")), total)
	}
	waitFor(t, time.Minute, "records to flow", func() bool {
		var list []web.Device
		return workers[0].ask(&list, "devices") && len(list) > 0 && list[0].Records > 0
	})
	// Frozen, the worker is handed messages that it will never acknowledge.
	if err := workers[2].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	pause(time.Second)
	nodes[1].kill()
	pause(500 * time.Millisecond)
	workers[2].kill()
	pause(4 * time.Second)
	nodes[1].start()

	store, err := postgres.Open(t.Context(), pg.URL(), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var last hub.Stats
	defer func() {
		if t.Failed() {
			t.Logf("what the store knows: %+v", last.Devices)
		}
	}()
	waitFor(t, 3*time.Minute, "every agent's records to be stored", func() bool {
		pause(time.Second)
		h, err := hub.New(hub.Options{Store: store, Shared: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Restore(t.Context()); err != nil {
			t.Fatal(err)
		}
		last = h.Stats()
		for _, d := range last.Devices {
			held := uint64(0)
			for _, e := range d.Epochs {
				for _, s := range e.Streams {
					held += s.Held
					if !s.Complete {
						return false
					}
				}
			}
			if held < total {
				return false
			}
		}
		if g := h.Gaps(); len(g) > 0 {
			return false
		}
		return len(last.Devices) == agents
	})
	// What the dead worker had taken and not acknowledged comes again to another, after
	// 30 s, if it had taken anything then; agents have mostly sent it again long since.
	resent := uint64(0)
	for until := time.Now().Add(40 * time.Second); resent == 0 && time.Now().Before(until); {
		pause(time.Second)
		for _, w := range workers[:2] {
			var list []web.Device
			waitFor(t, 20*time.Second, "a worker to answer", func() bool { return w.ask(&list, "devices") })
			for _, d := range list {
				resent += d.Resent
			}
		}
	}
	t.Logf("%d records came again and were left out", resent)
	checkStored(t, store, agents, total)
	for _, w := range workers[:2] {
		w.stop()
	}
}
