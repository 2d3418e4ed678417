package push

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/sensortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a source that listens, and a buffer that takes what it gives.
type bench struct {
	t      *testing.T
	url    string
	client *http.Client
	mu     sync.Mutex
	stored []string
	put    func() error // nil: well
}

func run(t *testing.T, change func(*Config)) *bench {
	t.Helper()
	c := Default()
	c.Listen = "127.0.0.1:0"
	change(c)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		t.Fatal(err)
	}
	s := newSource(sensortest.Env("app"), c)
	s.serve(l)
	b := &bench{t: t, url: "http://" + l.Addr().String(), client: &http.Client{Transport: &http.Transport{}}}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			rs, _ := s.Sample(ctx, nil)
			if len(rs) > 0 {
				s.Taken(b.store(rs))
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		b.client.CloseIdleConnections()
	})
	return b
}

func (b *bench) store(rs []edgeagent.Reading) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.put != nil {
		if err := b.put(); err != nil {
			return err
		}
	}
	for _, r := range rs {
		s := fmt.Sprintf("%s=%v", r.Series, r.Value)
		if r.Recorded {
			s += "@" + time.Unix(0, r.At.Wall).UTC().Format(time.RFC3339Nano)
		}
		if tag, ok := r.Series.Key().Tags.Get("hall"); ok {
			s += " hall=" + tag
		}
		b.stored = append(b.stored, s)
	}
	return nil
}

func (b *bench) taken() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.stored
	b.stored = nil
	slices.Sort(out)
	return out
}

// post sends a request and returns status, text and Retry-After.
func (b *bench) post(path, body string, headers ...string) (int, string, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	a, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer a.Body.Close()
	text, _ := io.ReadAll(a.Body)
	return a.StatusCode, strings.TrimSpace(string(text)), a.Header.Get("Retry-After")
}

func packed(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	_ = z.Close()
	return b.String()
}

// manyTags are twenty.
var manyTags = func() string {
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, ",t%d=1", i)
	}
	return b.String()
}()

func TestRequests(t *testing.T) {
	b := run(t, func(c *Config) { c.MaxRate, c.MaxSeries = 1_000_000, 50 })
	for _, tt := range []struct {
		name, path, body string
		headers          []string
		status           int
		text             string
		want             []string
	}{
		{
			"lines", "/write", "boiler,hall=3 temperature=21.5,on=t,name=\"x\"\n# c\n\nbox/a v=1 1700000000000000000\r\n", nil, 204, "",
			[]string{"app/boiler/on=1 hall=3", "app/boiler/temperature=21.5 hall=3", "app/box/a/v=1@2023-11-14T22:13:20Z"},
		},
		{"precision", "/api/v2/write?precision=s&bucket=x", "m v=1 1700000000", nil, 204, "", []string{"app/m/v=1@2023-11-14T22:13:20Z"}},
		{"packed", "/write", packed("m v=2"), []string{"Content-Encoding", "gzip"}, 204, "", []string{"app/m/v=2"}},
		{"an object", "/json", `{"sensor":"pump","time":"2026-01-02T03:04:05.5Z","tags":{"hall":"4"},"values":{"flow":3}}`, nil, 204, "", []string{"app/pump/flow=3@2026-01-02T03:04:05.5Z hall=4"}},
		{"a list", "/json", `[{"values":{"a":1}},{"time":1700000000.25,"values":{"b":2}}]`, nil, 204, "", []string{"app/a=1", "app/b=2@2023-11-14T22:13:20.25Z"}},
		{"nothing", "/write", "", nil, 204, "", nil},
		{"nothing in a list", "/json", "[]", nil, 204, "", nil},
		{"one bad line refuses all", "/write", "m v=1\nm v=\n", nil, 400, "line 2: field v: not a value", nil},
		{"unknown precision", "/write?precision=h", "m v=1", nil, 400, "unknown precision", nil},
		{"a time that cannot be", "/write?precision=s", "m v=1 1700000000000000000", nil, 400, "is the precision right?", nil},
		{"tomorrow", "/write?precision=s", fmt.Sprint("m v=1 ", time.Now().Unix()+100_000), nil, 400, "a day ahead", nil},
		{"an unknown key", "/json", `{"value":1}`, nil, 400, `unknown field "value"`, nil},
		{"a text for a number", "/json", `{"values":{"a":"1"}}`, nil, 400, "not the JSON that is wanted", nil},
		{"two documents", "/json", `{} {}`, nil, 400, "more than one", nil},
		{"no name", "/json", `{"values":{"":1}}`, nil, 400, "not the name of a metric", nil},
		{"hostile names", "/json", `{"sensor":"a b/../*","values":{"x/y":1}}`, nil, 204, "", []string{"app/a_b/../_/x_y=1"}},
		{"too many tags", "/write", "m" + manyTags + " v=1", nil, 400, "tags, at most 16", nil},
		{"too large", "/write", strings.Repeat("x", maxBody+1), nil, 413, "more than 1048576 bytes", nil},
		{"a bomb", "/write", packed(strings.Repeat("m v=1\n", 200_000)), []string{"Content-Encoding", "gzip"}, 413, "more than 1048576 bytes", nil},
		{"too many readings", "/write", strings.Repeat("m v=1\n", maxReadings+1), nil, 413, "more than 10000 readings", nil},
		{"another packing", "/write", "m v=1", []string{"Content-Encoding", "br"}, 400, "unknown Content-Encoding", nil},
		{"not packed", "/write", "m v=1", []string{"Content-Encoding", "gzip"}, 400, "unpack", nil},
		{"another path", "/x", "m v=1", nil, 404, "", nil},
		{"a page in a browser", "/write", "m v=1", []string{"Sec-Fetch-Site", "cross-site"}, 403, "", nil},
		{"a foreign name of loopback", "/write", "m v=1", []string{"Host", "evil.example"}, 403, "host's name", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text, _ := b.post(tt.path, tt.body, tt.headers...)
			if status != tt.status || !strings.Contains(text, tt.text) {
				t.Errorf("%d %s, want %d %s", status, text, tt.status, tt.text)
			}
			if diff := cmp.Diff(tt.want, b.taken()); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
		})
	}
	var many strings.Builder
	for i := range 60 {
		fmt.Fprintf(&many, "m%d v=1\n", i)
	}
	if status, text, _ := b.post("/write", many.String()); status != 400 || !strings.Contains(text, "too many series") || len(b.taken()) > 0 {
		t.Errorf("too many series: %d %s", status, text)
	}
	if status, _, _ := b.post("/write", "m v=3"); status != 204 {
		t.Errorf("a known series then: %d", status)
	}
}

func TestToken(t *testing.T) {
	b := run(t, func(c *Config) { c.Token = edgeagent.NewSecret("s3cret") })
	for header, want := range map[string]int{"": 401, "Bearer wrong": 401, "Bearer s3cret": 204, "Token s3cret": 204, "Basic s3cret": 401, "s3cret": 401} {
		if status, _, _ := b.post("/write", "m v=1", "Authorization", header); status != want {
			t.Errorf("%q: %d, want %d", header, status, want)
		}
	}
	if knows("Bearer ", "") {
		t.Error("an empty token is known to everybody")
	}
}

// TestPressure: 204 only for what the buffer has accepted.
func TestPressure(t *testing.T) {
	b := run(t, func(c *Config) { c.MaxRate = 10 })
	b.put = func() error { return errors.New("disk full") }
	if status, text, after := b.post("/write", "m v=1"); status != 503 || after != "5" || !strings.Contains(text, "disk full") || len(b.taken()) > 0 {
		t.Errorf("a buffer that refuses: %d %s, %s", status, text, after)
	}
	b.mu.Lock()
	b.put = nil
	b.mu.Unlock()
	if status, _, after := b.post("/write", strings.Repeat("m v=1\n", 20)); status != 429 || after == "" {
		t.Errorf("too fast: %d, %s", status, after)
	}
}

func TestBusy(t *testing.T) { synctest.Test(t, testBusy) }

func testBusy(t *testing.T) {
	c := Default()
	s := newSource(sensortest.Env("app"), c)
	rs := []edgeagent.Reading{{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range maxWaiting {
		wg.Go(func() {
			if err := s.submit(ctx, rs); err == nil {
				t.Error("stored by nobody")
			}
		})
	}
	synctest.Wait() // until all wait
	if err := s.submit(ctx, rs); !errors.Is(err, errBusy) {
		t.Errorf("got %v", err)
	}
	cancel()
	wg.Wait()
	got, err := s.Sample(t.Context(), nil)
	if len(got) > 0 || err != nil {
		t.Errorf("%d readings of requests that nobody waits for are stored", len(got))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.submit(t.Context(), rs); err == nil {
		t.Error("stored after the end")
	}
}

func TestLimiter(t *testing.T) {
	l := limiter{perSecond: 100}
	now := time.Unix(1000, 0)
	if _, ok := l.allow(5000, now); !ok {
		t.Error("a large request is never let through")
	}
	if wait, ok := l.allow(1, now.Add(time.Second)); ok || wait < 48*time.Second || wait > 49*time.Second {
		t.Errorf("after it: %v, %s", ok, wait)
	}
	if _, ok := l.allow(100, now.Add(51*time.Second)); !ok {
		t.Error("it never recovers")
	}
}

func TestUnixSocket(t *testing.T) {
	c := Default()
	env := sensortest.Env("app")
	env.Dir = t.TempDir()
	c.Listen = "unix:p.sock"
	for range 2 { // the second finds the socket of the first
		s, err := c.Open(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(env.Dir, "p.sock"))
		}}}
		var wg sync.WaitGroup
		wg.Go(func() {
			rs, _ := s.Sample(t.Context(), nil)
			s.(sensors.Informed).Taken(nil)
			if len(rs) != 1 {
				t.Errorf("%d readings", len(rs))
			}
		})
		a, err := client.Post("http://agent/write", "", strings.NewReader("m v=1"))
		if err != nil || a.StatusCode != http.StatusNoContent {
			t.Errorf("%v, %v", a, err)
		} else {
			a.Body.Close()
		}
		wg.Wait()
		client.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestConformance(t *testing.T) {
	sensortest.Run(t, func(t *testing.T, env sensors.Env) sensors.Source {
		s := newSource(env, Default())
		for range 10 {
			rs, err := s.readings([]pushed{{name: "m", metric: "v", value: 1}})
			if err != nil {
				t.Fatal(err)
			}
			s.queue <- &ticket{readings: rs, done: make(chan error, 1)}
		}
		return s
	})
}

func TestValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no port":          {func(c *Config) { c.Listen = "127.0.0.1" }, "is no address"},
		"the whole world":  {func(c *Config) { c.Listen = ":8391" }, "there is no token"},
		"with a token":     {func(c *Config) { c.Listen, c.Token = "0.0.0.0:8391", edgeagent.NewSecret("x") }, ""},
		"IPv6":             {func(c *Config) { c.Listen = "[::1]:8391" }, ""},
		"a long socket":    {func(c *Config) { c.Listen = "unix:/" + strings.Repeat("x", 110) }, "longer than 103"},
		"rate":             {func(c *Config) { c.MaxRate = 0 }, "max_rate: 0 is out of range"},
		"number of series": {func(c *Config) { c.MaxSeries = 5001 }, "max_series: 5001 is out of range"},
	} {
		c := Default()
		tt.change(c)
		err := c.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzRequest: whatever is posted gives readings with names and numbers, or an error.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("m,a=b v=1i 12\nn w=t"), "s")
	f.Add([]byte(`[{"sensor":"a/b","time":"2026-01-02T03:04:05Z","tags":{"k":"v"},"values":{"x":1}}]`), "json")
	f.Fuzz(func(t *testing.T, body []byte, how string) {
		list, err := parseJSON(body)
		if how != "json" {
			unit, bad := precision(how)
			if bad != nil {
				return
			}
			list, err = parseLines(body, unit)
		}
		if err != nil {
			return
		}
		rs, err := newSource(sensortest.Env("app"), Default()).readings(list)
		if err != nil {
			return
		}
		for _, r := range rs {
			k := r.Series.Key()
			if k.Metric == "" || strings.ContainsAny(k.Metric, "/ *\x00") || !strings.HasPrefix(k.Sensor, "app") || strings.ContainsAny(k.Sensor, " *\x00") ||
				math.IsNaN(r.Value) || math.IsInf(r.Value, 0) || r.At.Wall < 0 {
				t.Errorf("%q gives %+v", body, r)
			}
		}
	})
}
