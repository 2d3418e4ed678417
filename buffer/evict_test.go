package buffer

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// noise are readings that no codec makes small.
func noise(first, n int) []edgeagent.Reading {
	rs := readings(first, n)
	x := uint64(first)*2654435761 + 1
	for i := range rs {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		rs[i].Value = float64(int64(x)) / 3
	}
	return rs
}

// fill appends noise until total records are stored or gone, checking the budget
// at every step.
func fill(t *testing.T, b *Buffer, from, total int) {
	t.Helper()
	for i := from; i < total; i += 4000 {
		if _, err := b.Append(t.Context(), noise(i, 4000)); err != nil {
			t.Fatal(err)
		}
		if n := diskBytes(t, b.dir); n > int64(b.o.MaxBytes) {
			t.Fatalf("after %d records %d bytes are on the disk, %d are allowed", i, n, b.o.MaxBytes)
		}
	}
}

// account checks the proof of completeness: every number below next is stored, in
// the ledger, or released, and exactly one of these.
func account(t *testing.T, b *Buffer, s edgeagent.Stream) (storedN, lostN, released uint64) {
	t.Helper()
	ch := b.newest().streams[s]
	var all edgeagent.Ranges
	add := func(what string, r edgeagent.Range) {
		if n := all.Add(r); n != r.Len() {
			t.Errorf("%s [%d,%d] overlaps what is known", what, r.From, r.To)
		}
	}
	for _, sg := range ch.segs {
		add("segment", sg.rng())
		storedN += sg.records
	}
	for i := range ch.tail.spans {
		add("tail", ch.tail.rng(i))
	}
	storedN += uint64(ch.tail.len())
	for _, g := range ch.gaps {
		add("gap", g.Range)
		lostN += g.AtMost
	}
	for _, r := range ch.released {
		add("released", r)
		released += r.Len()
	}
	if missing := all.Missing(edgeagent.Range{From: 1, To: ch.next - 1}); len(missing) > 0 {
		t.Errorf("unexplained: %v", missing)
	}
	return storedN, lostN, released
}

func TestEvictionKeepsTheBudget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := options()
	o.MaxBytes, o.Policy = 4<<20, DropOldest
	b := open(t, dir, o)
	register(t, b, "cloud")
	const total = 1_000_000
	fill(t, b, 0, total)
	stored, lost, released := account(t, b, edgeagent.StreamTelemetry)
	if lost == 0 || released != 0 || stored+lost != total {
		t.Errorf("%d stored, %d lost, %d released of %d", stored, lost, released, total)
	}
	gaps := b.Gaps()
	if len(gaps) != 1 || gaps[0].Reason != Evicted || gaps[0].From != 1 || gaps[0].AtMost != gaps[0].Len() || gaps[0].TFrom != 0 || gaps[0].TTo < int64(gaps[0].To-1)*1e9 {
		t.Errorf("gaps %+v", gaps)
	}
	if st := b.Stats(); st.Streams[edgeagent.StreamTelemetry].Evicted != lost || b.Health().Code != "buffer-evicting" {
		t.Errorf("stats %+v, health %v", st.Streams[edgeagent.StreamTelemetry], b.Health())
	}
	if p := b.Pressure(); p < 0.5 {
		t.Errorf("pressure %v with a full buffer", p)
	}
	c, err := b.Cursor("cloud", edgeagent.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Unconfirmed(); n != stored {
		t.Errorf("%d unconfirmed, %d stored", n, stored)
	}
	b.crash()
	b, report := openReport(t, dir, o)
	if len(report.Gaps) > 0 {
		t.Errorf("the next open found %+v", report.Gaps)
	}
	account(t, b, edgeagent.StreamTelemetry)
	if diff := cmp.Diff(gaps, b.Gaps()); diff != "" {
		t.Error(diff)
	}
}

func TestConfirmedGoesWithoutAGap(t *testing.T) {
	t.Parallel()
	o := options()
	o.MaxBytes = 4 << 20
	dir := t.TempDir()
	b := open(t, dir, o)
	register(t, b, "cloud")
	for i := range 60 {
		last, err := b.Append(t.Context(), noise(i*8000, 8000))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Ack(t.Context(), "cloud", b.Epoch(), edgeagent.StreamTelemetry, []edgeagent.Range{{From: 1, To: last}}); err != nil {
			t.Fatal(err)
		}
	}
	_, lost, released := account(t, b, edgeagent.StreamTelemetry)
	if lost != 0 || released == 0 || len(b.Gaps()) > 0 {
		t.Errorf("%d lost, %d released, gaps %v", lost, released, b.Gaps())
	}
	if p := b.Pressure(); p > 0.2 {
		t.Errorf("pressure %v although all is confirmed", p)
	}

	// A destination that comes later is told what it missed, once and for all.
	register(t, b, "late")
	gaps := b.Gaps()
	if len(gaps) != 1 || gaps[0].Destination != "late" || gaps[0].Reason != Expired || gaps[0].AtMost != released {
		t.Errorf("gaps %+v", gaps)
	}
	b.crash()
	b = open(t, dir, o)
	register(t, b, "cloud")
	register(t, b, "late")
	if diff := cmp.Diff(gaps, b.Gaps()); diff != "" {
		t.Error(diff)
	}
}

func TestAlarmsOutliveReadings(t *testing.T) {
	t.Parallel()
	o := options()
	o.MaxBytes = 4 << 20
	b := open(t, t.TempDir(), o)
	register(t, b, "cloud")
	for i := range 20 {
		if _, err := b.AppendEvents(t.Context(), edgeagent.StreamAlarm, []edgeagent.Event{{Kind: "alarm", N: uint32(i + 1)}}); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, b, 0, 800_000)
	if n, lost, _ := account(t, b, edgeagent.StreamAlarm); n != 20 || lost != 0 {
		t.Errorf("%d alarms stored, %d lost", n, lost)
	}
}

// A storm of events must not push out the readings.
func TestStormOfEventsGivesWayToItself(t *testing.T) {
	t.Parallel()
	o := options()
	o.MaxBytes = 8 << 20
	b := open(t, t.TempDir(), o)
	register(t, b, "cloud")
	fill(t, b, 0, 100_000)
	attr := make([]byte, 3000)
	for i := range 60 {
		var evs []edgeagent.Event
		for k := range 60 {
			x := uint64(i*1000 + k + 1)
			for j := range attr {
				x ^= x << 13
				x ^= x >> 7
				x ^= x << 17
				attr[j] = byte(33 + x%90)
			}
			evs = append(evs, edgeagent.Event{Kind: "noise", Attrs: map[string]string{"x": string(attr)}})
		}
		if _, err := b.AppendEvents(t.Context(), edgeagent.StreamEvent, evs); err != nil {
			t.Fatal(err)
		}
		if n := diskBytes(t, b.dir); n > int64(o.MaxBytes) {
			t.Fatalf("%d bytes on the disk", n)
		}
	}
	if _, lost, _ := account(t, b, edgeagent.StreamEvent); lost == 0 {
		t.Error("no event was evicted: the test is too small")
	}
	if n, lost, _ := account(t, b, edgeagent.StreamTelemetry); n != 100_000 || lost != 0 {
		t.Errorf("%d readings stored, %d lost", n, lost)
	}
}

// A crash between the ledger and the unlink is made good by the next open.
func TestInterruptedEviction(t *testing.T) {
	for name, confirmed := range map[string]bool{"confirmed": true, "unconfirmed": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := options()
			crash := errors.New("crash")
			stop := false
			o.faults = func(op segment.Op, _ string) error {
				if stop && op == segment.OpRemove {
					return crash
				}
				return nil
			}
			b := open(t, dir, o)
			register(t, b, "cloud")
			last := mustAppend(t, b, 0, 100)
			flush(t, b)
			if confirmed {
				if err := b.Ack(t.Context(), "cloud", b.Epoch(), edgeagent.StreamTelemetry, []edgeagent.Range{{From: 1, To: last}}); err != nil {
					t.Fatal(err)
				}
			}
			stop = true
			b.disk.Lock()
			if err := b.evict(b.candidates()[0]); !errors.Is(err, crash) {
				t.Fatalf("evict: %v", err)
			}
			b.disk.Unlock()
			b.crash()
			o.faults = nil
			b = open(t, dir, o)
			if files, err := filepath.Glob(filepath.Join(dir, "telemetry", "*")); err != nil || len(files) != 0 {
				t.Errorf("left over: %v, %v", files, err)
			}
			_, lost, released := account(t, b, edgeagent.StreamTelemetry)
			if confirmed && (lost != 0 || released != 100) || !confirmed && (lost != 100 || released != 0) {
				t.Errorf("%d lost, %d released", lost, released)
			}
			if last := mustAppend(t, b, 0, 1); last != 101 {
				t.Errorf("went on at %d", last)
			}
		})
	}
}

func TestLedgerIsBounded(t *testing.T) {
	var gaps []Gap
	for i := range 3000 {
		gaps = addGap(gaps, Gap{Range: edgeagent.Range{From: edgeagent.Seq(10*i + 1), To: edgeagent.Seq(10*i + 5)}, Reason: Damaged, AtMost: 5})
	}
	gaps, low := foldGaps(gaps, 1)
	if len(gaps) != maxLedger || low != gaps[0].From-5 {
		t.Errorf("%d gaps, low %d, the first is %v", len(gaps), low, gaps[0].Range)
	}
	gaps = addGap(gaps, Gap{Range: edgeagent.Range{From: low, To: 29999}, Reason: Damaged, AtMost: 1 << 40})
	if len(gaps) != 1 || gaps[0].AtMost != gaps[0].Len() {
		t.Errorf("after filling the holes: %+v", gaps)
	}
}

func TestCursorForgetsTheSmallest(t *testing.T) {
	p := &place{}
	p.add(edgeagent.Range{From: 1, To: 2})
	for i := range 400 {
		from := edgeagent.Seq(1000 + 100*i)
		p.add(edgeagent.Range{From: from, To: from + edgeagent.Seq(i%50)})
	}
	if len(p.set) != maxCursorRanges+1 {
		t.Errorf("%d ranges", len(p.set))
	}
	if p.set[0] != (edgeagent.Range{From: 1, To: 2}) {
		t.Errorf("the low end went: %v", p.set[0])
	}
}

func TestLowerBudgetAtOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := options()
	o.MaxBytes = 8 << 20
	b := open(t, dir, o)
	fill(t, b, 0, 600_000)
	closeBuffer(t, b)
	o.MaxBytes = 4 << 20
	b = open(t, dir, o)
	fill(t, b, 600_000, 604_000)
	account(t, b, edgeagent.StreamTelemetry)
	if _, err := os.Stat(filepath.Join(dir, "LOCK")); err != nil {
		t.Error(err)
	}
}
