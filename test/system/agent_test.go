//go:build system

package system

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent/internal/api"
)

// bin returns the path of a program that `make build` made.
func bin(t testing.TB, name string) string {
	t.Helper()
	p, err := filepath.Abs(filepath.Join("..", "..", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%s is missing: run it through make test-system", p)
	}
	return p
}

// agent is `edgeagent run` on a configuration in a directory of its own.
type agent struct {
	t      testing.TB
	dir    string
	socket string
	cmd    *exec.Cmd
	stderr *bytes.Buffer
}

// newAgent writes config (with DIR replaced by the agent's directory) and starts
// the agent.
func newAgent(t testing.TB, config string) *agent {
	t.Helper()
	a := prepareAgent(t, config)
	a.start()
	t.Cleanup(func() {
		if a.cmd != nil {
			a.kill()
		}
		if t.Failed() {
			t.Logf("agent's standard error:\n%s", tail(a.stderr.String(), 60))
		}
	})
	return a
}

func prepareAgent(t testing.TB, config string) *agent {
	t.Helper()
	a := &agent{t: t, dir: t.TempDir()}
	// Unix socket paths are short; test directories are not.
	sock, err := os.MkdirTemp("", "ea")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sock) })
	a.socket = filepath.Join(sock, "s")
	config = strings.ReplaceAll(config, "DIR", a.dir) + "\napi: {socket: " + a.socket + "}\n"
	if err := os.WriteFile(filepath.Join(a.dir, "agent.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	a.stderr = new(bytes.Buffer)
	return a
}

func (a *agent) start() {
	a.t.Helper()
	a.cmd = exec.Command(bin(a.t, "edgeagent"), "run", "-c", filepath.Join(a.dir, "agent.yaml"))
	a.cmd.Stderr = a.stderr
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
}

// kill is kill -9.
func (a *agent) kill() {
	a.t.Helper()
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
	a.cmd = nil
}

func (a *agent) signal(sig os.Signal) {
	a.t.Helper()
	if err := a.cmd.Process.Signal(sig); err != nil {
		a.t.Error(err)
	}
}

// stop is SIGTERM; it returns the exit error.
func (a *agent) stop() error {
	a.t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		a.t.Error(err)
	}
	err := a.cmd.Wait()
	a.cmd = nil
	return err
}

// status asks the running agent; ok is false while it does not answer, or has not got as
// far as its destination, which every agent here has.
func (a *agent) status() (s api.Status, ok bool) {
	// status exits with 3 when the agent is degraded; the object is there either way.
	out, _ := exec.Command(bin(a.t, "edgeagent"), "status", "--json", "--socket", a.socket).Output()
	return s, json.Unmarshal(out, &s) == nil && len(s.Uplinks) > 0
}

// waitStatus waits until the status satisfies cond.
func (a *agent) waitStatus(limit time.Duration, what string, cond func(api.Status) bool) api.Status {
	a.t.Helper()
	var last api.Status
	waitFor(a.t, limit, what, func() bool {
		s, ok := a.status()
		if ok {
			last = s
		}
		return ok && cond(s)
	})
	return last
}

// slack is by how much everything may take longer than on a quiet machine. Only a test
// that fails waits so long.
const slack = 6

// waitFor polls cond until it holds or slack times the limit, which is one of a quiet
// machine, is over.
func waitFor(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	limit *= slack
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", limit, what)
		}
		pause(50 * time.Millisecond)
	}
}

// pause waits in real time: these tests look at other processes, which no virtual
// clock moves.
func pause(d time.Duration) { <-time.After(d) }

func containsLine(text []byte, word string) bool { return bytes.Contains(text, []byte(word)) }

func tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// descriptors returns how many files the agent has open.
func (a *agent) descriptors() int {
	a.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.cmd.Process.Pid))
	if err != nil {
		a.t.Fatal(err)
	}
	return len(list)
}
