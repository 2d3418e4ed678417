package line

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/sinks/sinktest"
)

// database is a server that keeps one value for each series, field and time, as those
// for time series do.
type database struct {
	mu     sync.Mutex // guards what follows
	points map[string]bool
	bodies [][]byte
	answer func(body []byte) (code int, text string)
	last   *http.Request
}

func (d *database) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = r
	if d.answer != nil {
		if code, text := d.answer(body); code != http.StatusNoContent {
			w.Header().Set("Retry-After", "2")
			http.Error(w, text, code)
			return
		}
	}
	d.bodies = append(d.bodies, body)
	for line := range strings.Lines(string(body)) {
		d.points[strings.TrimSuffix(line, "\n")] = true
	}
	w.WriteHeader(http.StatusNoContent)
}

func start(t *testing.T) (*database, string) {
	t.Helper()
	d := &database{points: map[string]bool{}}
	srv := httptest.NewServer(d)
	t.Cleanup(srv.Close)
	return d, srv.URL + "/write"
}

func newSink(t *testing.T, o Options) *Sink {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const marker = "\x00" // of what the server has, as sinktest sees it

// TestConformance: with a store of ranges beside it nothing is lost, and what comes again
// overwrites itself.
func TestConformance(t *testing.T) {
	d, url := start(t)
	store := sinktest.NewStore()
	form := newSink(t, Options{URL: url})
	sinktest.Run(t, sinktest.Config{
		Guarantee: sinktest.ExactlyOnce, RawTimes: true, Scenarios: 10,
		Open: func(context.Context) (sinktest.Opened, error) {
			return sinktest.Opened{Store: store, Sink: newSink(t, Options{URL: url}), Close: func() error { return nil }}, nil
		},
		Clear: func(ctx context.Context) error { d.clear(); return store.Clear(ctx) },
		Read: func(context.Context) (out []hub.Stored, _ error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			for line := range d.points {
				out = append(out, hub.Stored{Tenant: marker, Device: line})
			}
			return out, nil
		},
		Key: func(x hub.Stored) string {
			if x.Tenant == marker {
				return x.Device
			}
			text, err := form.lines(nil, cutOf(x))
			if err != nil {
				t.Error(err)
			}
			return strings.TrimSuffix(string(text), "\n")
		},
	})
}

func (d *database) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.points)
}

// cutOf is a cut of one record.
func cutOf(x hub.Stored) hub.Cut {
	c := hub.Cut{Tenant: x.Tenant, Device: x.Device, Epoch: x.Epoch, Stream: x.Stream, Unsynced: x.Unsynced}
	switch {
	case x.Rollup != nil:
		c.Rollups, c.Ranges = []hub.Rollup{*x.Rollup}, one(x.Rollup.Seq)
	case x.Event != nil:
		c.Events, c.Ranges = []hub.Event{*x.Event}, one(x.Event.Seq)
	default:
		c.Rows, c.Ranges = []hub.Row{x.Row}, one(x.Row.Seq)
	}
	return c
}

func one(s edgeagent.Seq) []edgeagent.Range { return []edgeagent.Range{{From: s, To: s}} }

// readings is a cut of n readings of one series, from number 1 on.
func readings(tenant string, n int) hub.Cut {
	s := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "bo,iler", Metric: "t", Resolution: 6})
	c := hub.Cut{
		Tenant: tenant, Device: "gw-1", Epoch: 9, Stream: edgeagent.StreamTelemetry,
		Ranges: []edgeagent.Range{{From: 1, To: edgeagent.Seq(n)}},
	}
	for i := range n {
		c.Rows = append(c.Rows, hub.Row{Seq: edgeagent.Seq(i + 1), Series: s, Time: int64(i+1) * 1e6, Value: float64(i)})
	}
	return c
}

func TestTenants(t *testing.T) {
	d, url := start(t)
	s := newSink(t, Options{URL: url, Token: "secret"})
	for _, tenant := range []string{"default", `ac,me co\`} {
		if err := s.Commit(t.Context(), readings(tenant, 1)); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]bool{`bo\,iler,device=gw-1 t=0 1000000`: true, `bo\,iler,tenant=ac\,me\ co/,device=gw-1 t=0 1000000`: true}
	if diff := cmp.Diff(want, d.points); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := d.last.Header.Get("Authorization"); got != "Token secret" {
		t.Errorf("authorization %q", got)
	}
}

// TestRefused: lines that the server does not want stop nobody else's.
func TestRefused(t *testing.T) {
	d, url := start(t)
	d.answer = func(body []byte) (int, string) {
		if bytes.Contains(body, []byte(" t=3 ")) || bytes.Contains(body, []byte(" t=70 ")) {
			return http.StatusBadRequest, "field type conflict"
		}
		return http.StatusNoContent, ""
	}
	var refused bytes.Buffer
	s := newSink(t, Options{URL: url, Refused: &refused, User: "me", Password: "pw"})
	if err := s.Commit(t.Context(), readings("default", 100)); err != nil {
		t.Fatal(err)
	}
	want := "bo\\,iler,device=gw-1 t=3 4000000\nbo\\,iler,device=gw-1 t=70 71000000\n"
	if refused.String() != want || len(d.points) != 98 || s.Stats().Refused != 2 {
		t.Errorf("%d stored, refused %q, stats %+v", len(d.points), refused.String(), s.Stats())
	}
	if user, pw, _ := d.last.BasicAuth(); user != "me" || pw != "pw" {
		t.Errorf("login %s %s", user, pw)
	}
}

// TestTryAgain: whatever else a server answers is an error, and it is left alone as long
// as it asks.
func TestTryAgain(t *testing.T) {
	for _, code := range []int{301, 401, 403, 404, 408, 429, 500, 503} {
		d, url := start(t)
		d.answer = func([]byte) (int, string) { return code, "not now" }
		s := newSink(t, Options{URL: url})
		err := s.Commit(t.Context(), readings("default", 2))
		if err == nil || !strings.Contains(err.Error(), "not now") {
			t.Errorf("%d: %v", code, err)
		}
		if wait := time.Until(s.paused); wait < time.Second || wait > 2*time.Second {
			t.Errorf("%d: pause of %v", code, wait)
		}
		if st := s.Stats(); st.Retries != 1 || st.Points != 0 {
			t.Errorf("%d: stats %+v", code, st)
		}
	}
	for text, want := range map[string]time.Duration{"": 0, "5": 5 * time.Second, "86400": maxRetry, "-1": 0, "soon": 0} {
		if got := retryAfter(text); got != want {
			t.Errorf("retryAfter(%q) = %v", text, got)
		}
	}
}

// TestPauseEndsWithTheHub: a hub that stops does not wait for the server.
func TestPauseEndsWithTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t, Options{URL: "http://127.0.0.1:1/write"})
		s.paused = time.Now().Add(maxRetry)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := s.Commit(ctx, readings("default", 1)); err == nil || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// TestBodies: a request holds whole lines and not too many.
func TestBodies(t *testing.T) {
	d, url := start(t)
	s := newSink(t, Options{URL: url})
	if err := s.Commit(t.Context(), readings("default", 20_000)); err != nil {
		t.Fatal(err)
	}
	if len(d.bodies) < 2 || len(d.points) != 20_000 {
		t.Errorf("%d requests, %d points", len(d.bodies), len(d.points))
	}
	for _, b := range d.bodies {
		if len(b) > maxBody || b[len(b)-1] != '\n' {
			t.Errorf("a request of %d bytes", len(b))
		}
	}
	if part, rest := split([]byte("long line\nx\n"), 3); string(part) != "long line\n" || string(rest) != "x\n" {
		t.Errorf("split gives %q and %q", part, rest)
	}
}

// TestOverwriting: equal times and steps back are counted.
func TestOverwriting(t *testing.T) {
	_, url := start(t)
	s := newSink(t, Options{URL: url})
	c := readings("default", 5)
	c.Rows[2].Time = c.Rows[1].Time
	c.Rows[4].Time = 1
	if err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Repeated != 1 || st.Backward != 1 || st.Points != 5 {
		t.Errorf("stats %+v", st)
	}
}

func TestAddress(t *testing.T) {
	for _, bad := range []string{"", "localhost:8428", "ftp://x/write", "http://"} {
		if _, err := New(Options{URL: bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func Example() {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Print(string(body))
	}))
	defer srv.Close()
	s, err := New(Options{URL: srv.URL + "/write"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Commit(context.Background(), readings("default", 2)))
	// Output:
	// bo\,iler,device=gw-1 t=0 1000000
	// bo\,iler,device=gw-1 t=1 2000000
	// <nil>
}
