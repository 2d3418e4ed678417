package api

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/edgeagent/edgeagent"
)

// socketDir is short: the directory of a test with a long name may not fit.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ea")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// running starts a server and returns where it listens; it ends with the test.
func running(t *testing.T, cfg Config, source Source, o Options) (socket, address string, stop func() error) {
	t.Helper()
	up := make(chan [2]string, 1)
	o.Listening = func(socket, address string) { up <- [2]string{socket, address} }
	s, err := New(cfg, source, o)
	if err != nil {
		t.Fatal(err)
	}
	return runServer(t, s, up)
}

func runServer(t *testing.T, s *Server, up chan [2]string) (socket, address string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { ended <- s.Run(ctx) })
	stop = sync.OnceValue(func() error {
		cancel()
		wg.Wait()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("server ended with %v", err)
		}
	})
	select {
	case at := <-up:
		return at[0], at[1], stop
	case err := <-ended:
		ended <- nil
		t.Fatalf("server did not start: %v", err)
	}
	return "", "", stop
}

func TestServeAndAsk(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(socketDir(t), "agent.sock")
	want := degradedStatus()
	socket, address, stop := running(t, Config{Socket: path, Listen: "127.0.0.1:0"}, fixed(want), Options{
		Metrics: func(w io.Writer) { io.WriteString(w, "more 1\n") },
	})
	if socket != path {
		t.Errorf("socket %s, want %s", socket, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o660 {
		t.Errorf("socket has mode %v, want 0660", info.Mode().Perm())
	}
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := diffLines(string(encode(t, want)), string(encode(t, got))); diff != "" {
		t.Error(diff)
	}
	text, err := c.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"edgeagent_health_level 1\n", "go_goroutines ", "process_resident_memory_bytes ", "process_open_fds ", "more 1\n"} {
		if !strings.Contains(string(text), line) {
			t.Errorf("no %q in /metrics", line)
		}
	}
	if code, body := get(t, "http://"+address+"/v1/health", ""); code != http.StatusOK || !strings.Contains(body, `"degraded"`) {
		t.Errorf("health over loopback: %d %s", code, body)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := stop(); err != nil {
		t.Errorf("server ended with %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// get asks for url, with another Host header if host is set.
func get(t *testing.T, url, host string) (code int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestRebinding: a page whose name points at 127.0.0.1 reads nothing.
func TestRebinding(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	_, address, _ := running(t, Config{Socket: filepath.Join(socketDir(t), "a.sock"), Listen: "localhost:0"}, fixed(goodStatus()), Options{})
	tests := map[string]int{
		"evil.example":           http.StatusMisdirectedRequest,
		"evil.example:8390":      http.StatusMisdirectedRequest,
		"127.0.0.1.evil.invalid": http.StatusMisdirectedRequest,
		"10.0.0.1":               http.StatusMisdirectedRequest,
		"localhost":              http.StatusOK,
		"localhost:8390":         http.StatusOK,
		"127.0.0.1:8390":         http.StatusOK,
		"[::1]:8390":             http.StatusOK,
		"[::1]":                  http.StatusOK,
	}
	for host, want := range tests {
		if code, _ := get(t, "http://"+address+"/v1/status", host); code != want {
			t.Errorf("Host %s: %d, want %d", host, code, want)
		}
	}
}

func TestOtherRequestsAreRefused(t *testing.T) {
	s, err := New(Config{}, fixed(goodStatus()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		method, path string
		header       string
		want         int
	}{
		{http.MethodGet, "/v1/status", "", http.StatusOK},
		{http.MethodHead, "/v1/status", "", http.StatusOK},
		{http.MethodPost, "/v1/status", "", http.StatusMethodNotAllowed},
		{http.MethodPost, "/v1/status", "cross-site", http.StatusForbidden},
		{http.MethodGet, "/", "", http.StatusNotFound},
		{http.MethodGet, "/v1/../etc/passwd", "", http.StatusTemporaryRedirect},
	}
	for _, tt := range tests {
		req := httptest.NewRequest(tt.method, tt.path, http.NoBody)
		if tt.header != "" {
			req.Header.Set("Sec-Fetch-Site", tt.header)
		}
		rec := httptest.NewRecorder()
		s.Handler().ServeHTTP(rec, req)
		if rec.Code != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, rec.Code, tt.want)
		}
	}
}

func TestHealthCode(t *testing.T) {
	for level, want := range map[edgeagent.Level]int{
		edgeagent.OK: http.StatusOK, edgeagent.Degraded: http.StatusOK, edgeagent.Failed: http.StatusServiceUnavailable,
	} {
		s, err := New(Config{}, fixed(Status{Health: Health{Level: level}}), Options{})
		if err != nil {
			t.Fatal(err)
		}
		rec := httptest.NewRecorder()
		s.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v1/health", http.NoBody))
		if rec.Code != want || !strings.Contains(rec.Body.String(), `"warnings":[]`) {
			t.Errorf("%v: %d %s, want %d", level, rec.Code, rec.Body, want)
		}
	}
}

// hung is a source that never answers by itself.
type hung struct{ entered chan struct{} }

func (h hung) Status(ctx context.Context) Status {
	h.entered <- struct{}{}
	<-ctx.Done()
	return Status{}
}

// TestHungSource: a source that hangs holds MaxRequests requests for its time-out
// and no more; later ones are turned away after a second, and counted.
func TestHungSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := hung{make(chan struct{}, 100)}
		s, err := New(Config{}, src, Options{})
		if err != nil {
			t.Fatal(err)
		}
		h := s.Handler()
		var wg sync.WaitGroup
		ask := func(code *int) {
			wg.Go(func() {
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v1/status", http.NoBody))
				*code = rec.Code
			})
		}
		codes := make([]int, MaxRequests+3)
		for i := range MaxRequests {
			ask(&codes[i])
		}
		synctest.Wait()
		for i := range 3 {
			ask(&codes[MaxRequests+i])
		}
		synctest.Wait()
		if n := len(src.entered); n != MaxRequests {
			t.Errorf("%d requests in work, want %d", n, MaxRequests)
		}
		start := time.Now()
		wg.Wait()
		if took := time.Since(start); took != statusTimeout {
			t.Errorf("all done after %v, want %v", took, statusTimeout)
		}
		for i, code := range codes {
			want := http.StatusOK
			if i >= MaxRequests {
				want = http.StatusServiceUnavailable
			}
			if code != want {
				t.Errorf("request %d: %d, want %d", i, code, want)
			}
		}
		if s.rejected.Load() != 3 || s.requests.Load() != MaxRequests+3 {
			t.Errorf("%d rejected of %d", s.rejected.Load(), s.requests.Load())
		}
	})
}

func TestStaleSocketIsTakenOver(t *testing.T) {
	path := filepath.Join(socketDir(t), "agent.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // as kill -9 does
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	running(t, Config{Socket: path}, fixed(goodStatus()), Options{})
	if _, err := Dial(t.Context(), path); err != nil {
		t.Error(err)
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	path := filepath.Join(socketDir(t), "agent.sock")
	running(t, Config{Socket: path}, fixed(goodStatus()), Options{})
	second, err := New(Config{Socket: path}, fixed(Status{}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = second.Run(t.Context())
	expectHint(t, err, "another agent answers on "+path, `"edgeagent service stop"`)
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatalf("the first one is gone: %v", err)
	}
	if s, err := c.Status(t.Context()); err != nil || s.Device != "gw-17" {
		t.Errorf("device %q, %v", s.Device, err)
	}
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	path := filepath.Join(socketDir(t), "agent.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Socket: path}, fixed(Status{}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	expectHint(t, s.Run(t.Context()), "is not a socket", "api.socket")
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("content %q, %v", b, err)
	}
}

func TestMissingDirectoryHasAHint(t *testing.T) {
	s, err := New(Config{Socket: filepath.Join(socketDir(t), "no", "agent.sock")}, fixed(Status{}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	expectHint(t, s.Run(t.Context()), "listen on socket", "api.socket")
}

// TestSocketOfASuccessor: a server that ends does not remove what is not its own.
func TestSocketOfASuccessor(t *testing.T) {
	path := filepath.Join(socketDir(t), "agent.sock")
	_, _, stop := running(t, Config{Socket: path}, fixed(goodStatus()), Options{})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the successor's file is gone: %v", err)
	}
}

// TestBusyLoopbackAddress: the socket answers all the same, health says what is
// wrong, and the address is taken when it becomes free.
func TestBusyLoopbackAddress(t *testing.T) {
	defer goleak.VerifyNone(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	path, address := filepath.Join(socketDir(t), "a.sock"), busy.Addr().String()
	up := make(chan [2]string, 1)
	s, err := New(Config{Socket: path, Listen: address}, fixed(goodStatus()), Options{
		Listening: func(socket, address string) { up <- [2]string{socket, address} },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.retry = 5 * time.Millisecond
	_, got, stop := runServer(t, s, up)
	if got != "" {
		t.Errorf("listens on %s", got)
	}
	if h := s.Health(); h.Level != edgeagent.Degraded || h.Hint == "" {
		t.Errorf("health %+v", h)
	}
	if _, err := Dial(t.Context(), path); err != nil {
		t.Errorf("the socket does not answer: %v", err)
	}
	busy.Close()
	for s.Health().Level != edgeagent.OK {
		<-time.After(time.Millisecond)
	}
	if code, _ := get(t, "http://"+address+"/v1/status", ""); code != http.StatusOK {
		t.Errorf("loopback answers %d", code)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func expectHint(t *testing.T, err error, text, hint string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("error %v, want %q", err, text)
	}
	var h edgeagent.Hinter
	if !errors.As(err, &h) || !strings.Contains(h.Hint(), hint) {
		t.Errorf("error %v has no hint with %q", err, hint)
	}
}

func TestConfigValidate(t *testing.T) {
	long := "/run/" + strings.Repeat("x", 110)
	tests := []struct {
		name string
		cfg  Config
		want string // in the error; "" for none
	}{
		{"empty", Config{}, ""},
		{"v4", Config{Listen: "127.0.0.1:8390"}, ""},
		{"v4 elsewhere in 127/8", Config{Listen: "127.9.9.9:0"}, ""},
		{"v6", Config{Listen: "[::1]:8390"}, ""},
		{"localhost", Config{Listen: "localhost:8390"}, ""},
		{"mapped", Config{Listen: "[::ffff:127.0.0.1]:8390"}, ""},
		{"all", Config{Listen: ":8390"}, "listen: not a loopback address"},
		{"any", Config{Listen: "0.0.0.0:8390"}, "listen: not a loopback address"},
		{"lan", Config{Listen: "192.168.1.7:8390"}, "listen: not a loopback address"},
		{"name", Config{Listen: "gw.lan:8390"}, "listen: not a loopback address"},
		{"no port", Config{Listen: "127.0.0.1"}, "listen: address 127.0.0.1: missing port"},
		{"bad port", Config{Listen: "127.0.0.1:http"}, "listen: bad port"},
		{"high port", Config{Listen: "127.0.0.1:65536"}, "listen: bad port"},
		{"long socket", Config{Socket: long}, "socket: path of 115 bytes is too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.Validate()
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			expectHint(t, err, tt.want, "api.")
			if _, err := New(tt.cfg, fixed(Status{}), Options{}); err == nil {
				t.Error("New accepts it")
			}
		})
	}
}

func TestRuntimeDirs(t *testing.T) {
	env := func(kv ...string) func(string) string {
		return func(k string) string {
			for i := 0; i < len(kv); i += 2 {
				if kv[i] == k {
					return kv[i+1]
				}
			}
			return ""
		}
	}
	tmp := filepath.Join(os.TempDir(), "edgeagent")
	tests := []struct {
		name, goos string
		getenv     func(string) string
		want       []string
	}{
		{"service", "linux", env("RUNTIME_DIRECTORY", "/run/ea:/run/other"), []string{"/run/ea", "/run/edgeagent"}},
		{"user", "linux", env("XDG_RUNTIME_DIR", "/run/user/1000"), []string{"/run/edgeagent", "/run/user/1000/edgeagent"}},
		{"relative ones are ignored", "linux", env("XDG_RUNTIME_DIR", "x", "RUNTIME_DIRECTORY", "y"), []string{"/run/edgeagent"}},
		{"laptop", "darwin", env(), []string{tmp}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, runtimeDirs(tt.getenv, tt.goos)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestServerSocket(t *testing.T) {
	dir := socketDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Nobody, root included, makes a directory below a file.
	closed, open := filepath.Join(file, "x"), filepath.Join(dir, "made")
	got, err := serverSocket("", []string{closed, open})
	if err != nil || got != filepath.Join(open, "agent.sock") {
		t.Errorf("%s, %v", got, err)
	}
	if left, err := os.ReadDir(open); err != nil || len(left) != 0 {
		t.Errorf("probing left %v, %v", left, err)
	}
	if got, err := serverSocket("/x/y.sock", nil); err != nil || got != "/x/y.sock" {
		t.Errorf("%s, %v", got, err)
	}
	_, err = serverSocket("", []string{closed})
	expectHint(t, err, "no writable directory", "api.socket")
}

func TestClientSockets(t *testing.T) {
	want := []string{"/a/agent.sock", "/b/agent.sock", "/a/demo.sock", "/b/demo.sock"}
	if diff := cmp.Diff(want, clientSockets("", []string{"/a", "/b", "/a"})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/x.sock"}, clientSockets("/x.sock", []string{"/a"})); diff != "" {
		t.Error(diff)
	}
}

// TestDialTakesTheFirstThatAnswers: a dead agent's socket does not hide a demo.
func TestDialTakesTheFirstThatAnswers(t *testing.T) {
	dir := socketDir(t)
	dead, demo := filepath.Join(dir, "agent.sock"), filepath.Join(dir, "demo.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	running(t, Config{Socket: demo}, fixed(goodStatus()), Options{})
	c, err := dial(t.Context(), clientSockets("", []string{dir}))
	if err != nil {
		t.Fatal(err)
	}
	if c.Socket() != demo {
		t.Errorf("took %s", c.Socket())
	}
}

func TestDialNobody(t *testing.T) {
	path := filepath.Join(socketDir(t), "agent.sock")
	_, err := Dial(t.Context(), path)
	expectHint(t, err, "no agent answers on "+path, `"edgeagent run -c FILE"`)
	err = nobody([]string{"/a", "/b"}, []error{fs.ErrNotExist, &fs.PathError{Op: "dial", Path: "/b", Err: fs.ErrPermission}})
	expectHint(t, err, "connect to /b: permission denied", "sudo")
}

// TestClientDistrustsAnswers: whoever listens on the socket may be anybody.
func TestClientDistrustsAnswers(t *testing.T) {
	tests := []struct {
		name string
		h    http.HandlerFunc
		want string
	}{
		{"not found", http.NotFound, "404"},
		{"no json", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }, "read status"},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			for chunk := make([]byte, 1<<20); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, "an answer of over"},
		{"half", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "{")
		}, "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(socketDir(t), "x.sock")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: tt.h}}
			srv.Start()
			defer srv.Close()
			c, err := Dial(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
