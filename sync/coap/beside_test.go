//go:build system

package coap

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	library "github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/net/blockwise"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/udp"

	"github.com/edgeagent/edgeagent/internal/faultnet"
)

// TestFigureBesideLibrary: 64 KiB at a loss of 10 % each way over loopback, 100 peers at
// once with ours and, in the same run, 5 with the transfer of the library go-coap, which
// get 60 s.
func TestFigureBesideLibrary(t *testing.T) {
	const peers, theirs = 100, 5
	body := pattern(64 << 10)
	loss := faultnet.Faults{Drop: 0.1}
	var mu sync.Mutex
	var took, others []time.Duration
	var wg sync.WaitGroup
	for i := range peers + theirs {
		f := newFarEnd()
		addr := seededRelayTo(t, serveFar(t, f, "coap"), uint64(i), loss, loss)
		wg.Go(func() {
			began := time.Now()
			send := oursTo
			if i >= peers {
				send = libraryTo
			}
			ok := send(t, addr, body)
			got := f.received()
			if !ok || len(got) != 1 || !bytes.Equal(got[0], body) {
				if i < peers {
					t.Errorf("peer %d: %d bodies arrived", i, len(got))
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if i < peers {
				took = append(took, time.Since(began))
			} else {
				others = append(others, time.Since(began))
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	t.Logf("ours: %d of %d, median %v, longest %v", len(took), peers, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	t.Logf("go-coap 3.5.5: %d of %d within 60 s: %v", len(others), theirs, others)
	if len(took) != peers || took[peers/2] > 20*time.Second {
		t.Error("want all, and half of them in 20 s")
	}
}

func oursTo(t *testing.T, addr string, body []byte) bool {
	raw, err := net.Dial("udp", addr)
	if err != nil {
		t.Error(err)
		return false
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	c := newDatagramConn(raw, newRand(), 0)
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.run(ctx) })
	defer wg.Wait()
	defer cancel()
	r, err := c.call(ctx, &request{Method: methodPost, Path: []string{"x"}, ContentFormat: 42, Accept: -1, Body: body})
	return err == nil && r.code.success()
}

func libraryTo(t *testing.T, addr string, body []byte) bool {
	c, err := udp.Dial(addr, options.WithBlockwise(true, blockwise.SZX1024, time.Minute), options.WithTransmission(1, 2*time.Second, 4))
	if err != nil {
		t.Error(err)
		return false
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = c.Post(ctx, "/x", library.AppOctets, bytes.NewReader(body))
	return err == nil
}
