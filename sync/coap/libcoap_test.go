//go:build system

package coap

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/faultnet"
)

// The peers here are Debian's libcoap (libcoap3-bin 4.3.1), with and without TLS. Its
// server does not know a repetition: when the acknowledgement of a last block is lost, it
// takes the block that comes again for a body of its own. So the losses here leave that
// one acknowledgement alone.

// impairments are what the relay in between does, up and down.
var impairments = []struct { //nolint:gochecknoglobals // a table
	name     string
	up, down faultnet.Faults
}{
	{"nothing lost", faultnet.Faults{}, faultnet.Faults{}},
	{"datagrams lost up", faultnet.Faults{DropAt: []int{1, 4, 7}}, faultnet.Faults{}},
	{"datagrams lost down", faultnet.Faults{}, faultnet.Faults{DropAt: []int{1, 4, 7}}},
}

var peerSizes = []int{1, 1025, 64 << 10, 256 << 10} //nolint:gochecknoglobals // a table

// lossSeed leaves the acknowledgement of the last block alone.
const lossSeed = 2

// TestLibcoapServerTakesOurs: uploads to coap-server, and what it gives back.
func TestLibcoapServerTakesOurs(t *testing.T) {
	addr := libcoapServer(t, "coap-server-notls")
	for _, size := range peerSizes {
		for _, imp := range impairments {
			t.Run(fmt.Sprintf("%d bytes, %s", size, imp.name), func(t *testing.T) {
				t.Parallel()
				there(t, "coap://"+relayTo(t, addr, imp.up, imp.down), link{}, size)
			})
		}
	}
	t.Run("64 KiB at 10 %", func(t *testing.T) {
		t.Parallel()
		loss := faultnet.Faults{Drop: 0.1}
		there(t, "coap://"+seededRelayTo(t, addr, lossSeed, loss, loss), link{}, 64<<10)
	})
	t.Run("TCP", func(t *testing.T) { t.Parallel(); there(t, "coap+tcp://"+addr, link{}, 256<<10) })
}

// TestLibcoapServerDTLS: a pre-shared key.
func TestLibcoapServerDTLS(t *testing.T) {
	host, port, _ := net.SplitHostPort(libcoapServer(t, "coap-server-openssl", "-k", "secret"))
	n, _ := strconv.Atoi(port)
	there(t, fmt.Sprintf("coaps://%s:%d", host, n+1), link{identity: "gw-7", key: edgeagent.NewSecret("secret")}, 64<<10)
}

// TestLibcoapDropList: the server itself drops its first answers, as in the report of
// the library's hang.
func TestLibcoapDropList(t *testing.T) {
	there(t, "coap://"+libcoapServer(t, "coap-server-notls", "-l", "10"), link{}, 64<<10)
}

// there puts a body to a server and fetches it again.
func there(t *testing.T, to string, l link, size int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	l.url, _ = url.Parse(to)
	l.dial, l.now = new(net.Dialer).DialContext, time.Now
	c, err := l.connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.run(ctx) })
	defer wg.Wait()
	defer cancel()
	body, path := pattern(size), []string{"r" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	began := time.Now()
	r, err := c.call(ctx, &request{Method: methodPut, Path: path, ContentFormat: 42, Accept: -1, Body: body})
	if err != nil || !r.code.success() {
		t.Fatalf("put: %s, %v", r.Code, err)
	}
	took := time.Since(began)
	r, err = c.call(ctx, &request{Method: methodGet, Path: path, ContentFormat: -1, Accept: -1})
	if err != nil || !bytes.Equal(r.Body, body) {
		t.Fatalf("get: %s with %d bytes, %v", r.Code, len(r.Body), err)
	}
	t.Logf("put in %v", took.Round(time.Millisecond))
}

// TestLibcoapClientReachesOurs: uploads by coap-client, whose token changes with each
// block, and downloads.
func TestLibcoapClientReachesOurs(t *testing.T) {
	for _, size := range peerSizes {
		for _, imp := range impairments {
			t.Run(fmt.Sprintf("%d bytes, %s", size, imp.name), func(t *testing.T) {
				t.Parallel()
				here(t, "coap-client-notls", "coap", size, imp.up, imp.down)
			})
		}
	}
	t.Run("64 KiB at 10 %", func(t *testing.T) {
		t.Parallel()
		loss := faultnet.Faults{Drop: 0.1}
		here(t, "coap-client-notls", "coap", 64<<10, loss, loss)
	})
	for _, size := range []int{5000, 7777, 100_000} { // of the report of the library's truncation
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			t.Parallel()
			here(t, "coap-client-notls", "coap", size, faultnet.Faults{}, faultnet.Faults{})
		})
	}
	t.Run("TCP", func(t *testing.T) {
		t.Parallel()
		here(t, "coap-client-notls", "coap+tcp", 64<<10, faultnet.Faults{}, faultnet.Faults{})
	})
	t.Run("DTLS", func(t *testing.T) {
		t.Parallel()
		here(t, "coap-client-openssl", "coaps", 64<<10, faultnet.Faults{}, faultnet.Faults{}, "-k", "secret", "-u", "gw-7")
	})
}

// here lets a client post a file to our server, and fetch one.
func here(t *testing.T, program, scheme string, size int, up, down faultnet.Faults, args ...string) {
	t.Helper()
	hereSeeded(t, 3, program, scheme, size, up, down, args...)
}

func hereSeeded(t *testing.T, seed uint64, program, scheme string, size int, up, down faultnet.Faults, args ...string) {
	t.Helper()
	f := newFarEnd()
	body := pattern(size)
	f.put = body
	addr := serveFar(t, f, scheme)
	if scheme == "coap" {
		addr = seededRelayTo(t, addr, seed, up, down)
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, body, 0o600); err != nil {
		t.Fatal(err)
	}
	args = append(args, "-B", "120", "-b", "1024")
	run := func(more ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, append(append([]string(nil), args...), more...)...)
		if msg, err := cmd.CombinedOutput(); err != nil || len(msg) > 0 {
			t.Errorf("%v: %v: %s", cmd.Args, err, msg)
		}
	}
	run("-m", "post", "-t", "42", "-f", in, scheme+"://"+addr+"/x")
	f.mustHold(t, body)
	run("-m", "get", "-o", out, scheme+"://"+addr+"/x")
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, body) {
		t.Errorf("it fetched %d bytes of %d, %v", len(got), size, err)
	}
}

// serveFar serves on loopback.
func serveFar(t *testing.T, f *farEnd, scheme string) string {
	t.Helper()
	var l Listener
	var addr string
	if scheme == "coap+tcp" {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, addr = ServeTCP(ln, nil), ln.Addr().String()
	} else {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, addr = ServeUDP(pc), pc.LocalAddr().String()
		if scheme == "coaps" {
			if l, err = ServeDTLS(pc, DTLSConfig{PSK: func(string) []byte { return []byte("secret") }}); err != nil {
				t.Fatal(err)
			}
		}
	}
	inBackground(t, func(ctx context.Context) { _ = l.serve(ctx, f.srv) })
	return addr
}

func inBackground(t *testing.T, run func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// relayTo returns the address of a bad way to a server.
func relayTo(t *testing.T, addr string, up, down faultnet.Faults) string {
	return seededRelayTo(t, addr, 1, up, down)
}

func seededRelayTo(t *testing.T, addr string, seed uint64, up, down faultnet.Faults) string {
	t.Helper()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := faultnet.NewRelay(front, addr, seed)
	r.Set(faultnet.Up, up)
	r.Set(faultnet.Down, down)
	inBackground(t, func(ctx context.Context) { _ = r.Run(ctx) })
	return front.LocalAddr().String()
}

// libcoapServer starts a server that lets clients make resources.
func libcoapServer(t *testing.T, program string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%v (Debian: libcoap3-bin)", err)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := pc.LocalAddr().(*net.UDPAddr)
	_ = pc.Close()
	inBackground(t, func(ctx context.Context) {
		_ = exec.CommandContext(ctx, program, append(args, "-A", "127.0.0.1", "-p", strconv.Itoa(addr.Port), "-d", "100")...).Run()
	})
	// It is up when it answers a ping.
	l := link{dial: new(net.Dialer).DialContext, now: time.Now}
	l.url, _ = url.Parse("coap://" + addr.String())
	for range 1500 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		c, err := l.connect(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { _ = c.run(ctx) })
		err = c.alive(ctx)
		cancel()
		wg.Wait()
		if err == nil {
			return addr.String()
		}
		time.Sleep(20 * time.Millisecond) // a process starts in real time
	}
	t.Fatal(program + " does not answer")
	return ""
}
