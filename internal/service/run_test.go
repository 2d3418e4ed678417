package service

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// told collects notifications.
type told struct {
	mu    sync.Mutex // guards states
	lines []string
	err   error
}

func (s *told) send(state string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, state)
	return s.err
}

func (s *told) notifier() *notifier {
	return &notifier{send: s.send, logger: slog.New(slog.DiscardHandler)}
}

func program(start func(ctx context.Context, n Notifier) error) Program {
	return Program{Name: "test", Logger: slog.New(slog.DiscardHandler), Start: start}
}

func TestSignalEndsTheProgramInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s told
		signals := make(chan os.Signal, 4)
		p := program(func(ctx context.Context, n Notifier) error {
			n.Ready("6 sensors")
			<-ctx.Done()
			<-time.After(3 * time.Second) // the buffer closes
			return nil
		})
		start := time.Now()
		time.AfterFunc(time.Minute, func() { signals <- syscall.SIGTERM })
		if err := loop(t.Context(), p, s.notifier(), signals); err != nil {
			t.Errorf("ended with %v", err)
		}
		if took := time.Since(start); took != time.Minute+3*time.Second {
			t.Errorf("ended after %v", took)
		}
		want := []string{"READY=1\nSTATUS=6 sensors", "STOPPING=1\nSTATUS=stopping"}
		if diff := cmp.Diff(want, s.lines); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSecondSignalForces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s told
		signals := make(chan os.Signal, 4)
		release := make(chan struct{})
		p := program(func(context.Context, Notifier) error {
			<-release // hangs
			return nil
		})
		time.AfterFunc(time.Second, func() { signals <- os.Interrupt })
		time.AfterFunc(3*time.Second, func() { signals <- os.Interrupt })
		start := time.Now()
		if err := loop(t.Context(), p, s.notifier(), signals); !errors.Is(err, ErrForced) {
			t.Errorf("ended with %v", err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("ended after %v", took)
		}
		close(release)
	})
}

// TestSameSignalTwice: timeout(1) and others signal a process and then its group.
func TestSameSignalTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s told
		signals := make(chan os.Signal, 4)
		p := program(func(ctx context.Context, _ Notifier) error {
			<-ctx.Done()
			<-time.After(5 * time.Second) // the buffer closes
			return nil
		})
		time.AfterFunc(time.Second, func() { signals <- syscall.SIGTERM; signals <- syscall.SIGTERM })
		if err := loop(t.Context(), p, s.notifier(), signals); err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestHangupChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s told
		signals := make(chan os.Signal, 4)
		ended := false
		p := program(func(ctx context.Context, _ Notifier) error {
			<-ctx.Done()
			ended = true
			return nil
		})
		for i := range 5 {
			time.AfterFunc(time.Duration(i)*time.Second, func() {
				if ended {
					t.Error("a hangup ended the program")
				}
				signals <- syscall.SIGHUP
			})
		}
		time.AfterFunc(time.Minute, func() { signals <- syscall.SIGTERM })
		if err := loop(t.Context(), p, s.notifier(), signals); err != nil {
			t.Error(err)
		}
	})
}

func TestContextEndsTheProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s told
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		p := program(func(ctx context.Context, _ Notifier) error { <-ctx.Done(); return nil })
		if err := loop(ctx, p, s.notifier(), nil); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"STOPPING=1\nSTATUS=stopping"}, s.lines); diff != "" {
			t.Error(diff)
		}
	})
}

func TestProgramThatFails(t *testing.T) {
	var s told
	broken := errors.New("open buffer: in use")
	p := program(func(context.Context, Notifier) error { return broken })
	if err := loop(t.Context(), p, s.notifier(), nil); !errors.Is(err, broken) {
		t.Errorf("ended with %v", err)
	}
}

// TestRunTakesSignals: the real thing, with a real signal to this process.
func TestRunTakesSignals(t *testing.T) {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// A signal may arrive late, when Run has given up its handler and nothing
	// stands between it and this process: this channel does.
	seen := make(chan os.Signal, 4)
	signal.Notify(seen, syscall.SIGHUP, syscall.SIGTERM)
	defer signal.Stop(seen)
	err = Run(t.Context(), Program{Start: func(ctx context.Context, _ Notifier) error {
		if err := self.Signal(syscall.SIGHUP); err != nil {
			return err
		}
		<-seen
		if err := self.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}})
	if err != nil {
		t.Error(err)
	}
	<-seen
}

// TestNotifySocket speaks to a socket as systemd would give us one.
func TestNotifySocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "ea")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	addr := &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}
	l, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", addr.Name)
	n := newNotifier(slog.New(slog.DiscardHandler))
	n.Status("opening buffer")
	n.Ready("6 sensors\nREADY=0")
	n.stopping()
	want := []string{"STATUS=opening buffer", "READY=1\nSTATUS=6 sensors READY=0", "STOPPING=1\nSTATUS=stopping"}
	for _, w := range want {
		b := make([]byte, 1000)
		size, err := l.Read(b)
		if err != nil || string(b[:size]) != w {
			t.Errorf("systemd reads %q, %v, want %q", b[:size], err, w)
		}
	}
}

func TestNotifyFailureIsLoggedOnce(t *testing.T) {
	var log strings.Builder
	s := told{err: errors.New("connection refused")}
	n := &notifier{send: s.send, logger: slog.New(slog.NewTextHandler(&log, nil))}
	for range 5 {
		n.Status("running")
	}
	if got := strings.Count(log.String(), "connection refused"); got != 1 || len(s.lines) != 5 {
		t.Errorf("%d lines for %d failures", got, len(s.lines))
	}
}

// TestManaged: the program as Windows' service manager runs it.
func TestManaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s told
		p := program(func(ctx context.Context, _ Notifier) error {
			<-ctx.Done()
			<-time.After(time.Second)
			return errors.New("close buffer")
		})
		m := &managed{ctx: t.Context(), program: p, notify: s.notifier(), exit: func(int) { t.Error("exit") }}
		if err := m.Start(nil); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := m.Stop(nil); err == nil || err.Error() != "close buffer" {
			t.Errorf("stop returned %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("stop took %v", took)
		}
	})
}

// TestManagedProgramThatEnds dies, so that the service manager starts it again.
func TestManagedProgramThatEnds(t *testing.T) {
	var s told
	code := make(chan int, 1)
	p := program(func(context.Context, Notifier) error { return errors.New("open buffer") })
	m := &managed{ctx: t.Context(), program: p, notify: s.notifier(), exit: func(c int) { code <- c }}
	if err := m.Start(nil); err != nil {
		t.Fatal(err)
	}
	if c := <-code; c != 1 {
		t.Errorf("exit code %d", c)
	}
}

func TestRunGoesThroughTheLibrary(t *testing.T) {
	want := errors.New("the buffer is in use")
	if err := runForeground("test", func() error { return want }); !errors.Is(err, want) {
		t.Errorf("runForeground returned %v, want the program's error", err)
	}
	if err := runForeground("test", func() error { return nil }); err != nil {
		t.Errorf("runForeground returned %v", err)
	}
}
