//go:build unix

package coap

import (
	"bytes"
	"context"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	library "github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/mux"
	librarynet "github.com/plgd-dev/go-coap/v3/net"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/udp"
)

// BenchmarkExchange is a confirmable POST of 100 bytes and its piggybacked 2.04 over
// loopback, both ends in one process; cpu-ns/op is what both ends and the kernel spend.
func BenchmarkExchange(b *testing.B) {
	body := pattern(100)
	b.Run("ours", func(b *testing.B) {
		f := newFarEnd()
		f.reply = func(x *inbound) { x.reply(&message{code: codeChanged}) }
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { _ = ServeUDP(pc).serve(ctx, f.srv) })
		raw, err := net.Dial("udp", pc.LocalAddr().String())
		if err != nil {
			b.Fatal(err)
		}
		c := newDatagramConn(raw, newRand(), 0)
		c.udp.ids.free = true
		wg.Go(func() { _ = c.run(ctx) })
		req := &request{Method: methodPost, Path: []string{"x"}, ContentFormat: 42, Accept: -1, Body: body}
		measureCPU(b, func() error {
			_, err := c.call(ctx, req)
			return err
		})
	})
	b.Run("go-coap", func(b *testing.B) {
		ln, err := librarynet.NewListenUDP("udp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		r := mux.NewRouter()
		if err := r.Handle("/x", mux.HandlerFunc(func(w mux.ResponseWriter, _ *mux.Message) {
			_ = w.SetResponse(codes.Changed, library.AppOctets, nil)
		})); err != nil {
			b.Fatal(err)
		}
		s := udp.NewServer(options.WithMux(r))
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.Serve(ln) })
		defer wg.Wait()
		defer func() { _ = ln.Close() }()
		defer s.Stop()
		c, err := udp.Dial(ln.LocalAddr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		measureCPU(b, func() error {
			_, err := c.Post(b.Context(), "/x", library.AppOctets, bytes.NewReader(body))
			return err
		})
	})
}

func measureCPU(b *testing.B, exchange func() error) {
	b.Helper()
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		if err := exchange(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
