package buffer

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

func TestReplayReadsWhatIsConfirmed(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	mustAppend(t, b, 0, 300)
	if err := b.Ack(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{{From: 1, To: 300}}); err != nil {
		t.Fatal(err)
	}
	if err := b.DeadLetter(t.Context(), "cloud", b.Epoch(), telemetry, edgeagent.Range{From: 10, To: 12}, "no"); err != nil {
		t.Fatal(err)
	}
	r, err := b.Replay(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{{From: 200, To: 210}, {From: 5, To: 20}, {From: 299, To: 400}, {From: 0, To: 1}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[edgeagent.Seq]float64{}
	for _, x := range []edgeagent.Range{{From: 1, To: 1}, {From: 5, To: 20}, {From: 200, To: 210}, {From: 299, To: 300}} {
		for n := x.From; n <= x.To; n++ {
			want[n] = float64(n - 1)
		}
	}
	got, _ := drain(t, r, edgeagent.Limit{Records: 7})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(b.Gaps()) != 0 {
		t.Errorf("gaps %v", b.Gaps())
	}
}

func TestReplayLeavesOutWhatTheDestinationRefused(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	mustAppend(t, b, 0, 30)
	if err := b.DeadLetter(t.Context(), "cloud", b.Epoch(), telemetry, edgeagent.Range{From: 10, To: 12}, "no"); err != nil {
		t.Fatal(err)
	}
	r, err := b.Replay(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{{From: 9, To: 13}})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := drain(t, r, edgeagent.Limit{})
	if diff := cmp.Diff(map[edgeagent.Seq]float64{9: 8, 13: 12}, got); diff != "" {
		t.Error(diff)
	}
}

func TestReplayAnswersExpiredForWhatIsGone(t *testing.T) {
	dir := t.TempDir()
	o := options()
	o.MaxBytes = minMaxBytes
	b := open(t, dir, o)
	register(t, b, "cloud")
	register(t, b, "other")
	mustAppend(t, b, 0, 100)
	all := []edgeagent.Range{{From: 1, To: 100}}
	for _, name := range []string{"cloud", "other"} {
		if err := b.Ack(t.Context(), name, b.Epoch(), telemetry, all); err != nil {
			t.Fatal(err)
		}
	}
	mustSqueeze(t, b)
	mustAppend(t, b, 100, 20)
	version := b.MarksVersion("cloud")
	r, err := b.Replay(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{{From: 91, To: 110}})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := drain(t, r, edgeagent.Limit{}); len(got) != 10 {
		t.Errorf("read %v", got)
	}
	if b.MarksVersion("cloud") == version {
		t.Error("the marks do not change")
	}
	want := []block.Gap{{From: 91, To: 100, Reason: "expired", AtMost: 10}}
	for range 2 {
		if diff := cmp.Diff(want, marksOf(t, b, "cloud", b.Epoch()).Streams[telemetry].Gaps); diff != "" {
			t.Error(diff)
		}
		if gaps := marksOf(t, b, "other", b.Epoch()).Streams[telemetry].Gaps; len(gaps) > 0 {
			t.Errorf("another destination is told of %v", gaps)
		}
		closeBuffer(t, b)
		b = open(t, dir, o)
		register(t, b, "cloud")
		register(t, b, "other")
	}
	version = b.MarksVersion("cloud")
	if _, err := b.Replay(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{{From: 91, To: 100}}); err != nil || b.MarksVersion("cloud") != version {
		t.Errorf("asked again: %v, and the marks change", err)
	}
}

func TestReplayIsBounded(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	mustAppend(t, b, 0, 1000)
	var many []edgeagent.Range
	for n := edgeagent.Seq(1); n <= 1000; n += 2 {
		many = append(many, edgeagent.Range{From: n, To: n})
	}
	r, err := b.Replay(t.Context(), "cloud", b.Epoch(), telemetry, many)
	if err != nil || len(r.parts) != maxReplay {
		t.Errorf("%d parts, %v", len(r.parts), err)
	}
	for name, call := range map[string]func() error{
		"destination": func() error { _, err := b.Replay(t.Context(), "x", b.Epoch(), telemetry, many); return err },
		"epoch":       func() error { _, err := b.Replay(t.Context(), "cloud", 7, telemetry, many); return err },
		"stream":      func() error { _, err := b.Replay(t.Context(), "cloud", b.Epoch(), 9, many); return err },
	} {
		if call() == nil {
			t.Errorf("unknown %s: no error", name)
		}
	}
}

// moved opens the buffer as another machine would find it.
func moved(t testing.TB, dir, machine string) *Buffer {
	t.Helper()
	o := options()
	o.Identify = elsewhere(func(id *Identity) { id.Machine = machine })
	return open(t, dir, o)
}

func TestReappendMovesRecordsToTheNewestEpoch(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	mustAppend(t, b, 0, 10_000)
	evs := []edgeagent.Event{{Kind: "alarm", ID: "r/i/1", N: 1, At: edgeagent.Instant{Wall: 5e9}}, {Kind: "alarm", ID: "r/i/1", N: 2, At: edgeagent.Instant{Wall: 6e9}}}
	if _, err := b.AppendEvents(t.Context(), edgeagent.StreamAlarm, evs); err != nil {
		t.Fatal(err)
	}
	old := b.Epoch()
	closeBuffer(t, b)
	b = moved(t, dir, "m2")
	register(t, b, "cloud")
	register(t, b, "other")
	mustAppend(t, b, 50_000, 5)
	if err := b.Ack(t.Context(), "cloud", old, telemetry, []edgeagent.Range{{From: 1, To: 100}}); err != nil {
		t.Fatal(err)
	}
	n, err := b.Reappend(t.Context(), "cloud", old, telemetry, []edgeagent.Range{{From: 51, To: 9000}})
	if err != nil || n != 8900 {
		t.Fatalf("%d records, %v", n, err)
	}
	if n, err := b.Reappend(t.Context(), "cloud", old, edgeagent.StreamAlarm, []edgeagent.Range{{From: 1, To: 2}}); err != nil || n != 2 {
		t.Fatalf("%d alarms, %v", n, err)
	}
	// The destination gets them once, under new numbers, with their old times.
	want := map[edgeagent.Seq]float64{1: 50_000, 2: 50_001, 3: 50_002, 4: 50_003, 5: 50_004}
	for i := range 8900 {
		want[edgeagent.Seq(6+i)] = float64(100 + i)
	}
	got, batches := drain(t, cursorOf(t, b, "cloud").Live(1), edgeagent.Limit{})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if last := batches[len(batches)-1]; last.MaxTime != 8999e9 {
		t.Errorf("last time %d", last.MaxTime)
	}
	r := cursorOf(t, b, "cloud").Backlog(1, nil)
	if got, _ := drain(t, r, edgeagent.Limit{}); len(got) != 1000 || got[9001] != 9000 {
		t.Errorf("%d of the old epoch are left", len(got))
	}
	gaps := marksOf(t, b, "cloud", old).Streams[telemetry].Gaps
	if diff := cmp.Diff([]block.Gap{{From: 101, To: 9000, Reason: "dead_letter"}}, gaps); diff != "" {
		t.Error(diff)
	}
	alarms, _, err := b.Read(t.Context(), b.Epoch(), edgeagent.StreamAlarm, 1, edgeagent.Limit{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := alarms.Events(nil); err != nil || len(got) != 2 || got[1].N != 2 || got[1].At.Wall != 6e9 {
		t.Errorf("alarms %+v, %v", got, err)
	}
	// The other one gets the old numbers and not the new ones.
	c := cursorOf(t, b, "other")
	if got, _ := drain(t, c.Live(1), edgeagent.Limit{}); len(got) != 5 {
		t.Errorf("another destination reads %d of the new epoch", len(got))
	}
	if got, _ := drain(t, c.Backlog(1, nil), edgeagent.Limit{}); len(got) != 10_000 {
		t.Errorf("another destination reads %d of the old epoch", len(got))
	}
	// Once more is nothing.
	if n, err := b.Reappend(t.Context(), "cloud", old, telemetry, []edgeagent.Range{{From: 51, To: 9000}}); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	if _, err := b.Reappend(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{{From: 1, To: 2}}); !errors.Is(err, errNewest) {
		t.Errorf("of the newest epoch: %v", err)
	}
}

func TestReappendOfUnsyncedReadings(t *testing.T) {
	dir, clock := t.TempDir(), newSkewed()
	clock.set(-400*24*time.Hour, true)
	o := options()
	o.Clock = clock
	b := open(t, dir, o)
	stamped(t, b, 1)
	_, raw := readOne(t, b, telemetry, 1)
	old, run := b.Epoch(), b.RunID()
	closeBuffer(t, b)
	for _, corrected := range []bool{false, true} {
		machine := "uncorrected"
		want, quality := raw, edgeagent.Suspect
		if corrected {
			machine, want, quality = "corrected", raw+int64(time.Hour), edgeagent.Good
		}
		copied := t.TempDir()
		copyDir(t, dir, copied)
		b := moved(t, copied, machine)
		register(t, b, "cloud")
		if corrected {
			if err := b.Correct(t.Context(), Correction{Run: run, Add: time.Hour}); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := b.Reappend(t.Context(), "cloud", old, telemetry, []edgeagent.Range{{From: 1, To: 1}}); n != 1 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		batch, got := readOne(t, b, telemetry, 1)
		rs, err := batch.Readings(nil)
		if err != nil || got != want || rs[0].Quality != quality || batch.Unsynced {
			t.Errorf("%s: time %d, want %d; quality %s, want %s; %v", machine, got, want, rs[0].Quality, quality, err)
		}
	}
}

func TestProvenRewindBeginsANewEpoch(t *testing.T) {
	dir, clock := t.TempDir(), newSkewed()
	o := options()
	o.Clock = clock
	b := open(t, dir, o)
	register(t, b, "cloud")
	register(t, b, "second")
	mustAppend(t, b, 0, 10)
	first := b.Epoch()
	for range 2 { // again is no error
		if restart, err := b.ProveRewind(t.Context(), "cloud", first); err != nil || !restart {
			t.Fatalf("restart %v, %v", restart, err)
		}
	}
	if restart, err := b.ProveRewind(t.Context(), "second", first); err != nil || !restart {
		t.Fatalf("by another: restart %v, %v", restart, err)
	}
	b.crash() // the mark is durable
	b, report := openReport(t, dir, o)
	register(t, b, "cloud")
	if b.Epoch() == first || report.NewEpoch != rewindReason {
		t.Fatalf("epoch goes on: %q", report.NewEpoch)
	}
	if !b.Rewound("cloud", first) || !b.Rewound("second", first) || b.Rewound("cloud", b.Epoch()) || b.Rewound("x", first) {
		t.Error("who was rewound is not remembered")
	}
	if got, _ := drain(t, cursorOf(t, b, "cloud").Backlog(1, nil), edgeagent.Limit{}); len(got) != 10 {
		t.Errorf("%d records of the old epoch", len(got))
	}
	second := b.Epoch()
	if _, err := b.ProveRewind(t.Context(), "cloud", first); err == nil {
		t.Error("an old epoch was proven to be rewound")
	}
	if restart, err := b.ProveRewind(t.Context(), "cloud", second); err != nil || restart {
		t.Errorf("a second rewind at once: restart %v, %v", restart, err)
	}
	closeBuffer(t, b)
	b, report = openReport(t, dir, o)
	register(t, b, "cloud")
	if b.Epoch() != second || report.NewEpoch != "" {
		t.Errorf("the second proof began an epoch: %q", report.NewEpoch)
	}
	clock.set(2*time.Hour, false)
	if restart, err := b.ProveRewind(t.Context(), "cloud", second); err != nil || !restart {
		t.Errorf("hours later: restart %v, %v", restart, err)
	}
	closeBuffer(t, b)
	if b, _ = openReport(t, dir, o); b.Epoch() == second {
		t.Error("the epoch goes on")
	}
}
