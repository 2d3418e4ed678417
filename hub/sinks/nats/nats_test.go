package nats

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/sinks/sinktest"
)

// run starts a server with JetStream on loopback.
func run(t testing.TB) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s.ClientURL()
}

func newSink(t testing.TB, url, name string) *Sink {
	t.Helper()
	s, err := Open(t.Context(), Options{URL: url, Stream: name, Prefix: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// messages returns everything in a stream.
func messages(ctx context.Context, s *Sink, name string) (out []*jetstream.RawStreamMsg, err error) {
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	for n := uint64(1); n <= stream.CachedInfo().State.LastSeq; n++ {
		m, err := stream.GetMsg(ctx, n)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

const marker = "\x00" // of what the stream has, as sinktest sees it

// TestConformance: within the window of duplicates each record is there once, whatever
// crash there was.
func TestConformance(t *testing.T) {
	url := run(t)
	store, n := sinktest.NewStore(), 0
	stream := func() string { return fmt.Sprint("S", n) }
	form := newSink(t, url, "form")
	sinktest.Run(t, sinktest.Config{
		Guarantee: sinktest.ExactlyOnce, RawTimes: true, Scenarios: 3,
		Open: func(context.Context) (sinktest.Opened, error) {
			s := newSink(t, url, stream())
			return sinktest.Opened{Store: store, Sink: s, Close: s.Close}, nil
		},
		Clear: func(ctx context.Context) error { n++; return store.Clear(ctx) },
		Read: func(ctx context.Context) (out []hub.Stored, _ error) {
			list, err := messages(ctx, form, stream())
			for _, m := range list {
				if strings.HasSuffix(m.Subject, ".correction") {
					continue
				}
				for line := range bytes.Lines(m.Data) {
					out = append(out, hub.Stored{Tenant: marker, Device: record(m.Header.Get("edgehub-tenant"), line)})
				}
			}
			return out, err
		},
		Key: func(x hub.Stored) string {
			if x.Tenant == marker {
				return x.Device
			}
			var line []byte
			for b := range cutOf(x).Batches() {
				var err error
				if line, err = form.form.Encode(nil, b, x.Device); err != nil {
					t.Error(err)
				}
			}
			return record(x.Tenant, line)
		},
	})
}

// record is all of a line but the run, of which what sinktest asks for knows nothing.
func record(tenant string, line []byte) string {
	value := map[string]any{}
	_ = json.Unmarshal(line, &value) // what is no JSON has no fields, and is found missing
	delete(value, "run")
	text, _ := json.Marshal(value)
	return tenant + " " + string(text)
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

func readings(n int) hub.Cut {
	s := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "boiler", Metric: "t", Unit: "Cel", Resolution: 6})
	c := hub.Cut{
		Tenant: "a.c me", Device: "gw>1", Epoch: 9, Stream: edgeagent.StreamTelemetry, Run: 3,
		Ranges: []edgeagent.Range{{From: 1, To: edgeagent.Seq(n)}},
	}
	for i := range n {
		c.Rows = append(c.Rows, hub.Row{Seq: edgeagent.Seq(i + 1), Series: s, Time: int64(i) * 1e6, Value: float64(i)})
	}
	return c
}

// TestMessages: subjects, headers, parts; what comes again is left out.
func TestMessages(t *testing.T) {
	url := run(t)
	s := newSink(t, url, "R")
	for range 3 {
		if err := s.Commit(t.Context(), readings(5000)); err != nil {
			t.Fatal(err)
		}
		if err := s.Correct(t.Context(), readings(1).EpochID(), hub.Correction{Run: 3, Add: time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := messages(t.Context(), s, "R")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for i, m := range list[:len(list)-1] {
		lines += bytes.Count(m.Data, []byte("\n"))
		if want := fmt.Sprint("a.c me/gw>1/0000000000000009/telemetry/1-5000#", i); m.Header.Get("Nats-Msg-Id") != want {
			t.Errorf("id %s, want %s", m.Header.Get("Nats-Msg-Id"), want)
		}
		if m.Subject != "R.a_c_me.gw_1.telemetry" || m.Header.Get("edgehub-device") != "gw>1" || len(m.Data) > maxMessage {
			t.Errorf("subject %s, device %s, %d bytes", m.Subject, m.Header.Get("edgehub-device"), len(m.Data))
		}
	}
	if lines != 5000 || len(list) < 3 {
		t.Errorf("%d lines in %d messages", lines, len(list))
	}
	if last := list[len(list)-1]; last.Subject != "R.a_c_me.gw_1.correction" || !strings.Contains(string(last.Data), `"add_ns":1000000000`) {
		t.Errorf("correction %s: %s", last.Subject, last.Data)
	}
}

// TestShortWindow: a stream that forgets ids too soon is refused.
func TestShortWindow(t *testing.T) {
	url := run(t)
	s := newSink(t, url, "R")
	if _, err := s.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "short", Subjects: []string{"x"}, Duplicates: time.Minute}); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Options{URL: url, Stream: "short"})
	if err == nil || !strings.Contains(err.Error(), "forgets message ids after 1m0s") {
		t.Errorf("%v", err)
	}
	for _, o := range []Options{{URL: url}, {URL: "nats://127.0.0.1:1", Stream: "x"}} {
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func Example() {
	_, err := Open(context.Background(), Options{URL: "nats://127.0.0.1:1"})
	fmt.Println(err)
	// Output: nats sink: which stream?
}
