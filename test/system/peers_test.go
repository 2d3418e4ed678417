//go:build system

package system

import (
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

	"github.com/edgeagent/edgeagent/internal/api"
)

// natsServer is a NATS server with JetStream and its MQTT listener, which speaks 3.1.1
// and stores what it acknowledges.
type natsServer struct {
	t    testing.TB
	conf string
	addr string
	cmd  *exec.Cmd
}

func newNATS(t testing.TB) *natsServer {
	t.Helper()
	dir := t.TempDir()
	n := &natsServer{t: t, conf: filepath.Join(dir, "nats.conf"), addr: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	_, port, _ := net.SplitHostPort(n.addr)
	text := fmt.Sprintf("server_name: peer\nhost: 127.0.0.1\nport: %d\njetstream { store_dir: %q }\nmqtt { host: 127.0.0.1, port: %s }\nlog_file: %q\n",
		freePort(t), filepath.Join(dir, "store"), port, filepath.Join(dir, "log"))
	if err := os.WriteFile(n.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	t.Cleanup(n.kill)
	return n
}

func (n *natsServer) start() {
	n.t.Helper()
	program, err := exec.LookPath("nats-server")
	if err != nil {
		program = "/usr/sbin/nats-server"
	}
	n.cmd = exec.Command(program, "-c", n.conf)
	if err := n.cmd.Start(); err != nil {
		n.t.Fatalf("nats-server is not installed: apt-get install nats-server: %v", err)
	}
	waitFor(n.t, 20*time.Second, "nats-server to listen", func() bool {
		c, err := net.Dial("tcp", n.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (n *natsServer) kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
		n.cmd = nil
	}
}

// TestNATSServer: another server than mosquitto, killed in the middle, and the agent,
// too. Everything arrives, and nothing twice.
func TestNATSServer(t *testing.T) {
	const total = 20_000
	n := newNATS(t)
	hub := newHub(t, "mqtt://"+n.addr)
	a := prepareNumberedWith(t, toHub("mqtt://"+n.addr, "5000/s", "confirm_timeout: 3s"), total)
	waitFor(t, 30*time.Second, "the first numbers", func() bool { return hub.count() > 2000 })
	n.kill()
	pause(500 * time.Millisecond)
	n.start()
	pause(500 * time.Millisecond)
	a.kill()
	a.start()
	t.Logf("drained in %v", a.drained(60*time.Second))
	if hub.checkNumbers(total) > 0 {
		t.Error("records were printed twice although the hub never restarted")
	}
}

// speaking is url with a version of MQTT, where toHub puts it.
func speaking(url, protocol string) string { return url + `", protocol: "` + protocol }

// bothProtocols runs f for each version of MQTT.
func bothProtocols(t *testing.T, f func(t *testing.T, protocol string)) {
	for _, protocol := range []string{"3.1.1", "5"} {
		t.Run("MQTT "+protocol, func(t *testing.T) { f(t, protocol) })
	}
}

// TestShortQueueBothProtocols: the hub is away behind a broker that keeps ten messages.
// What it drops, and has acknowledged, is sent again.
func TestShortQueueBothProtocols(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		const total = 10_000
		broker := newMosquitto(t, "max_queued_messages 10")
		hub := newHub(t, broker.url())
		a := prepareNumberedWith(t, toHub(speaking(broker.url(), protocol), "5000/s", "confirm_timeout: 2s"), total)
		pause(500 * time.Millisecond)
		hub.kill()
		a.waitStatus(30*time.Second, "the end of the replay", sourceEnded)
		pause(time.Second)
		hub.start()
		t.Logf("drained in %v", a.drained(60*time.Second))
		hub.checkNumbers(total)
	})
}

// TestBrokerWithFullDisk: the broker has nowhere to store what it acknowledges, and is
// killed, so that it has nothing of it afterwards.
func TestBrokerWithFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP: mounting a small file system needs root")
	}
	bothProtocols(t, func(t *testing.T, protocol string) {
		const total = 10_000
		disk := t.TempDir()
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v %s", err, out)
		}
		t.Cleanup(func() { _ = exec.Command("umount", "-l", disk).Run() })
		fill(t, filepath.Join(disk, "filler"))
		broker := newMosquitto(t, "autosave_interval 1", "autosave_on_changes false", "persistence_file full/mosquitto.db")
		if err := os.Symlink(disk, filepath.Join(broker.dir, "full")); err != nil {
			t.Fatal(err)
		}
		hub := newHub(t, broker.url())
		a := prepareNumberedWith(t, toHub(speaking(broker.url(), protocol), "5000/s", "confirm_timeout: 2s"), total)
		pause(500 * time.Millisecond)
		hub.kill()
		a.waitStatus(30*time.Second, "the broker to acknowledge what nobody takes", func(s api.Status) bool {
			return sourceEnded(s) && s.Uplinks[0].Waiting > 0
		})
		broker.kill()
		broker.start()
		hub.start()
		t.Logf("drained in %v", a.drained(60*time.Second))
		hub.checkNumbers(total)
	})
}

// TestForbiddenTopicMQTT5: with reason codes the broker says what its access list
// forbids. Nothing is given up, the agent says why, and all of it arrives afterwards.
func TestForbiddenTopicMQTT5(t *testing.T) {
	const total = 2000
	acl := filepath.Join(t.TempDir(), "acl")
	allow := func(data string) {
		if err := os.WriteFile(acl, []byte("topic "+data+" ea/v1/+/+/d/+\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	allow("read")
	broker := newMosquitto(t, "acl_file "+acl)
	sub := broker.subscribe("ea/v1/+/+/d/+")
	config := fmt.Sprintf(numbered, "max", "DIR/buffer", speaking(broker.url(), "5")) + "    ack: reason\n"
	a := prepareNumberedWith(t, config, total)
	s := a.waitStatus(20*time.Second, "the refusal", func(s api.Status) bool {
		return sourceEnded(s) && strings.Contains(strings.ToLower(fmt.Sprint(s.Health.Warnings)), "not authori")
	})
	t.Logf("health %v", s.Health)
	if backlog(s) != total || sub.count() > 0 {
		t.Errorf("%d of %d kept, %d at the subscriber", backlog(s), total, sub.count())
	}
	allow("readwrite")
	broker.signal(syscall.SIGHUP) // it reads its access list again
	a.kill()                      // a lane that was refused is tried again with each session, or after 5 min
	a.start()
	a.waitStatus(60*time.Second, "the buffer to drain", func(s api.Status) bool { return sourceEnded(s) && backlog(s) == 0 })
	checkNumbers(t, broker, sub, total)
}

// TestHalfOpenLink: the link takes everything and answers nothing, at a keep-alive of
// 10 s and default timeouts. It is noticed, whether there is something to send or not:
// within 15 s, to which the tests of sync/mqtt hold it in virtual time.
func TestHalfOpenLink(t *testing.T) {
	for _, protocol := range []string{"3.1.1", "5"} {
		for name, total := range map[string]int{"idle": 10, "publishing": 60_000} {
			t.Run("MQTT "+protocol+" "+name, func(t *testing.T) {
				t.Parallel() // they wait
				broker := newMosquitto(t)
				link := newProxy(t, strings.TrimPrefix(broker.url(), "mqtt://"))
				config := strings.Replace(toHub(speaking(link.url(), protocol), "1000/s", "no_subscriber: accept"), "receiver: hub", "format: json", 1)
				a := prepareNumberedWith(t, strings.Replace(config, "keep_alive: 5s", "keep_alive: 10s", 1), total)
				a.waitStatus(20*time.Second, "the first numbers", func(s api.Status) bool { return s.Uplinks[0].Confirmed > 5 })
				link.blackhole.Store(true)
				began := time.Now()
				s := a.waitStatus(30*time.Second, "the dead link to be noticed", func(s api.Status) bool { return s.Uplinks[0].State != api.UplinkUp })
				t.Logf("noticed after %v: %s", time.Since(began).Round(10*time.Millisecond), s.Uplinks[0].LastError)
			})
		}
	}
}

// TestSyncCheckMosquitto: the check finds what a real broker forbids, by its word or by
// its hanging up, and leaves a link that works alone.
func TestSyncCheckMosquitto(t *testing.T) {
	acl := filepath.Join(t.TempDir(), "acl")
	if err := os.WriteFile(acl, []byte("topic readwrite ea/v1/default/good/#\ntopic read ea/v1/#\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broker := newMosquitto(t, "acl_file "+acl)
	newHub(t, broker.url())
	bothProtocols(t, func(t *testing.T, protocol string) {
		for _, device := range []string{"good", "bad"} {
			config := filepath.Join(t.TempDir(), "agent.yaml")
			text := fmt.Sprintf("version: 1\ndevice: {id: %s}\ndestinations: [{name: cloud, format: json, no_subscriber: accept, links: [{url: %q, protocol: %q}]}]\n", device, broker.url(), protocol)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(bin(t, "edgeagent"), "sync", "check", "-c", config, "--json")
			out, _ := cmd.Output() // its exit code is looked at below
			var r struct {
				State        string
				Destinations []struct {
					Links []struct {
						Steps []struct{ Name, State, Text, Hint string }
					}
				}
			}
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			last := ""
			for _, s := range r.Destinations[0].Links[0].Steps {
				if s.State == "failed" {
					last = s.Name + ": " + s.Text + " (" + s.Hint + ")"
				}
			}
			t.Logf("%s: exit %d, %s", device, cmd.ProcessState.ExitCode(), last)
			if device == "good" && (r.State != "ok" || cmd.ProcessState.ExitCode() != 0) {
				t.Errorf("good: %s", out)
			}
			if device == "bad" && (r.State != "failed" || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(last, "access list")) {
				t.Errorf("bad: %s", out)
			}
		}
	})
}

// TestSyncBenchMosquitto: the bench runs against a real broker and leaves nothing there.
func TestSyncBenchMosquitto(t *testing.T) {
	broker := newMosquitto(t)
	bothProtocols(t, func(t *testing.T, protocol string) {
		cmd := exec.Command(bin(t, "edgeagent"), "sync", "bench", "--upstream", broker.url(), "--protocol", protocol,
			"--readings", "100000", "--rounds", "1", "--for", "1s", "--shaped=false", "--json")
		cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var r struct {
			Readings float64  `json:"drain_readings_per_s"`
			Share    float64  `json:"share_of_raw"`
			Live     *float64 `json:"live_p99_ms"`
		}
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatal(err)
		}
		t.Logf("%.0f readings/s, %.2f of the library alone", r.Readings, r.Share)
		if r.Readings <= 0 || r.Share <= 0 || r.Live == nil {
			t.Errorf("%s", out)
		}
	})
	left := broker.subscribe("#")
	broker.flush(left, "end")
	if n := left.count() - 1; n > 0 {
		t.Errorf("%d retained messages are left", n)
	}
}
