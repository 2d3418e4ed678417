//go:build system

package system

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// victoria is Debian's victoria-metrics, on a directory that outlives it.
type victoria struct {
	t    testing.TB
	dir  string
	addr string
	cmd  *exec.Cmd
}

func newVictoria(t testing.TB) *victoria {
	t.Helper()
	if _, err := exec.LookPath("victoria-metrics"); err != nil {
		t.Fatal("victoria-metrics is not installed: apt-get install victoria-metrics")
	}
	v := &victoria{t: t, dir: filepath.Join(t.TempDir(), "data"), addr: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	v.start()
	t.Cleanup(v.kill)
	return v
}

func (v *victoria) start() {
	v.t.Helper()
	v.cmd = exec.Command("victoria-metrics", "-storageDataPath", v.dir, "-httpListenAddr", v.addr,
		"-retentionPeriod", "100y", "-search.latencyOffset", "0s", "-loggerLevel", "ERROR")
	if err := v.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	waitFor(v.t, 30*time.Second, "victoria-metrics to answer", func() bool {
		r, err := http.Get("http://" + v.addr + "/health")
		if err == nil {
			r.Body.Close()
		}
		return err == nil
	})
}

func (v *victoria) kill() {
	if v.cmd == nil {
		return
	}
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
	v.cmd = nil
}

// values returns how often each value of a metric is there, by device.
func (v *victoria) values(metric string) map[string]map[int]int {
	v.t.Helper()
	r, err := http.PostForm("http://"+v.addr+"/api/v1/export", url.Values{"match[]": {metric}, "start": {"0"}})
	if err != nil {
		return nil
	}
	defer r.Body.Close()
	out := map[string]map[int]int{}
	sc := bufio.NewScanner(r.Body)
	sc.Buffer(nil, 64<<20)
	for sc.Scan() {
		var s struct {
			Metric map[string]string `json:"metric"`
			Values []float64         `json:"values"`
		}
		if err := json.Unmarshal(sc.Bytes(), &s); err != nil {
			v.t.Fatalf("export: %v", err)
		}
		if out[s.Metric["device"]] == nil {
			out[s.Metric["device"]] = map[int]int{}
		}
		for _, x := range s.Values {
			out[s.Metric["device"]][int(x)]++
		}
	}
	return out
}

// TestLineIntoVictoriaMetrics: the hub is killed and the server is restarted; what came
// again has overwritten itself.
func TestLineIntoVictoriaMetrics(t *testing.T) {
	const agents, total, pace = 3, 3000, 500
	v, broker := newVictoria(t), newMosquitto(t)
	h := newServe(t, fmt.Sprintf(`
version: 1
state: DIR
broker: {listen: "off"}
inputs: [{url: "%s"}]
sink: {type: line, url: "http://%s/write"}
http: {listen: "off"}
replay: {after: 3s}
`, broker.url(), v.addr), "serve")
	h.connected()
	startAgents(t, agents, total, pace, broker.url())
	defer func() {
		if t.Failed() && h.cmd != nil {
			out, _ := exec.Command(bin(t, "edgehub"), "devices", "--json", "--state", h.dir).Output()
			t.Logf("devices: %s", out)
		}
	}()
	pause(2 * time.Second)
	h.kill()
	pause(500 * time.Millisecond)
	h.start()
	pause(time.Second)
	// In order: this server keeps the last seconds in memory and loses them in a kill -9,
	// whatever it has answered.
	_ = v.cmd.Process.Signal(os.Interrupt)
	_ = v.cmd.Wait()
	pause(time.Second)
	v.start()
	waitFor(t, time.Minute, "every agent's records to be stored", func() bool { return h.holds(agents, total) })
	waitFor(t, 30*time.Second, "the server to show every value once", func() bool {
		got := v.values("numbers_n")
		for i := range agents {
			counts := got[fmt.Sprint("counter-", i)]
			if len(counts) != total {
				return false
			}
			for _, n := range counts {
				if n != 1 {
					return false
				}
			}
		}
		return len(got) == agents
	})
	h.stop()
}
