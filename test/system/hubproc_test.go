//go:build system

package system

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// hubProc is `edgehub receive`. What it prints is kept over its lives: a record
// may be printed once in each life, and always with the same content.
type hubProc struct {
	t   testing.TB
	url string
	cmd *exec.Cmd
	log string // file of standard error, all lives

	mu      sync.Mutex // guards what follows
	life    int
	out     *os.File // standard output of this life
	rest    []byte   // of a line that is not at its end
	lines   int
	printed map[identity]printout
	bad     []string
}

// identity is what a record is known by.
type identity struct {
	Device, Epoch, Stream string
	Seq                   uint64
}

// printout is the latest line about a record.
type printout struct {
	life int
	line string
	message
	Kind string
	Text string
}

func newHub(t testing.TB, url string) *hubProc {
	t.Helper()
	h := &hubProc{t: t, url: url, printed: map[identity]printout{}, log: filepath.Join(t.TempDir(), "hub.log")}
	h.start()
	waitFor(t, 20*time.Second, "the hub to be connected", func() bool {
		text, _ := os.ReadFile(h.log)
		return containsLine(text, "receiver connected")
	})
	t.Cleanup(func() {
		if h.cmd != nil {
			h.kill()
		}
		if t.Failed() {
			text, _ := os.ReadFile(h.log)
			t.Logf("hub's standard error:\n%s", tail(string(text), 30))
		}
	})
	return h
}

func (h *hubProc) start() {
	h.t.Helper()
	h.cmd = exec.Command(bin(h.t, "edgehub"), "receive", "--url", h.url)
	stderr, err := os.OpenFile(h.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer stderr.Close()
	h.cmd.Stderr = stderr
	// A file and not a pipe: what is acknowledged stands in it, however late this test reads.
	out, err := os.Create(filepath.Join(filepath.Dir(h.log), fmt.Sprintf("hub-%d.out", h.life+1)))
	if err != nil {
		h.t.Fatal(err)
	}
	defer out.Close()
	h.cmd.Stdout = out
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.life++
	if h.out, err = os.Open(out.Name()); err != nil {
		h.t.Fatal(err)
	}
}

// read takes what this life has printed since the last call.
func (h *hubProc) read() {
	if h.out == nil {
		return
	}
	more, err := io.ReadAll(h.out)
	if err != nil {
		h.t.Errorf("read what the hub printed: %v", err)
	}
	h.rest = append(h.rest, more...)
	for {
		line, rest, ended := bytes.Cut(h.rest, []byte("\n"))
		if !ended {
			return
		}
		h.rest = rest
		h.take(string(line))
	}
}

// take holds one line against what was printed before. The last line of a killed
// life may be cut short; then its record was not acknowledged either.
func (h *hubProc) take(line string) {
	var r struct {
		message
		Device, Kind, Text string
	}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		h.bad = append(h.bad, line)
		return
	}
	h.lines++
	id := identity{r.Device, r.Epoch, r.Stream, r.Seq}
	before, again := h.printed[id]
	if again && before.life == h.life {
		h.t.Errorf("printed twice in one life:\n%s\n%s", before.line, line)
	}
	if again && before.line != line {
		h.t.Errorf("one identity, two contents:\n%s\n%s", before.line, line)
	}
	h.printed[id] = printout{h.life, line, r.message, r.Kind, r.Text}
}

// kill is kill -9.
func (h *hubProc) kill() {
	h.t.Helper()
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
	h.cmd = nil
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read()
	if len(h.rest) > 0 {
		h.take(string(h.rest))
	}
	h.out.Close()
	h.out, h.rest = nil, nil
}

// all returns every record printed so far, in no order.
func (h *hubProc) all() []printout {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read()
	out := make([]printout, 0, len(h.printed))
	for _, p := range h.printed {
		out = append(out, p)
	}
	return out
}

func (h *hubProc) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read()
	return h.lines
}

// checkNumbers fails when one of 1 … total was never printed, or another was. It
// returns how many lines were prints of a record printed before.
func (h *hubProc) checkNumbers(total int) (repeated int) {
	h.t.Helper()
	all := h.all()
	seen, missing := make([]bool, total+1), total
	records := 0
	for _, p := range all {
		if p.Stream != "telemetry" {
			continue
		}
		records++
		n := int(p.Value)
		if n < 1 || n > total {
			h.t.Fatalf("a number that was never sent: %s", p.line)
		}
		if !seen[n] {
			seen[n], missing = true, missing-1
		}
	}
	if missing > 0 {
		first := 1
		for first <= total && seen[first] {
			first++
		}
		h.t.Errorf("%d of %d numbers never arrived, %d the first", missing, total, first)
	}
	h.mu.Lock()
	repeated = h.lines - len(h.printed)
	h.mu.Unlock()
	h.t.Logf("%d records of %d numbers, %d lines repeated over %d lives, %d lines cut short",
		records, total, repeated, h.life, len(h.bad))
	if len(h.bad) >= h.life {
		h.t.Errorf("lines that are not JSON in %d lives: %.200q", h.life, fmt.Sprint(h.bad))
	}
	return repeated
}
