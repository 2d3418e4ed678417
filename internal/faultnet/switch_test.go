package faultnet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent/internal/faultnet"
)

func ExampleSwitch() {
	far, _ := net.Listen("tcp", "127.0.0.1:0")
	defer far.Close()
	link := faultnet.NewSwitch(nil)
	link.Cut()
	_, err := link.DialContext(context.Background(), "tcp", far.Addr().String())
	fmt.Println(errors.Is(err, faultnet.ErrCut))
	link.Restore()
	c, err := link.DialContext(context.Background(), "tcp", far.Addr().String())
	fmt.Println(err)
	_ = c.Close()
	// Output:
	// true
	// <nil>
}

// pipes dials through memory; the far ends come out of far.
func pipes(far chan<- net.Conn) faultnet.DialFunc {
	return func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		far <- b
		return a, nil
	}
}

func TestCutWakesEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := make(chan net.Conn, 10)
		s := faultnet.NewSwitch(pipes(far))
		errs := make(chan error, 20)
		var wg sync.WaitGroup
		for range 10 {
			c, err := s.DialContext(t.Context(), "tcp", "x:1")
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { _, err := c.Read(make([]byte, 1)); errs <- err })
			wg.Go(func() { _, err := c.Write([]byte("nobody reads this")); errs <- err })
		}
		synctest.Wait()
		if open, _ := s.Stats(); open != 10 {
			t.Errorf("%d connections open, want 10", open)
		}
		s.Cut()
		wg.Wait()
		for range 20 {
			if err := <-errs; !errors.Is(err, faultnet.ErrCut) {
				t.Errorf("woken with %v", err)
			}
		}
		for range 10 {
			if _, err := (<-far).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("far end reads %v", err)
			}
		}
		if open, cuts := s.Stats(); open != 0 || cuts != 1 || s.Up() {
			t.Errorf("open %d, cuts %d, up %v", open, cuts, s.Up())
		}
	})
}

func TestCutEndsDialsUnderWay(t *testing.T) {
	for _, stubborn := range []bool{false, true} {
		t.Run(fmt.Sprintf("ignores its context %v", stubborn), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var near net.Conn
				s := faultnet.NewSwitch(func(ctx context.Context, _, _ string) (net.Conn, error) {
					if stubborn {
						time.Sleep(time.Second)
						near, _ = net.Pipe()
						return near, nil
					}
					<-ctx.Done()
					return nil, ctx.Err()
				})
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := s.DialContext(t.Context(), "tcp", "x:1"); !errors.Is(err, faultnet.ErrCut) {
						t.Errorf("dial: %v", err)
					}
				})
				synctest.Wait()
				s.Cut()
				s.Restore() // too late for that dial
				wg.Wait()
				if near != nil {
					if _, err := near.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
						t.Errorf("connection of a cut dial is open: %v", err)
					}
				}
				if open, _ := s.Stats(); open != 0 {
					t.Errorf("%d connections open", open)
				}
			})
		})
	}
}

func TestRestoreLetsThrough(t *testing.T) {
	far := make(chan net.Conn, 2)
	s := faultnet.NewSwitch(pipes(far))
	old, err := s.DialContext(t.Context(), "tcp", "x:1")
	if err != nil {
		t.Fatal(err)
	}
	s.Cut()
	s.Cut() // twice is once
	if _, err := s.DialContext(t.Context(), "tcp", "x:1"); !errors.Is(err, faultnet.ErrCut) {
		t.Errorf("dial while cut: %v", err)
	}
	s.Restore()
	if _, err := old.Write([]byte("x")); !errors.Is(err, faultnet.ErrCut) {
		t.Errorf("old connection: %v", err)
	}
	c, err := s.DialContext(t.Context(), "tcp", "x:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if open, cuts := s.Stats(); open != 0 || cuts != 1 || !s.Up() {
		t.Errorf("open %d, cuts %d, up %v", open, cuts, s.Up())
	}
	if _, err := c.Read(make([]byte, 1)); errors.Is(err, faultnet.ErrCut) {
		t.Error("a connection that was closed says it was cut")
	}
}

func TestOtherErrorsPassThrough(t *testing.T) {
	broken := errors.New("no route")
	s := faultnet.NewSwitch(func(context.Context, string, string) (net.Conn, error) { return nil, broken })
	if _, err := s.DialContext(t.Context(), "tcp", "x:1"); !errors.Is(err, broken) {
		t.Errorf("dial: %v", err)
	}
}

func TestSocketOptionsReachTheSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := faultnet.NewSwitch(nil).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.(syscall.Conn).SyscallConn(); err != nil {
		t.Error(err)
	}
}

func TestConcurrentUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _, _ = io.Copy(c, c); _ = c.Close() })
		}
	})
	s := faultnet.NewSwitch(nil)
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for range 50 {
				c, err := s.DialContext(t.Context(), "tcp", l.Addr().String())
				if err != nil {
					continue
				}
				_, _ = c.Write([]byte("ping"))
				_, _ = io.ReadFull(c, make([]byte, 4))
				_ = c.Close()
			}
		})
	}
	users.Go(func() {
		for range 100 {
			s.Cut()
			s.Restore()
		}
	})
	users.Wait()
	if open, _ := s.Stats(); open != 0 {
		t.Errorf("%d connections open", open)
	}
	_ = l.Close()
	wg.Wait()
}
