package buffer

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// stamped appends a reading that the agent takes now, and an event.
func stamped(t testing.TB, b *Buffer, value float64) {
	t.Helper()
	c := b.o.Clock
	at := edgeagent.Instant{Wall: c.Wall().UnixNano(), Run: int64(c.Run())}
	if _, err := b.Append(t.Context(), []edgeagent.Reading{{Series: series(0), Value: value, At: at}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AppendEvents(t.Context(), edgeagent.StreamEvent, []edgeagent.Event{{Kind: "note", At: at}}); err != nil {
		t.Fatal(err)
	}
}

// readOne returns the first batch of a stream, its first time and its bytes.
func readOne(t testing.TB, b *Buffer, s edgeagent.Stream, from edgeagent.Seq) (edgeagent.Batch, int64) {
	t.Helper()
	batch, ok, err := b.Read(t.Context(), b.Epoch(), s, from, edgeagent.Limit{})
	if err != nil || !ok {
		t.Fatalf("read %s %d: %v, %v", s, from, ok, err)
	}
	if s == telemetry {
		rs, err := batch.Readings(nil)
		if err != nil {
			t.Fatal(err)
		}
		return batch, rs[0].At.Wall
	}
	evs, err := batch.Events(nil)
	if err != nil {
		t.Fatal(err)
	}
	return batch, evs[0].At.Wall
}

func TestCorrectionAppliesToWhatIsRead(t *testing.T) {
	const year = 365 * 24 * time.Hour
	dir, clock := t.TempDir(), newSkewed()
	clock.set(-50*year, true)
	o := options()
	o.Clock = clock
	b := open(t, dir, o)
	register(t, b, "cloud")
	stamped(t, b, 1)
	before, rawTime := readOne(t, b, telemetry, 1)
	_, rawEvent := readOne(t, b, edgeagent.StreamEvent, 1)
	if !before.Unsynced {
		t.Fatal("a reading of a clock that is not synced is not flagged")
	}
	loosely, ok, err := cursorOf(t, b, "cloud").Live(1).Next(t.Context(), edgeagent.Limit{Decoded: true})
	if err != nil || !ok || !loosely.Unsynced {
		t.Fatalf("%+v, %v, %v", loosely.BatchHeader, ok, err)
	}
	clock.set(0, false) // the time daemon sets the clock
	stamped(t, b, 2)

	version := b.MarksVersion("cloud")
	c := Correction{Run: b.RunID(), Add: 50*year + 300*time.Microsecond, Err: time.Millisecond}
	if err := b.Correct(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if b.MarksVersion("cloud") == version {
		t.Error("a correction does not change the marks")
	}
	run := b.RunID()
	for _, when := range []string{"at once", "after a reopen"} {
		const add = int64(50 * year)
		batch, got := readOne(t, b, telemetry, 1)
		if got != rawTime+add || batch.Unsynced || batch.MinTime != before.MinTime+add || batch.MaxTime != before.MaxTime+add {
			t.Errorf("%s: %+v with time %d, raw %d", when, batch.BatchHeader, got, rawTime)
		}
		if !bytes.Equal(before.Encoded, batch.Encoded) {
			t.Errorf("%s: the block itself was changed", when)
		}
		cut, err := batch.Cut(batch.Range())
		if err != nil || cut.BatchHeader != batch.BatchHeader {
			t.Errorf("%s: cut %+v, %v", when, cut.BatchHeader, err)
		}
		if cut, err := loosely.Cut(loosely.Range()); when == "at once" && (err != nil || cut.Unsynced || cut.BatchHeader != batch.BatchHeader) {
			t.Errorf("%s: cut out of what was decoded before: %+v, %v", when, cut.BatchHeader, err)
		}
		if batch, got := readOne(t, b, edgeagent.StreamEvent, 1); got != rawEvent+add || batch.Unsynced {
			t.Errorf("%s: event %+v with time %d, raw %d", when, batch.BatchHeader, got, rawEvent)
		}
		// What came after the clock was right is as it was.
		if _, got := readOne(t, b, telemetry, 2); time.Since(time.Unix(0, got)).Abs() > year {
			t.Errorf("%s: a later reading was moved to %s", when, time.Unix(0, got))
		}
		want := []block.Correction{{Run: run, Add: add, Err: int64(1300 * time.Microsecond)}}
		if diff := cmp.Diff(want, marksOf(t, b, "cloud", b.Epoch()).Clock); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
		closeBuffer(t, b)
		if r := readOnly(t, dir); len(r.Corrections()) != 1 {
			t.Errorf("%s: a reader of the stopped buffer knows %v", when, r.Corrections())
		} else if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		b = open(t, dir, o)
		register(t, b, "cloud")
	}
}

func TestOneCorrectionARun(t *testing.T) {
	b := open(t, t.TempDir(), options())
	c := Correction{Run: b.RunID(), Add: time.Hour}
	if err := b.Correct(t.Context(), Correction{Run: b.RunID() + 1, Add: time.Hour}); err == nil {
		t.Error("a run that nobody knows was corrected")
	}
	for range 2 {
		if err := b.Correct(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	c.Add = time.Minute
	if err := b.Correct(t.Context(), c); !errors.Is(err, ErrCorrected) {
		t.Errorf("a second correction: %v", err)
	}
	if got := b.Corrections(); len(got) != 1 || got[0].Add != time.Hour {
		t.Errorf("corrections %v", got)
	}
	closeBuffer(t, b)
	c.Run++
	if err := b.Correct(t.Context(), c); !errors.Is(err, ErrClosed) {
		t.Errorf("on a closed buffer: %v", err)
	}
}

func TestCorrectionsAreBounded(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	own := b.run
	for i := range maxCorrections + 10 {
		b.run = edgeagent.Run(i + 1) // as if each were a process of its own
		if err := b.Correct(t.Context(), Correction{Run: b.run, Add: time.Duration(i+1) * time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	b.run = own
	for range 2 {
		list := b.Corrections()
		if len(list) != maxCorrections || list[0].Run != 11 || list[maxCorrections-1].Run != maxCorrections+10 {
			t.Errorf("%d corrections, from %s", len(list), list[0].Run)
		}
		closeBuffer(t, b)
		b = open(t, dir, options())
	}
}

func TestCorrectionThatIsNotStoredDoesNotApply(t *testing.T) {
	fail := false
	o := options()
	o.faults = failCommits(&fail)
	b := open(t, t.TempDir(), o)
	fail = true
	if err := b.Correct(t.Context(), Correction{Run: b.RunID(), Add: time.Hour}); err == nil {
		t.Fatal("no error")
	}
	if len(b.Corrections()) != 0 {
		t.Error("a correction applies that is not durable")
	}
}

func TestAddTimeStaysInBounds(t *testing.T) {
	for _, test := range []struct{ t, add, want int64 }{
		{5, 7, 12},
		{5, -7, -2},
		{math.MaxInt64 - 1, 2, math.MaxInt64},
		{math.MinInt64 + 1, -2, math.MinInt64},
		{math.MaxInt64, math.MinInt64, -1},
	} {
		if got := addTime(test.t, test.add); got != test.want {
			t.Errorf("addTime(%d, %d) = %d", test.t, test.add, got)
		}
	}
}

// TestCorrectionLeavesRecordedTimes: a device with a clock of its own was right while
// the gateway's was not.
func TestCorrectionLeavesRecordedTimes(t *testing.T) {
	const year = 365 * 24 * time.Hour
	clock := newSkewed()
	clock.set(-50*year, true)
	o := options()
	o.Clock = clock
	b := open(t, t.TempDir(), o)
	at := edgeagent.Instant{Wall: clock.Wall().UnixNano(), Run: int64(clock.Run())}
	own := edgeagent.Instant{Wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano(), Run: at.Run}
	if _, err := b.Append(t.Context(), []edgeagent.Reading{
		{Series: series(0), Value: 1, At: at},
		{Series: series(1), Value: 2, At: own, Recorded: true},
		{Series: series(1), Value: 3, At: own, Recorded: true},
		{Series: series(0), Value: 4, At: at},
	}); err != nil {
		t.Fatal(err)
	}
	events := []edgeagent.Event{{Kind: "note", At: own, Recorded: true}, {Kind: "note", At: at}}
	if last, err := b.AppendEvents(t.Context(), edgeagent.StreamEvent, events); err != nil || last != 2 {
		t.Fatal(last, err)
	}
	if err := b.Correct(t.Context(), Correction{Run: b.RunID(), Add: 50 * year}); err != nil {
		t.Fatal(err)
	}
	for _, of := range []struct {
		stream   edgeagent.Stream
		seq      edgeagent.Seq
		recorded bool
	}{
		{telemetry, 1, false},
		{telemetry, 2, true},
		{telemetry, 3, true},
		{telemetry, 4, false},
		{edgeagent.StreamEvent, 1, true},
		{edgeagent.StreamEvent, 2, false},
	} {
		_, got := readOne(t, b, of.stream, of.seq)
		if moved := got != own.Wall; moved == of.recorded || !of.recorded && time.Duration(got-at.Wall) < 49*year {
			t.Errorf("%s %d has time %s", of.stream, of.seq, time.Unix(0, got).UTC())
		}
	}
}
