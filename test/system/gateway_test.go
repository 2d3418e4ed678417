//go:build system

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/api"
)

// hostSensors reads this machine's own sensors into a broker.
const hostSensors = `
version: 1
device: {id: gw1}
sensors:
  - {name: host/load, driver: load, interval: 200ms}
  - {name: host/memory, driver: memory, interval: 200ms, tags: {site: oslo}}
buffer: {dir: DIR/buffer}
destinations:
  - name: cloud
    format: %s
    links: [{url: "%s"%s}]
    reconnect: {base: 200ms, cap: 1s}
`

// lineProtocol is one line of InfluxDB line protocol as DESIGN's form has it.
var lineProtocol = regexp.MustCompile(`^host/(load|memory),device=gw1(,site=oslo)? [a-z0-9_]+=[-0-9.e+]+(,quality="[a-z]+")? [0-9]{19}$`)

func TestLineProtocolAtMosquittoSub(t *testing.T) {
	broker := newMosquitto(t)
	sub := broker.subscribe("ea/v1/default/gw1/d/#")
	newAgent(t, fmt.Sprintf(hostSensors, "line", broker.url(), ""))
	waitFor(t, 20*time.Second, "lines", func() bool { return sub.count() >= 20 })
	metrics := map[string]bool{}
	for _, line := range sub.all() {
		if !lineProtocol.MatchString(line) {
			t.Errorf("not line protocol: %q", line)
		}
		_, field, _ := strings.Cut(line, " ")
		metrics[strings.SplitN(field, "=", 2)[0]] = true
	}
	if !metrics["load1"] || len(metrics) < 3 {
		t.Errorf("saw only the metrics %v", metrics)
	}
}

func TestSecondAgentOnTheSameBuffer(t *testing.T) {
	broker := newMosquitto(t)
	first := newAgent(t, fmt.Sprintf(hostSensors, "line", broker.url(), ""))
	first.waitStatus(20*time.Second, "the first agent", func(s api.Status) bool { return len(s.Sensors) > 0 })
	out, err := exec.Command(bin(t, "edgeagent"), "run", "-c", filepath.Join(first.dir, "agent.yaml")).CombinedOutput()
	if err == nil {
		t.Fatalf("a second agent ran on the same buffer:\n%s", out)
	}
	if !strings.Contains(string(out), "error: ") || !strings.Contains(string(out), "hint: ") {
		t.Errorf("the second agent's words:\n%s", out)
	}
	if _, ok := first.status(); !ok {
		t.Error("the first agent does not answer any more")
	}
}

func TestLoginRefusedKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	passwords := filepath.Join(dir, "passwords")
	if out, err := exec.Command("mosquitto_passwd", "-c", "-b", passwords, "gw1", "right").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v %s", err, out)
	}
	broker := newMosquitto(t, "allow_anonymous false", "password_file "+passwords)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	login := fmt.Sprintf(`, username: gw1, password: "file:%s"`, secret)
	// Nobody is subscribed, which a broker that speaks MQTT 5 tells.
	a := newAgent(t, fmt.Sprintf(hostSensors, "json\n    no_subscriber: accept", broker.url(), login))
	refused := a.waitStatus(30*time.Second, "the refusal and a backlog", func(s api.Status) bool {
		return s.Health.Level != edgeagent.OK && backlog(s) > 100
	})
	if text := fmt.Sprint(refused.Health.Warnings); !strings.Contains(text, "refused") || !strings.Contains(text, "username") {
		t.Errorf("the warning does not say what was refused and what to change: %s", text)
	}
	if strings.Contains(fmt.Sprint(refused)+a.stderr.String(), "wrong") {
		t.Error("the password is in the status or the log")
	}
	// With the right password everything taken meanwhile is delivered.
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.start()
	a.waitStatus(30*time.Second, "the backlog to drain", func(s api.Status) bool {
		return s.Uplinks[0].Confirmed >= backlog(refused) && backlog(s) < backlog(refused)
	})
}

// TestFullDisk fills the file system that holds the buffer. What was buffered
// stays, the agent says what is wrong, and it goes on when there is room again.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP: mounting a small file system needs root")
	}
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", disk).Run() })
	broker := newMosquitto(t)
	broker.stop()
	a := prepareNumberedIn(t, broker, 40_000, "2000/s", filepath.Join(disk, "buffer"))
	before := a.waitStatus(30*time.Second, "readings", func(s api.Status) bool { return backlog(s) > 2000 })
	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	full := a.waitStatus(30*time.Second, "the full disk to be noticed", func(s api.Status) bool { return s.Health.Level != edgeagent.OK && hasWarning(s, "buffer") })
	if !strings.Contains(fmt.Sprint(full.Health.Warnings), "space") && !strings.Contains(fmt.Sprint(full.Health.Warnings), "full") {
		t.Errorf("the warning does not speak of space: %v", full.Health.Warnings)
	}
	if backlog(full) < backlog(before) {
		t.Errorf("buffered records went from %d to %d", backlog(before), backlog(full))
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	atFull := backlog(full)
	a.waitStatus(60*time.Second, "the buffer to accept again", func(s api.Status) bool { return backlog(s) > atFull+500 })
	broker.start()
	sub := broker.subscribe("ea/v1/+/+/d/+")
	a.waitStatus(120*time.Second, "the replay to end and the buffer to drain", func(s api.Status) bool { return sourceEnded(s) && backlog(s) == 0 })
	broker.flush(sub, "ea/v1/end/end/d/end")
	checkIdentities(t, sub)
}

func hasWarning(s api.Status, word string) bool {
	return strings.Contains(fmt.Sprint(s.Health.Warnings), word)
}

// fill writes until the file system has no byte left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 64<<10)
	for size := len(chunk); size > 0; {
		if _, err := f.Write(chunk[:size]); err != nil {
			size /= 2
		}
	}
}
