package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
)

const (
	// DefaultMaxOutput bounds what is read of a program's output.
	DefaultMaxOutput = 64 << 10
	// tailSize is how much of standard error is kept for messages.
	tailSize = 512
	// outputGrace is how long a program that has ended may leave its output open to
	// others.
	outputGrace = time.Second
)

// Path is the PATH that programs get.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Program is a program with its arguments.
type Program struct {
	Path string   // absolute
	Args []string // without the program itself
	Env  []string // besides PATH, LANG and HOME: "KEY=value"
	// User runs it; empty: whoever runs the agent. Only root can choose.
	User      string
	MaxOutput int // 0: DefaultMaxOutput
}

var errTooMuch = errors.New("it printed too much")

// Run runs the program until it ends or ctx does, which kills it, and returns its
// standard output. The error of a program that failed quotes the end of what it said
// on standard error.
func (p Program) Run(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := &bounded{left: p.MaxOutput, over: func() { cancel(errTooMuch) }}
	if out.left <= 0 {
		out.left = DefaultMaxOutput
	}
	said := &tail{}
	cmd := exec.CommandContext(ctx, p.Path, p.Args...) //nolint:gosec // running what is configured is the purpose
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = "/", out, said, outputGrace
	cmd.Env = append([]string{"PATH=" + Path, "LANG=C.UTF-8", "HOME=/"}, p.Env...)
	if err := prepare(cmd, p.User); err != nil {
		return nil, err
	}
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // others of its group hold the output: they are still there
		_, err = kill(cmd), nil // they may be gone by now
	}
	switch cause := context.Cause(ctx); {
	case err == nil:
		return out.buf.Bytes(), nil
	case errors.Is(cause, errTooMuch):
		return nil, fmt.Errorf("run %s: %w, more than %d bytes", p.Path, errTooMuch, max(p.MaxOutput, DefaultMaxOutput))
	case cause != nil:
		return nil, fmt.Errorf("run %s: killed: %w", p.Path, cause)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil, edgeagent.WithHint(fmt.Errorf("run %s: %w", p.Path, err), "name a program by its absolute path, and see that the agent's user may execute it")
	}
	if text := said.String(); text != "" {
		return nil, fmt.Errorf("run %s: %w: %s", p.Path, err, text)
	}
	return nil, fmt.Errorf("run %s: %w", p.Path, err)
}

// bounded keeps what is written up to a bound and then has the program killed.
type bounded struct {
	buf  bytes.Buffer
	left int
	over func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.left {
		b.over()
		return 0, errTooMuch
	}
	b.left -= len(p)
	return b.buf.Write(p)
}

// tail keeps the last bytes that were written.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

// Write keeps the end of what is written. It never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if n := len(t.buf); n > tailSize {
		t.buf = append(t.buf[:0], t.buf[n-tailSize:]...)
	}
	return len(b), nil
}

// String returns it on one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(t.buf), "?")), " ")
}
