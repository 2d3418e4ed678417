package faultnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent/internal/faultnet"
)

// bubble runs f in virtual time with a link over memory and its two ends.
func bubble(t *testing.T, f func(t *testing.T, l *faultnet.Link, near, far net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan net.Conn, 1)
		l := faultnet.NewLink(pipes(ends), 1)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = l.Run(ctx) })
		near, err := l.DialContext(ctx, "tcp", "x:1")
		if err != nil {
			t.Fatal(err)
		}
		f(t, l, near, <-ends)
		cancel()
		wg.Wait()
		if n := l.Open(); n != 0 {
			t.Errorf("%d connections open at the end", n)
		}
	})
}

func TestLinkCarriesEverything(t *testing.T) {
	bubble(t, func(t *testing.T, l *faultnet.Link, near, far net.Conn) {
		f := faultnet.Faults{Latency: 300 * time.Millisecond, Jitter: 50 * time.Millisecond, Rate: 8000, Drop: 0.05}
		l.Set(faultnet.Up, f)
		sent := make([]byte, 200_000)
		for i := range sent {
			sent[i] = byte(rand.Uint32())
		}
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := near.Write(sent); err != nil {
				t.Error(err)
			}
			_ = near.Close()
		})
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d of %d bytes arrived, equal %v, %v", len(got), len(sent), bytes.Equal(got, sent), err)
		}
		wg.Wait()
		if took := time.Since(began); took < 25*time.Second || took > 60*time.Second {
			t.Errorf("200 kB at 8 kB/s with 5 %% loss took %v", took)
		}
	})
}

func TestLinkLatency(t *testing.T) {
	bubble(t, func(t *testing.T, l *faultnet.Link, near, far net.Conn) {
		l.Set(faultnet.Down, faultnet.Faults{Latency: time.Second})
		began := time.Now()
		for _, s := range []string{"a", "b"} { // not one second each
			if _, err := far.Write([]byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, 2)
		if _, err := io.ReadFull(near, buf); err != nil || time.Since(began) != time.Second {
			t.Errorf("read %q after %v, %v", buf, time.Since(began), err)
		}
	})
}

// A stall and a black hole look the same from outside; only one of them ends.
func TestLinkHalfOpen(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults faultnet.Faults
		heals  bool
	}{
		{"stall", faultnet.Faults{Stall: true}, true},
		{"black hole", faultnet.Faults{Blackhole: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, l *faultnet.Link, near, far net.Conn) {
				l.Set(faultnet.Up, c.faults)
				if _, err := near.Write([]byte("hello")); err != nil {
					t.Fatal(err)
				}
				_ = far.SetReadDeadline(time.Now().Add(time.Hour))
				if _, err := far.Read(make([]byte, 5)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("far end reads %v", err)
				}
				l.Set(faultnet.Up, faultnet.Faults{})
				_ = far.SetReadDeadline(time.Now().Add(time.Hour))
				if _, err := near.Write([]byte(" again")); err != nil {
					t.Fatal(err)
				}
				n, err := far.Read(make([]byte, 5))
				if c.heals != (n == 5 && err == nil) {
					t.Errorf("afterwards %d bytes, %v", n, err)
				}
			})
		})
	}
}

// A sender that nobody drains must come to a stand, as with full socket buffers.
func TestLinkQueueIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, l *faultnet.Link, near, _ net.Conn) {
		l.Set(faultnet.Up, faultnet.Faults{Stall: true, Queue: 10_000})
		_ = near.SetWriteDeadline(time.Now().Add(time.Minute))
		n, err := near.Write(make([]byte, 1_000_000))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n > 13_000 || n < 10_000 {
			t.Errorf("wrote %d bytes into a queue of 10,000: %v", n, err)
		}
	})
}

func TestLinkReset(t *testing.T) {
	bubble(t, func(t *testing.T, l *faultnet.Link, near, far net.Conn) {
		l.Reset()
		if _, err := near.Read(make([]byte, 1)); err == nil {
			t.Error("near end still reads")
		}
		if _, err := far.Read(make([]byte, 1)); err == nil {
			t.Error("far end still reads")
		}
	})
}

func TestLinkScript(t *testing.T) {
	bubble(t, func(t *testing.T, l *faultnet.Link, near, far net.Conn) {
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			err := l.Play(t.Context(), []faultnet.Step{
				{Faults: faultnet.Faults{Stall: true}, Both: true},
				{After: time.Minute},
				{After: time.Minute, Reset: true},
			})
			if err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if _, err := near.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Read(make([]byte, 1)); err != nil || time.Since(began) != time.Minute {
			t.Errorf("read after %v: %v", time.Since(began), err)
		}
		if _, err := far.Read(make([]byte, 1)); err == nil || time.Since(began) != 2*time.Minute {
			t.Errorf("end after %v: %v", time.Since(began), err)
		}
		wg.Wait()
	})
}

func TestLinkDialWaitsForAWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := faultnet.NewLink(pipes(make(chan net.Conn, 1)), 1)
		l.Set(faultnet.Down, faultnet.Faults{Blackhole: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := l.DialContext(ctx, "tcp", "x:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial into a black hole: %v", err)
		}
	})
}

func TestPubacks(t *testing.T) {
	puback := func(id byte) []byte { return []byte{0x40, 2, 0, id} }
	publish := append([]byte{0x30, 0x88, 0x01}, bytes.Repeat([]byte{0x40}, 136)...) // looks like acks inside
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan net.Conn, 1)
		l := faultnet.NewLink(pipes(ends), 1)
		l.SetAcks(faultnet.AckFaults{Drop: []int{1}, Duplicate: []int{2}, Delay: map[int]time.Duration{3: time.Second}})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = l.Run(ctx) })
		near, err := l.DialContext(ctx, "tcp", "x:1")
		if err != nil {
			t.Fatal(err)
		}
		far := <-ends
		wg.Go(func() {
			for _, p := range [][]byte{puback(1), publish, puback(2), puback(3), puback(4)} {
				_, _ = far.Write(p)
			}
			_ = far.Close()
		})
		began := time.Now()
		got, err := io.ReadAll(near)
		want := bytes.Join([][]byte{publish, puback(2), puback(2), puback(3), puback(4)}, nil)
		if err != nil || !bytes.Equal(got, want) || time.Since(began) != time.Second {
			t.Errorf("after %v, %v:\n got %x\nwant %x", time.Since(began), err, got, want)
		}
		cancel()
		wg.Wait()
	})
}

func TestServeIsAProxy(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l := faultnet.NewLink(nil, 1)
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Run(ctx) })
	wg.Go(func() { _ = l.Serve(ctx, front, "tcp", server.Addr().String()) })
	wg.Go(func() {
		c, err := server.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(c, c)
		_ = c.Close()
	})
	c, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "ping" {
		t.Errorf("read %q, %v", buf, err)
	}
	_ = c.Close()
	cancel()
	wg.Wait()
}
