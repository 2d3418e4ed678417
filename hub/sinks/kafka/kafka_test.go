package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/sinks/sinktest"
)

func cluster(t testing.TB, topics ...string) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.SeedTopics(3, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newSink(t testing.TB, c *kfake.Cluster, topic string) *Sink {
	t.Helper()
	s, err := New(Options{Brokers: c.ListenAddrs(), Topic: topic})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// consume returns everything in a topic that is there when it is asked.
func consume(ctx context.Context, c *kfake.Cluster, topic string) (out []*kgo.Record, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	want := 0
	for p := range int32(10) {
		if info := c.PartitionInfo(topic, p); info != nil {
			want += int(info.HighWatermark)
		}
	}
	for len(out) < want {
		f := cl.PollFetches(ctx)
		if err := f.Err0(); err != nil {
			return nil, err
		}
		out = append(out, f.Records()...)
	}
	return out, nil
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

const marker = "\x00" // of what the topic has, as sinktest sees it

// TestConformance: each record is there, after a crash perhaps twice, and its identity is
// in its headers.
func TestConformance(t *testing.T) {
	c, form := cluster(t), newSinkOf(t)
	store, n := sinktest.NewStore(), 0
	topic := func() string { return fmt.Sprint("t", n) }
	sinktest.Run(t, sinktest.Config{
		Guarantee: sinktest.AtLeastOnce, RawTimes: true, Scenarios: 3,
		Open: func(context.Context) (sinktest.Opened, error) {
			s := newSink(t, c, topic())
			return sinktest.Opened{Store: store, Sink: s, Close: s.Close}, nil
		},
		Clear: func(ctx context.Context) error { n++; return store.Clear(ctx) },
		Read: func(ctx context.Context) (out []hub.Stored, _ error) {
			list, err := consume(ctx, c, topic())
			for _, r := range list {
				if header(r, "type") == "" {
					out = append(out, hub.Stored{Tenant: marker, Device: identity(r)})
				}
			}
			return out, err
		},
		Key: func(x hub.Stored) string {
			if x.Tenant == marker {
				return x.Device
			}
			list, err := form.records(cutOf(x))
			if err != nil || len(list) != 1 {
				t.Errorf("%d records, %v", len(list), err)
				return ""
			}
			return identity(list[0])
		},
	})
}

// identity is all of a message but the cut and the run, of which a record that sinktest
// asks for knows nothing.
func identity(r *kgo.Record) string {
	value := map[string]any{}
	_ = json.Unmarshal(r.Value, &value) // what is no JSON has no fields, and is found missing
	delete(value, "run")
	text, _ := json.Marshal(value)
	return strings.Join([]string{string(r.Key), header(r, "tenant"), header(r, "device"), header(r, "epoch"), header(r, "stream"), header(r, "seq"), string(text)}, " ")
}

func newSinkOf(t testing.TB) *Sink {
	t.Helper()
	s, err := New(Options{Brokers: []string{"127.0.0.1:1"}, Topic: "x"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
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

func reading() hub.Cut {
	s := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "boiler", Metric: "t", Unit: "Cel", Resolution: 6})
	return hub.Cut{
		Tenant: "acme", Device: "gw-1", Epoch: 9, Stream: edgeagent.StreamTelemetry, Run: 3,
		Ranges: []edgeagent.Range{{From: 4, To: 4}, {From: 7, To: 7}},
		Rows:   []hub.Row{{Seq: 4, Series: s, Time: 1e18, Value: 21.5}, {Seq: 7, Series: s, Time: 2e18, Value: 22}},
	}
}

// TestMessages: key, value and headers of records and corrections.
func TestMessages(t *testing.T) {
	c := cluster(t, "readings")
	s := newSink(t, c, "readings")
	if err := s.Commit(t.Context(), reading()); err != nil {
		t.Fatal(err)
	}
	if err := s.Correct(t.Context(), reading().EpochID(), hub.Correction{Run: 3, Add: time.Second, Err: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	list, err := consume(t.Context(), c, "readings")
	if err != nil || len(list) != 3 {
		t.Fatalf("%d messages, %v", len(list), err)
	}
	const first = `{"t":"2001-09-09T01:46:40.000Z","device":"gw-1","sensor":"boiler","metric":"t","unit":"Cel","value":21.5,"q":"good","epoch":"0000000000000009","run":"00000003","stream":"telemetry","seq":4}`
	if string(list[0].Value) != first || string(list[0].Key) != "acme/gw-1" || list[0].Partition != list[1].Partition {
		t.Errorf("key %s, value %s", list[0].Key, list[0].Value)
	}
	if got := header(list[1], "seq") + " " + header(list[1], "cut"); got != "7 acme/gw-1/0000000000000009/telemetry/4-4,7-7" {
		t.Errorf("headers of the second: %s", got)
	}
	const corr = `{"tenant":"acme","device":"gw-1","epoch":"0000000000000009","run":"00000003","add_ns":1000000000,"err_ns":1000000}`
	if string(list[2].Value) != corr || header(list[2], "type") != "correction" {
		t.Errorf("correction %s", list[2].Value)
	}
}

// TestNobodyThere: a commit that cannot be made ends when the hub does.
func TestNobodyThere(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := newSinkOf(t).Commit(ctx, reading()); err == nil {
		t.Error("committed to nobody")
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no broker":         {Topic: "x"},
		"no topic":          {Brokers: []string{"x:1"}},
		"password in clear": {Brokers: []string{"x:1"}, Topic: "x", User: "u", Password: "p"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func Example() {
	s, err := New(Options{Brokers: []string{"127.0.0.1:9092"}, Topic: "readings"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	list, err := s.records(reading())
	fmt.Println(len(list), string(list[0].Key), err)
	// Output: 2 acme/gw-1 <nil>
}
