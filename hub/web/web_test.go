package web

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

func newServer(t testing.TB, cfg Config, f *fake) *Server {
	t.Helper()
	s, err := New(cfg, Options{Source: f, Store: f})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask returns the answer of h.
func ask(t testing.TB, h http.Handler, method, target string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, http.NoBody)
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func body(t testing.TB, r *httptest.ResponseRecorder) string {
	t.Helper()
	return r.Body.String()
}

func TestAnswers(t *testing.T) {
	h := newServer(t, Config{}, &fake{}).Handler()
	for name, tt := range map[string]struct {
		method, target string
		code           int
		want           string // the whole body, or part of it
	}{
		"status":           {"GET", "/v1/status", 200, `"name":"hub","version":"v1"`},
		"devices":          {"GET", "/v1/devices", 200, `"tenant":"default","device":"gw-1","seen":"2026-03-01T00:00:00Z"`},
		"gaps":             {"GET", "/v1/gaps?device=gw-1", 200, `[{"tenant":"default","device":"gw-1","epoch":"0000000000000009","stream":"telemetry","from":1,"to":2,"reason":"evicted","at_most":2}]` + "\n"},
		"no gaps":          {"GET", "/v1/gaps?device=gw-1&tenant=acme", 200, "[]\n"},
		"series":           {"GET", "/v1/series?device=gw-1", 200, `[{"series":"boiler/temperature","unit":"Cel","kind":"gauge","last":{"t":"2026-03-01T00:00:00.000000000Z","value":21.5,"q":"good"}}]` + "\n"},
		"no series":        {"GET", "/v1/series?device=nothing", 200, "[]\n"},
		"rows":             {"GET", "/v1/query?device=gw-1&series=s&since=2026-03-01T00:00:04Z&until=2026-03-01T00:00:06Z", 200, `{"t":"2026-03-01T00:00:04.000000000Z","value":4,"q":"good"}` + "\n" + `{"t":"2026-03-01T00:00:05.000000000Z","value":null,"q":"bad"}` + "\n"},
		"rows as CSV":      {"GET", "/v1/query?device=gw-1&series=a,b&since=2026-03-01T00:00:09Z&format=csv", 200, "time_ns,series,value,quality,tags\n1772323209000000000,\"a,b\",9,good,\n"},
		"a bad time":       {"GET", "/v1/query?since=yesterday", 400, "bad since"},
		"a broken store":   {"GET", "/v1/query?series=broken", 500, `{"error":"disk is gone"}` + "\n"},
		"replay":           {"POST", "/v1/replay?device=gw-1", 200, `{"missing":3}` + "\n"},
		"replay of all":    {"POST", "/v1/replay?device=gw-1&all=true", 200, `{"missing":5}` + "\n"},
		"replay of nobody": {"POST", "/v1/replay?device=x", 404, `{"error":"no such device: x"}` + "\n"},
		"replay by GET":    {"GET", "/v1/replay?device=gw-1", 405, ""},
		"health":           {"GET", "/v1/health", 200, `{"level":"ok","warnings":[]}` + "\n"},
		"elsewhere":        {"GET", "/etc/passwd", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := ask(t, h, tt.method, tt.target)
			if got := body(t, r); r.Code != tt.code || !strings.Contains(got, tt.want) || strings.HasSuffix(tt.want, "\n") && got != tt.want {
				t.Errorf("%d %s\nwant %d %s", r.Code, got, tt.code, tt.want)
			}
		})
	}
}

func TestHealthOfAFailedHub(t *testing.T) {
	h := newServer(t, Config{}, &fake{level: edgeagent.Failed}).Handler()
	if r := ask(t, h, "GET", "/v1/health"); r.Code != http.StatusServiceUnavailable {
		t.Errorf("answers %d", r.Code)
	}
}

// TestQueryThatBreaks: an answer that ends early must not look whole.
func TestQueryThatBreaks(t *testing.T) {
	srv := httptest.NewServer(newServer(t, Config{}, &fake{}).Handler())
	defer srv.Close()
	r, err := http.Get(srv.URL + "/v1/query?series=breaks")
	if err == nil {
		defer r.Body.Close()
		_, err = io.ReadAll(r.Body)
	}
	if err == nil {
		t.Error("a cut answer looks whole")
	}
}

func TestNoStore(t *testing.T) {
	s, err := New(Config{}, Options{Source: &fake{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/series", "/v1/query", "/v1/chart"} {
		if r := ask(t, s.Handler(), "GET", path); r.Code != http.StatusNotImplemented || !strings.Contains(body(t, r), "cannot be asked") {
			t.Errorf("%s: %d", path, r.Code)
		}
	}
}

func TestChart(t *testing.T) {
	h := newServer(t, Config{}, &fake{}).Handler()
	r := ask(t, h, "GET", "/v1/chart?series=s&points=5&since=2026-03-01T00:00:00Z&until=2026-03-01T00:00:10Z")
	var got Chart
	if err := json.Unmarshal([]byte(body(t, r)), &got); err != nil {
		t.Fatal(err)
	}
	at := float64(start.Unix())
	want := Chart{Since: at, Until: at + 10, Columns: []Column{
		{at + 1, 0, 1, 0.5, 2},
		{at + 3, 2, 3, 2.5, 2},
		{at + 5, 4, 4, 4, 1}, // the fifth is no number
		{at + 7, 6, 7, 6.5, 2},
		{at + 9, 8, 9, 8.5, 2},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestPage: the page's policy allows its own script and nothing else, and it loads
// nothing from anywhere.
func TestPage(t *testing.T) {
	r := ask(t, newServer(t, Config{}, &fake{}).Handler(), "GET", "/")
	html, csp := body(t, r), r.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("policy lacks %s: %s", want, csp)
		}
	}
	if strings.Contains(csp, "unsafe") || policy([]byte(strings.Replace(html, "'use strict'", "alert(1)", 1))) == csp {
		t.Errorf("policy allows other scripts: %s", csp)
	}
	for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=", "src=", "href=", "onclick=\"", "@import", "url("} {
		if strings.Contains(html, bad) {
			t.Errorf("page has %s", bad)
		}
	}
	if n := strings.Count(html, "<script>") + strings.Count(html, "<style>"); n != 2 {
		t.Errorf("%d scripts and styles, the hashes cover one of each", n)
	}
	if strings.Contains(strings.ReplaceAll(html, "http://www.w3.org/2000/svg", ""), "http") {
		t.Error("page names another address")
	}
	for _, path := range []string{"/", "/v1/status", "/metrics", "/nowhere"} {
		h := ask(t, newServer(t, Config{}, &fake{}).Handler(), "GET", path).Header()
		if h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: headers %v", path, h)
		}
	}
}

// TestHostileNames: whatever a device calls itself stays a value.
func TestHostileNames(t *testing.T) {
	h := newServer(t, Config{}, &fake{}).Handler()
	if got := body(t, ask(t, h, "GET", "/v1/devices")); strings.Contains(got, "<img") {
		t.Errorf("markup in JSON: %s", got)
	}
	got := body(t, ask(t, h, "GET", "/metrics"))
	if !strings.Contains(got, `device="<img src=x onerror=alert(1)>\"}\n"`) {
		t.Error("the name is not escaped")
	}
	for line := range strings.Lines(got) {
		if line[0] != '#' && !strings.Contains(line, " ") {
			t.Errorf("no metric: %q", line)
		}
	}
}

func TestCrossOrigin(t *testing.T) {
	h := newServer(t, Config{}, &fake{}).Handler()
	r := ask(t, h, "POST", "/v1/replay?device=gw-1", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") })
	if r.Code != http.StatusForbidden {
		t.Errorf("a page from elsewhere may ask for a replay: %d", r.Code)
	}
}

func TestGuard(t *testing.T) {
	t.Setenv("HUB_TOKEN", "sesame")
	var token edgeagent.Secret
	if err := token.UnmarshalText([]byte("env:HUB_TOKEN")); err != nil {
		t.Fatal(err)
	}
	if err := token.Resolve("."); err != nil {
		t.Fatal(err)
	}
	to := func(host string) func(*http.Request) { return func(r *http.Request) { r.Host = host } }
	bearer := func(v string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", v) }
	}
	basic := func(p string) func(*http.Request) { return func(r *http.Request) { r.SetBasicAuth("anyone", p) } }
	for name, tt := range map[string]struct {
		cfg    Config
		change func(*http.Request)
		code   int
	}{
		"loopback":            {Config{}, to("127.0.0.1:8399"), 200},
		"loopback v6":         {Config{}, to("[::1]:8399"), 200},
		"localhost":           {Config{}, to("localhost"), 200},
		"a name that rebinds": {Config{}, to("evil.example:8399"), 421},
		"no token":            {Config{Token: token}, to("hub.example"), 401},
		"wrong token":         {Config{Token: token}, bearer("Bearer x"), 401},
		"empty token":         {Config{Token: token}, bearer("Bearer "), 401},
		"bearer":              {Config{Token: token}, bearer("Bearer sesame"), 200},
		"password":            {Config{Token: token}, basic("sesame"), 200},
		"wrong password":      {Config{Token: token}, basic("sesam"), 401},
		"a token not read":    {Config{Token: unresolved(t)}, bearer("Bearer "), 401},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, tt.cfg, &fake{})
			if r := ask(t, s.guarded(s.Handler()), "GET", "/v1/status", tt.change); r.Code != tt.code {
				t.Errorf("answers %d, want %d", r.Code, tt.code)
			}
		})
	}
}

func unresolved(t *testing.T) (s edgeagent.Secret) {
	t.Helper()
	if err := s.UnmarshalText([]byte("env:NOWHERE")); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConfig(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  Config
		want string // "" is valid
	}{
		"nothing":           {Config{}, ""},
		"off":               {Config{Listen: Off}, ""},
		"loopback":          {Config{Listen: "127.0.0.1:8399"}, ""},
		"everybody":         {Config{Listen: ":8399"}, "listen: another address than loopback needs TLS"},
		"TLS alone":         {Config{Listen: ":8399", TLS: TLS{Cert: "c", Key: "k"}}, "needs a token or client certificates"},
		"TLS and clients":   {Config{Listen: ":8399", TLS: TLS{Cert: "c", Key: "k", ClientCA: "a"}}, ""},
		"TLS and token":     {Config{Listen: ":8399", TLS: TLS{Cert: "c", Key: "k"}, Token: unresolved(t)}, ""},
		"no port":           {Config{Listen: "127.0.0.1"}, "bad address"},
		"a key alone":       {Config{TLS: TLS{Key: "k"}}, "tls.cert: cert and key belong together"},
		"clients alone":     {Config{TLS: TLS{ClientCA: "k"}}, "client_ca needs cert and key"},
		"a long socket":     {Config{Socket: strings.Repeat("x", 104)}, "too long"},
		"a name":            {Config{Listen: "localhost:1"}, ""},
		"a name of another": {Config{Listen: "hub.example:1"}, "needs TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.cfg.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestBusy: more requests than may be in work are turned away.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{}, &fake{})
		for range MaxRequests {
			s.slots <- struct{}{}
		}
		r := ask(t, s.Handler(), "GET", "/v1/status")
		if r.Code != http.StatusServiceUnavailable || s.count.rejected.Load() != 1 {
			t.Errorf("answers %d", r.Code)
		}
		<-s.slots
		if r := ask(t, s.Handler(), "GET", "/v1/status"); r.Code != http.StatusOK {
			t.Errorf("answers %d when there is room", r.Code)
		}
	})
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		r := newRates()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.run(ctx, f) }()
		synctest.Wait()
		if perS, history := r.total(); perS != 0 || len(history) != 0 {
			t.Errorf("rate of one sample: %v, %v", perS, history)
		}
		for range 1000 {
			f.records.Add(50)
			time.Sleep(rateEvery)
			synctest.Wait()
		}
		perS, history := r.total()
		if perS != 10 || len(history) != rateSamples-1 || history[0].PerS != 10 {
			t.Errorf("%v a second, %d samples", perS, len(history))
		}
		if got := r.device()("default", "gw-1"); got != 10 {
			t.Errorf("%v a second of the device", got)
		}
		if got := r.device()("default", "nobody"); got != 0 {
			t.Errorf("%v a second of nobody", got)
		}
		for _, s := range r.samples[:rateSamples-rateOver-2] {
			if s.devices != nil {
				t.Fatal("keeps the devices of five minutes")
			}
		}
		f.records.Store(0) // an epoch was forgotten
		time.Sleep(rateEvery)
		synctest.Wait()
		if perS, _ := r.total(); perS != 0 {
			t.Errorf("%v a second after the count went back", perS)
		}
		cancel()
		<-done
	})
}

// TestRun: the socket is taken over from a dead hub and from nobody else, and is gone
// after the end.
func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	up, done := make(chan string, 1), make(chan error, 1)
	s := newServer(t, Config{Socket: path, Listen: "127.0.0.1:0"}, &fake{})
	s.OnListening(func(_, address string) { up <- address })
	go func() { done <- s.Run(ctx) }()
	address := <-up
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o660 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	if r, err := http.Get("http://" + address + "/v1/health"); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("listener: %v, %v", r, err)
	} else {
		r.Body.Close()
	}
	if err := newServer(t, Config{Socket: path}, &fake{}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another edgehub answers") {
		t.Errorf("a second hub on the socket: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("after the end: %v", err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newServer(t, Config{Socket: file}, &fake{}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file in place of the socket: %v", err)
	}
}

func TestParseTime(t *testing.T) {
	for in, want := range map[string]string{
		"1h": "2026-02-28T23:00:00Z", "2026-01-01T00:00:00Z": "2026-01-01T00:00:00Z", "-1h": "", "x": "", "": "",
	} {
		got, err := ParseTime(in, start)
		if (err != nil) != (want == "") || err == nil && time.Unix(0, got).UTC().Format(time.RFC3339) != want {
			t.Errorf("ParseTime(%q) = %v, %v; want %q", in, got, err, want)
		}
	}
}

func TestRowRoundTrip(t *testing.T) {
	in := Row{Time: start.UnixNano() + 1, Value: 1.5, Quality: "good", Tags: `a="b"`}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out Row
	if err := json.Unmarshal(b, &out); err != nil || out != in {
		t.Errorf("%s: %+v, %v", b, out, err)
	}
}
