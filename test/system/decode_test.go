//go:build system

package system

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent/internal/api"
)

// toDecode is an agent that believes the broker.
const toDecode = `
version: 1
device: {id: counter}
sensors:
  - {name: numbers, driver: replay, file: DIR/numbers.csv, metric: n, pace: 5000/s}
buffer: {dir: DIR/buffer}
destinations:
  - name: cloud
    format: block
    ack: transport
    links: [{url: "%s"}]
`

// TestDecodeBehindMosquittoSub runs the pipe of docs/how-to/decode-blocks.md.
func TestDecodeBehindMosquittoSub(t *testing.T) {
	const total = 10_000
	broker := newMosquitto(t)
	pipe := fmt.Sprintf(`mosquitto_sub -p %d -t 'ea/v1/+/+/d/+' -q 1 -c -i decode -F '%%t %%l\n%%p' | %s decode --format json --framing topic --names %s`,
		broker.port, bin(t, "edgehub"), filepath.Join(t.TempDir(), "names"))
	cmd := exec.Command("sh", "-c", pipe)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[int]bool{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for sc := bufio.NewScanner(out); sc.Scan(); {
			var m message
			if err := json.Unmarshal(sc.Bytes(), &m); err != nil {
				t.Errorf("not a JSON object: %v: %.200s", err, sc.Text())
				continue
			}
			mu.Lock()
			seen[int(m.Value)] = true
			mu.Unlock()
		}
	})
	broker.subscribed("decode", "ea/v1/+/+/d/+")
	a := prepareNumberedWith(t, fmt.Sprintf(toDecode, broker.url()), total)
	a.waitStatus(60*time.Second, "the buffer to drain", func(s api.Status) bool { return sourceEnded(s) && backlog(s) == 0 })
	waitFor(t, 20*time.Second, "every number to be printed", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == total
	})
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // the whole pipe
	wg.Wait()
	_ = cmd.Wait()
}
