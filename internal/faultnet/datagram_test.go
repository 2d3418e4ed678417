package faultnet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent/internal/faultnet"
)

func ExamplePackets() {
	p := faultnet.NewPackets(7)
	p.Set(faultnet.Up, faultnet.Faults{DropAt: []int{2}})
	for _, s := range []string{"one", "two", "three"} {
		_, _ = p.A.Write([]byte(s))
	}
	buf := make([]byte, 10)
	for range 2 {
		n, from, _ := p.B.ReadFrom(buf)
		fmt.Println(string(buf[:n]), "from", from)
	}
	// Output:
	// one from a
	// three from a
}

// receive reads what arrives within a minute of virtual time.
func receive(e *faultnet.PacketEnd) (got []string) {
	_ = e.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 2000)
	for {
		n, err := e.Read(buf)
		if err != nil {
			return got
		}
		got = append(got, string(buf[:n]))
	}
}

func TestPacketsFates(t *testing.T) {
	const n = 2000
	for _, c := range []struct {
		name     string
		faults   faultnet.Faults
		min, max int // that arrive
		inOrder  bool
		whole    bool // what arrives was sent
	}{
		{"none", faultnet.Faults{}, n, n, true, true},
		{"latency", faultnet.Faults{Latency: time.Second}, n, n, true, true},
		{"jitter", faultnet.Faults{Jitter: time.Second}, n, n, false, true},
		{"loss", faultnet.Faults{Drop: 0.1}, 0.87 * n, 0.93 * n, true, true},
		{"loss by number", faultnet.Faults{DropAt: []int{1, 7}}, n - 2, n - 2, true, true},
		{"duplicates", faultnet.Faults{Duplicate: 0.1}, 1.07 * n, 1.13 * n, true, true},
		{"reorder", faultnet.Faults{Reorder: 0.1}, n, n, false, true},
		{"corrupt", faultnet.Faults{Corrupt: 0.1}, n, n, false, false},
		{"black hole", faultnet.Faults{Blackhole: true}, 0, 0, true, true},
		{"stall", faultnet.Faults{Stall: true}, 0, 0, true, true},
		{"rate", faultnet.Faults{Rate: 1000, Queue: 1000}, 200, 300, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := faultnet.NewPackets(3)
				p.Set(faultnet.Down, c.faults)
				for i := range n {
					if _, err := p.B.WriteTo(fmt.Appendf(nil, "%04d", i), nil); err != nil {
						t.Fatal(err)
					}
				}
				got := receive(p.A)
				if len(got) < c.min || len(got) > c.max {
					t.Errorf("%d arrived, want %d to %d", len(got), c.min, c.max)
				}
				if slices.IsSorted(got) != c.inOrder {
					t.Errorf("in order: %v", !c.inOrder)
				}
				bad := slices.IndexFunc(got, func(s string) bool {
					var i int
					_, err := fmt.Sscanf(s, "%04d", &i)
					return err != nil || i >= n || fmt.Sprintf("%04d", i) != s
				})
				if (bad < 0) != c.whole {
					t.Errorf("damaged: %d", bad)
				}
			})
		})
	}
}

func TestSameSeedSameFate(t *testing.T) {
	run := func(seed uint64) (got []string) {
		synctest.Test(t, func(t *testing.T) {
			p := faultnet.NewPackets(seed)
			p.Set(faultnet.Up, faultnet.Faults{Drop: 0.2, Duplicate: 0.2, Corrupt: 0.2, Reorder: 0.2, Jitter: time.Second})
			for i := range 500 {
				_, _ = p.A.Write(fmt.Appendf(nil, "%04d", i))
			}
			got = receive(p.B)
		})
		return got
	}
	if diff := cmp.Diff(run(5), run(5)); diff != "" {
		t.Errorf("one seed, two fates: %s", diff)
	}
	if cmp.Equal(run(5), run(6)) {
		t.Error("two seeds, one fate")
	}
}

func TestPacketsDeadlinesAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := faultnet.NewPackets(1)
		_ = p.A.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := p.A.Read(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		_ = p.A.SetReadDeadline(time.Time{})
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := p.A.Read(nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read of a closed end: %v", err)
			}
		})
		synctest.Wait()
		_ = p.A.Close()
		wg.Wait()
		if _, err := p.A.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write to a closed end: %v", err)
		}
	})
}

func TestRelay(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := faultnet.NewRelay(front, server.LocalAddr().String(), 1)
	r.Set(faultnet.Up, faultnet.Faults{DropAt: []int{1}, Latency: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	peers := make(chan string, 10)
	wg.Go(func() { // answers with what it got
		buf := make([]byte, 100)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			peers <- from.String()
			_, _ = server.WriteTo(buf[:n], from)
		}
	})
	c, err := net.Dial("udp", front.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	exchange := func(s string) {
		if _, err := c.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != s {
			t.Fatalf("answer %q, %v; want %q", buf[:n], err, s)
		}
	}
	_, _ = c.Write([]byte("lost"))
	exchange("one")
	r.Rebind()
	exchange("two")
	if a, b := <-peers, <-peers; a == b {
		t.Errorf("rebound, but the server sees %s twice", a)
	}
	cancel()
	_ = server.Close()
	_ = c.Close()
	wg.Wait()
}
