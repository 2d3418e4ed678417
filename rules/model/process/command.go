package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startTimeout is how long a process may take to listen, and a model to load
	// behind its first line.
	startTimeout = 30 * time.Second
	// dialEvery is how often a started process is tried before it listens.
	dialEvery = 100 * time.Millisecond
	// killAfter is how long a process may take to end when it is told to.
	killAfter = 5 * time.Second
	tailSize  = 2 << 10
)

// SocketVariable is the environment variable that tells a started process where to
// listen.
const SocketVariable = "EDGEAGENT_MODEL_SOCKET"

// child is a started process.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	tail  *tail
	done  chan struct{} // closed when the process has ended
	err   error         // of Wait; read after done
}

// start starts the process; stop has to be called.
func (p *Process) start(ctx context.Context, wg *sync.WaitGroup) (*child, error) {
	if err := removeSocket(p.cfg.Socket); err != nil {
		return nil, err
	}
	c := &child{tail: &tail{}, done: make(chan struct{})}
	c.cmd = exec.CommandContext(ctx, p.cfg.Command[0], p.cfg.Command[1:]...)
	c.cmd.Env = []string{SocketVariable + "=" + p.cfg.Socket, "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}
	c.cmd.Stderr = c.tail
	c.cmd.Cancel = func() error { return terminate(c.cmd.Process) }
	c.cmd.WaitDelay = killAfter
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.cfg.Command[0], err)
	}
	c.stdin = stdin
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the model: %w", err)
	}
	wg.Go(func() {
		c.err = c.cmd.Wait()
		close(c.done)
	})
	return c, nil
}

// terminate asks a process to end, where the system can ask.
func terminate(p *os.Process) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return p.Kill()
	}
	return nil
}

// removeSocket removes what an earlier process left, if it is a socket.
func removeSocket(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for an old socket: %w", err)
	case st.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is there and is not a socket", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the old socket: %w", err)
	}
	return nil
}

// ended returns why the process ended, with what it said last.
func (c *child) ended() error {
	why := "it ended by itself"
	if c.err != nil {
		why = c.err.Error()
	}
	if said := c.tail.String(); said != "" {
		return fmt.Errorf("the model's process: %s; it said: %s", why, said)
	}
	return fmt.Errorf("the model's process: %s", why)
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

// String returns the last line but for its end, cut to what a log can take.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := strings.TrimSpace(string(t.buf))
	if i := strings.LastIndexByte(s, '\n'); i >= 0 {
		s = s[i+1:]
	}
	return clean(s)
}
