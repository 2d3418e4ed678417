package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

func openBuffer(t *testing.T, dests ...string) *buffer.Buffer {
	t.Helper()
	b, _, err := buffer.Open(t.Context(), t.TempDir(), buffer.Options{Config: buffer.Default(), Device: "gw1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, d := range dests {
		if err := b.Register(buffer.Destination{Name: d}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestBufferLogOfAnUnknownDestination(t *testing.T) {
	if l, err := newBufferLog(openBuffer(t), "cloud"); err == nil || l != nil {
		t.Errorf("%v, %v", l, err)
	}
}

func TestBufferLogShowsTheBuffer(t *testing.T) {
	b := openBuffer(t, "cloud", "other")
	l, err := newBufferLog(b, "cloud")
	if err != nil {
		t.Fatal(err)
	}
	rs := values(1, 2, 3, 4)
	for i := range rs {
		rs[i].At.Wall = int64(i+1) * int64(time.Second)
	}
	if _, err := b.Append(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Wait(t.Context(), 0); err != nil || n == 0 {
		t.Errorf("wait: %d, %v", n, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Wait(ended, 1<<60); !errors.Is(err, context.Canceled) {
		t.Errorf("wait without an append: %v", err)
	}
	c := l.Cursor(edgeagent.StreamTelemetry)
	epoch, next := c.Head()
	if epoch != b.Epoch() || next != 5 || c.Unconfirmed() != 4 || c.LiveFrom(3*int64(time.Second)) != 3 {
		t.Errorf("epoch %s, next %d, unconfirmed %d, live from %d", epoch, next, c.Unconfirmed(), c.LiveFrom(3*int64(time.Second)))
	}
	read := func(name string, r uplink.Reader, want edgeagent.Range) {
		t.Helper()
		batch, ok, err := r.Next(t.Context(), edgeagent.Limit{})
		if err != nil || !ok || batch.Range() != want {
			t.Errorf("%s: %v %v %v, want %v", name, batch.Range(), ok, err, want)
		}
	}
	read("live", c.Live(3), edgeagent.Range{From: 3, To: 4})
	read("backlog", c.Backlog(3, nil), edgeagent.Range{From: 1, To: 2})
	read("backlog without what is on the way", c.Backlog(3, map[edgeagent.Epoch]edgeagent.Ranges{epoch: {{From: 1, To: 1}}}), edgeagent.Range{From: 2, To: 2})

	blocks, err := l.SeriesBlocks(epoch, 0, 1, 0)
	if err != nil || len(blocks) != 1 || blocks[0].MaxID != 1 || len(blocks[0].Encoded) < 64 {
		t.Errorf("series blocks: %v, %v", blocks, err)
	}
	if err := l.Ack(t.Context(), epoch, edgeagent.StreamTelemetry, []edgeagent.Range{{From: 1, To: 3}}); err != nil {
		t.Fatal(err)
	}
	other, err := newBufferLog(b, "other")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{"cloud": c.Unconfirmed(), "other": other.Cursor(edgeagent.StreamTelemetry).Unconfirmed()}
	if diff := cmp.Diff(map[string]uint64{"cloud": 1, "other": 4}, got); diff != "" {
		t.Errorf("an ack is of one destination (-want +got):\n%s", diff)
	}
	if err := l.Ack(t.Context(), epoch, edgeagent.StreamTelemetry, []edgeagent.Range{{From: 1, To: 9}}); err == nil {
		t.Error("an ack of what was never appended was taken")
	}
}

func TestDestinationMakesAFreshUplinkEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := New(Options{Config: parse(t, t.TempDir(), lonely, ""), Dial: noNetwork})
		if err != nil {
			t.Fatal(err)
		}
		b := openBuffer(t, "cloud")
		d := a.newDestination(b, uplink.Config{Name: "cloud", Receiver: "hub", Links: []uplink.LinkConfig{{URL: "mqtt://broker.invalid"}}})
		if d.uplink() != nil {
			t.Error("an uplink before Run")
		}
		if err := d.flush(t.Context()); err == nil {
			t.Error("flushed without an uplink")
		}
		var before *uplink.Uplink
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := d.Run(ctx); err != nil {
				t.Error(err) // an uplink runs once: the same again would fail
			}
			cancel()
			if d.uplink() == nil || d.uplink() == before {
				t.Error("no fresh uplink")
			}
			before = d.uplink()
		}
	})
}
