package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
)

// pingEvery is how long a connection may be idle before the model is asked whether it
// is there.
const pingEvery = 10 * time.Second

// talk speaks with the model until the connection fails or ctx ends, and closes it.
func (p *Process) talk(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	lines := bufio.NewReaderSize(conn, maxLine)
	if err := p.greet(conn, lines); err != nil {
		return err
	}
	p.connected()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var sendErr error
	wg.Go(func() {
		sendErr = p.sender(ctx, conn)
		conn.Close()
	})
	err := p.receive(conn, lines)
	cancel()
	conn.Close()
	wg.Wait()
	p.disconnected()
	if sendErr != nil && errors.Is(err, net.ErrClosed) {
		return sendErr
	}
	return err
}

func (p *Process) greet(conn net.Conn, lines *bufio.Reader) error {
	deadline := time.Now().Add(startTimeout)
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("greet the model: %w", err)
	}
	if _, err := conn.Write([]byte(version + "\n")); err != nil {
		return fmt.Errorf("greet the model: %w", err)
	}
	line, err := readLine(lines)
	if err != nil {
		return fmt.Errorf("the model's first line: %w", err)
	}
	features, err := parseHello(line)
	if err != nil {
		return err
	}
	if features != p.cfg.Features {
		return edgeagent.WithHint(fmt.Errorf("the model wants %d features, the rules give %d", features, p.cfg.Features),
			"set features to what the model wants, and give as many in model(...)")
	}
	return conn.SetDeadline(time.Time{})
}

// readLine returns a line without its end.
func readLine(r *bufio.Reader) (string, error) {
	b, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("%w: a line is longer than %d bytes", errLine, maxLine)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", errTimeout
	case err != nil:
		return "", fmt.Errorf("read from the model: %w", err)
	}
	b = b[:len(b)-1]
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return string(b), nil
}

var errTimeout = errors.New("the model did not answer in time")

// receive takes answers. The read deadline is that of the oldest question.
func (p *Process) receive(conn net.Conn, lines *bufio.Reader) error {
	for {
		line, err := readLine(lines)
		if err != nil {
			p.noteTimeout(err)
			return err
		}
		a, err := parseAnswer(line)
		if err != nil {
			return err
		}
		if err := p.answered(conn, a); err != nil {
			return err
		}
	}
}

// sender sends what waits, and pings when nothing does.
func (p *Process) sender(ctx context.Context, conn net.Conn) error {
	ping := time.NewTimer(pingEvery)
	defer ping.Stop()
	var line []byte
	idle := false
	for {
		var ok bool
		if line, ok = p.line(conn, line[:0], idle); ok {
			idle = false
			ping.Reset(pingEvery)
			if err := conn.SetWriteDeadline(time.Now().Add(p.cfg.Timeout)); err != nil {
				return fmt.Errorf("write to the model: %w", err)
			}
			if _, err := conn.Write(line); err != nil {
				return fmt.Errorf("write to the model: %w", err)
			}
			continue
		}
		idle = false
		select {
		case <-p.wake:
		case <-ping.C:
			idle = true
			ping.Reset(pingEvery)
		case <-ctx.Done():
			return nil
		}
	}
}

// line appends the next line to send; ping says that nothing was sent for a while.
func (p *Process) line(conn net.Conn, dst []byte, ping bool) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	f, ok := p.queue.next(now)
	if !ok && ping {
		f, ok = p.queue.ping(now)
	}
	if !ok {
		return dst, false
	}
	p.watch(conn)
	if f.q == nil {
		return appendPing(dst, f.id), true
	}
	return appendScore(dst, f.id, f.q.x), true
}

// watch sets the read deadline; p.mu is held. An error shows at the next read.
func (p *Process) watch(conn net.Conn) {
	at, _ := p.queue.deadline()
	_ = conn.SetReadDeadline(at)
}

func (p *Process) answered(conn net.Conn, a answer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	wake, err := p.queue.answer(a, time.Now())
	if err != nil {
		return err
	}
	p.watch(conn)
	if wake {
		p.signal()
	}
	return nil
}

func (p *Process) noteTimeout(err error) {
	if !errors.Is(err, errTimeout) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue.stats.Timeouts++
}

// signal wakes the sender.
func (p *Process) signal() {
	select {
	case p.wake <- struct{}{}:
	default: // it is awake already
	}
}
