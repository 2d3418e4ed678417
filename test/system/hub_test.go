//go:build system

package system

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent/internal/api"
)

// endToEnd is an agent that replays numbers to a hub.
const endToEnd = `
version: 1
device: {id: counter}
sensors:
  - {name: numbers, driver: replay, file: DIR/numbers.csv, metric: n, pace: 5000/s}
buffer: {dir: DIR/buffer}
destinations:
  - name: cloud
    receiver: hub
    links: [{url: "%s"}]
    reconnect: {base: 200ms, cap: 2s}
`

// TestEndToEndThroughMosquitto: edgehub receive prints every number once, through a
// broker that is restarted, and the agent forgets only what the hub has printed.
func TestEndToEndThroughMosquitto(t *testing.T) {
	const total = 40_000
	broker := newMosquitto(t)
	hub := exec.Command(bin(t, "edgehub"), "receive", "--url", broker.url())
	out, err := hub.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	count := map[int]int{}
	wg.Go(func() {
		for sc := bufio.NewScanner(out); sc.Scan(); {
			var m message
			if err := json.Unmarshal(sc.Bytes(), &m); err != nil {
				t.Errorf("not a JSON object: %v: %.200s", err, sc.Text())
				return
			}
			count[int(m.Value)]++
		}
	})
	a := prepareNumberedWith(t, fmt.Sprintf(endToEnd, broker.url()), total)
	pause(3 * time.Second)
	broker.restart(time.Second)
	a.waitStatus(60*time.Second, "everything to be confirmed end to end", func(s api.Status) bool {
		return sourceEnded(s) && backlog(s) == 0
	})
	if err := a.stop(); err != nil {
		t.Errorf("agent after SIGTERM: %v", err)
	}
	if err := hub.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := hub.Wait(); err != nil {
		t.Errorf("hub after SIGTERM: %v", err)
	}
	missing, doubled := 0, 0
	for n := 1; n <= total; n++ {
		switch {
		case count[n] == 0:
			missing++
		case count[n] > 1:
			doubled++
		}
	}
	if missing > 0 || doubled > 0 || len(count) != total {
		t.Errorf("of %d numbers %d are missing, %d were printed twice; %d different ones came", total, missing, doubled, len(count))
	}
}
