package process

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childMode makes the test's own program a model process: see TestMain.
const childMode = "as-a-model"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == childMode {
		os.Exit(serve(os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}

// serve is a model process with a temper.
func serve(temper string) int {
	if temper == "broken" {
		fmt.Fprintln(os.Stderr, "loading\ncannot load the model: no such file")
		return 3
	}
	path := os.Getenv(SocketVariable)
	l, err := net.Listen("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return 1
		}
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			line := lines.Text()
			if temper == "crashes" && strings.HasSuffix(line, " 13 13") {
				fmt.Fprintln(os.Stderr, "Segmentation fault")
				return 11
			}
			if temper == "pid" && strings.HasPrefix(line, "score") {
				fmt.Fprintf(conn, "score %s %d\n", strings.Fields(line)[1], os.Getpid())
				continue
			}
			fmt.Fprintln(conn, adds(line))
		}
	}
}

// started runs a Process that starts the test's program, until stop or the end of the
// test.
func started(t *testing.T, temper string) (p *Process, c call, stop func()) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the model cannot be asked to end on Windows")
	}
	dir, err := os.MkdirTemp("", "model") // short: it has to fit a socket's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Socket, cfg.Command = filepath.Join(dir, "s"), []string{exe, childMode, temper}
	cfg.Timeout = 20 * time.Second // of a machine that is busy
	p, err = New("child", cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return p, p.Scorer(), stop
}

// until asks until ok, or for half a minute.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal("not in 30 s: " + what)
		}
	}
}

func TestChildIsStartedAndStartedAnew(t *testing.T) {
	p, c, _ := started(t, "crashes")
	until(t, "a score", func() bool {
		v, ok := c.Eval([]float64{1, 2})
		return ok && v == 3
	})
	c.Eval([]float64{13, 13})
	until(t, "the crash is noticed", func() bool { return p.Health().Code == "model-down" })
	until(t, "what it said", func() bool {
		h := p.Health()
		return strings.Contains(h.Text, "exit status 11") && strings.Contains(h.Text, "Segmentation fault")
	})
	until(t, "a score of the next one", func() bool {
		v, ok := c.Eval([]float64{5, 6})
		return ok && v == 11
	})
	if s := p.Stats(); s.Attempts != 2 || s.Lost != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestChildThatDoesNotStart(t *testing.T) {
	p, _, _ := started(t, "broken")
	until(t, "the reason", func() bool {
		h := p.Health()
		return strings.Contains(h.Text, "exit status 3") && strings.Contains(h.Text, "cannot load the model") && !strings.Contains(h.Text, "loading")
	})
}

func TestChildEndsWithRun(t *testing.T) {
	_, c, stop := started(t, "pid")
	pid := 0.0
	until(t, "its number", func() bool {
		v, ok := c.Eval([]float64{1, 2})
		pid = v
		return ok
	})
	if pid <= 0 || int(pid) == os.Getpid() {
		t.Fatalf("the model is process %v", pid)
	}
	stop()
	if child, err := os.FindProcess(int(pid)); err == nil && child.Signal(syscall.Signal(0)) == nil {
		t.Errorf("process %v is still there", pid)
	}
}

func TestOldSockets(t *testing.T) {
	dir, err := os.MkdirTemp("", "model")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	if err := removeSocket(path); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := removeSocket(path); err != nil {
		t.Errorf("an old socket: %v", err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removeSocket(path); err == nil {
		t.Error("a file was removed")
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var tl tail
	for i := range 1000 {
		fmt.Fprintf(&tl, "line %d\n", i)
	}
	if len(tl.buf) > tailSize || tl.String() != "line 999" {
		t.Errorf("%d bytes, %q", len(tl.buf), tl.String())
	}
}
