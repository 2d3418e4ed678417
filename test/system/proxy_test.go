//go:build system

package system

import (
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy is a bad link: a TCP proxy on loopback that limits the rate, delays,
// swallows and cuts. All its settings may change while it runs.
type proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	rate      atomic.Int64 // bytes a second and direction; 0: no limit
	delay     atomic.Int64 // ns that every byte takes in either direction
	blackhole atomic.Bool  // take nothing and say nothing
	cutAfter  atomic.Int64 // cut each new connection after so many bytes; 0: never
	accepted  atomic.Int64

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, conns: map[net.Conn]bool{}}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) url() string {
	return "mqtt://127.0.0.1:" + strconv.Itoa(p.listener.Addr().(*net.TCPAddr).Port)
}

func (p *proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		p.accepted.Add(1)
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			in.Close()
			continue
		}
		p.track(in, out)
		budget := new(atomic.Int64)
		budget.Store(p.cutAfter.Load())
		p.wg.Go(func() { p.pump(out, in, budget) })
		p.wg.Go(func() { p.pump(in, out, budget) })
	}
}

func (p *proxy) track(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
}

// cut ends every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

// parcel is what was read at one moment.
type parcel struct {
	at   time.Time
	data []byte
}

// pump moves bytes one way. Reading and writing are apart, so that the delay is
// one of time and not of rate.
func (p *proxy) pump(dst, src net.Conn, budget *atomic.Int64) {
	queue := make(chan parcel, 64)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer src.Close()
		defer dst.Close()
		for b := range queue {
			if d := time.Duration(p.delay.Load()); d > 0 {
				pause(time.Until(b.at.Add(d)))
			}
			if _, err := dst.Write(b.data); err != nil {
				break
			}
		}
		for range queue {
			// The reader must not hang.
		}
	})
	p.read(src, queue, budget)
	close(queue)
	wg.Wait()
}

func (p *proxy) read(src io.Reader, queue chan<- parcel, budget *atomic.Int64) {
	limited := budget.Load() > 0
	buf := make([]byte, 1024)
	for {
		n, err := src.Read(buf)
		for p.blackhole.Load() && err == nil {
			pause(50 * time.Millisecond)
			if !p.alive() {
				return
			}
		}
		if rate := p.rate.Load(); rate > 0 {
			pause(time.Duration(n) * time.Second / time.Duration(rate))
		}
		if limited && budget.Add(-int64(n)) <= 0 {
			return
		}
		if n > 0 {
			queue <- parcel{time.Now(), append([]byte(nil), buf[:n]...)}
		}
		if err != nil {
			return
		}
	}
}

// alive reports whether there are connections: after cut there are none.
func (p *proxy) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) > 0
}
