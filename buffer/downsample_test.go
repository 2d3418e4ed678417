package buffer

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

const rollups = edgeagent.StreamRollup

// seconds makes n readings of one series, one a second, whose value is the second.
func seconds(first, n int) []edgeagent.Reading {
	rs := make([]edgeagent.Reading, n)
	for i := range rs {
		rs[i] = edgeagent.Reading{
			Series: series(0), At: edgeagent.Instant{Wall: int64(first+i) * 1e9}, Value: float64(first + i), Recorded: true,
		}
	}
	return rs
}

// thinOldest rolls up the oldest readings, as want of room would.
func thinOldest(t testing.TB, b *Buffer) error {
	t.Helper()
	if b.Stats().PendingBytes > 0 {
		flush(t, b)
	}
	b.disk.Lock()
	defer b.disk.Unlock()
	list := b.candidates()
	for i := range list {
		list[i].confirmed = list[i].confirmed && list[i].stream == edgeagent.StreamTelemetry
	}
	act, i := decide(DownsampleOldest, list, shortage{budget: 1}, math.MaxInt64)
	if act != thin {
		t.Fatalf("decided %d", act)
	}
	return b.thin(list[i])
}

// readRollups returns what a destination is given of the rollups.
func readRollups(t testing.TB, b *Buffer, dest string, limit edgeagent.Limit) (out []edgeagent.Rollup, batches []edgeagent.Batch) {
	t.Helper()
	c, err := b.Cursor(dest, rollups)
	if err != nil {
		t.Fatal(err)
	}
	r := c.Backlog(math.MaxInt64, nil)
	for {
		batch, ok, err := r.Next(t.Context(), limit)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return out, batches
		}
		batches = append(batches, batch)
		if out, err = batch.Rollups(out); err != nil {
			t.Fatal(err)
		}
	}
}

// minutes is what seconds from first to end (not included) become.
func minutes(first, end int) (out []edgeagent.Rollup) {
	for first < end {
		to := min(end, first-first%60+60) - 1
		n := to - first + 1
		out = append(out, edgeagent.Rollup{
			Series: series(0), At: edgeagent.Instant{Wall: int64(first) * 1e9}, Bucket: time.Minute, Count: uint64(n),
			Sum: float64(n*(first+to)) / 2, Min: float64(first), Max: float64(to), First: float64(first), Last: float64(to),
		})
		first = to + 1
	}
	return out
}

var sameSeries = cmp.Comparer(func(a, b edgeagent.Series) bool { return a == b })

func TestThin(t *testing.T) {
	dir, o := t.TempDir(), options()
	b := open(t, dir, o)
	register(t, b, "cloud")
	if _, err := b.Append(t.Context(), seconds(30, 8000)); err != nil {
		t.Fatal(err)
	}
	_, err := b.Append(t.Context(), seconds(8030, 970))
	if err != nil {
		t.Fatal(err)
	}
	if err := thinOldest(t, b); err != nil {
		t.Fatal(err)
	}
	want := minutes(30, 9000)
	check := func(b *Buffer) {
		t.Helper()
		got, batches := readRollups(t, b, "cloud", edgeagent.Limit{})
		if diff := cmp.Diff(want, got, sameSeries); diff != "" {
			t.Errorf("rollups: %s", diff)
		}
		gap := Gap{
			Epoch: b.Epoch(), Stream: edgeagent.StreamTelemetry, Range: edgeagent.Range{From: 1, To: 8970}, Reason: RolledUp, AtMost: 8970,
			TFrom: 30e9, TTo: 8999e9, Rollup: edgeagent.Range{From: 1, To: edgeagent.Seq(len(want))},
		}
		if diff := cmp.Diff([]Gap{gap}, b.Gaps()); diff != "" {
			t.Errorf("gaps: %s", diff)
		}
		if len(batches) == 0 || batches[0].First != 1 {
			t.Fatalf("batches %+v", batches)
		}
		wantMark := []block.Gap{{
			From: 1, To: 8970, Reason: "rolled_up", AtMost: 8970, TFrom: 30e9, TTo: 8999e9, Rollup: []edgeagent.Seq{1, edgeagent.Seq(len(want))},
		}}
		if diff := cmp.Diff(wantMark, marksOf(t, b, "cloud", b.Epoch()).Streams[edgeagent.StreamTelemetry].Gaps); diff != "" {
			t.Errorf("marks: %s", diff)
		}
		if n := b.Stats().Unconfirmed["cloud"]; n != uint64(len(want)) {
			t.Errorf("%d unconfirmed", n)
		}
		v, err := b.Verify(t.Context())
		noProblems(t, "verify", v, err)
	}
	check(b)
	st := b.Stats().Streams
	if st[edgeagent.StreamTelemetry].RolledUp != 8970 || st[edgeagent.StreamTelemetry].Evicted != 0 {
		t.Errorf("stats %+v", st)
	}
	if h := b.Health(); h.Code != "buffer-evicting" || h.Level != edgeagent.Degraded {
		t.Errorf("health %+v", h)
	}
	closeBuffer(t, b)
	b = open(t, dir, o)
	register(t, b, "cloud")
	check(b)
	if run, ok := b.RunAt(b.Epoch(), rollups, 1); !ok || run == b.RunID() || run == 0 {
		t.Errorf("run %s, %v", run, ok)
	}
	// The stream goes on where it was.
	if _, err := b.Append(t.Context(), seconds(9000, 600)); err != nil {
		t.Fatal(err)
	}
	if err := thinOldest(t, b); err != nil {
		t.Fatal(err)
	}
	got, _ := readRollups(t, b, "cloud", edgeagent.Limit{})
	if diff := cmp.Diff(append(want, minutes(9000, 9600)...), got, sameSeries); diff != "" {
		t.Errorf("rollups of two: %s", diff)
	}
	if gaps := b.Gaps(); len(gaps) != 1 || gaps[0].To != 9570 || gaps[0].Rollup.To != edgeagent.Seq(len(got)) {
		t.Errorf("gaps do not merge: %+v", gaps)
	}
}

func TestRollupsAreCut(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	if _, err := b.Append(t.Context(), seconds(0, 8000)); err != nil {
		t.Fatal(err)
	}
	if err := thinOldest(t, b); err != nil {
		t.Fatal(err)
	}
	want := minutes(0, 8000)
	for _, limit := range []edgeagent.Limit{{Records: 1}, {Records: 7}, {Bytes: 300}, {Records: 50, Bytes: 500}, {Records: 7, Decoded: true}, {Decoded: true}} {
		got, batches := readRollups(t, b, "cloud", limit)
		if diff := cmp.Diff(want, got, sameSeries); diff != "" {
			t.Errorf("%+v: %s", limit, diff)
		}
		for _, x := range batches {
			if limit.Records > 0 && x.Count > limit.Records || limit.Bytes > 0 && len(x.Encoded) > limit.Bytes && x.Count > 1 {
				t.Errorf("%+v: batch of %d, %d bytes", limit, x.Count, len(x.Encoded))
			}
		}
	}
	_, batches := readRollups(t, b, "cloud", edgeagent.Limit{})
	cut, err := batches[0].Cut(edgeagent.Range{From: 5, To: 9})
	if err != nil {
		t.Fatal(err)
	}
	got, err := cut.Rollups(nil)
	if diff := cmp.Diff(want[4:9], got, sameSeries); diff != "" || err != nil {
		t.Errorf("cut: %v, %s", err, diff)
	}
	if _, err := cut.Readings(nil); err == nil {
		t.Error("rollups pass for readings")
	}
	c, err := b.Cursor("cloud", rollups)
	if err != nil {
		t.Fatal(err)
	}
	if from := c.LiveFrom(want[20].At.Wall); from != 21 {
		t.Errorf("live from %d, want 21", from)
	}
}

// Only what somebody waits for is rolled up, and who has all of it is not sent it.
func TestThinPartlyConfirmed(t *testing.T) {
	b := open(t, t.TempDir(), options())
	for _, name := range []string{"has-all", "has-some", "has-none-of-these"} {
		register(t, b, name)
	}
	const tel = edgeagent.StreamTelemetry
	if _, err := b.Append(t.Context(), seconds(0, 6000)); err != nil {
		t.Fatal(err)
	}
	ack := func(dest string, r ...edgeagent.Range) {
		t.Helper()
		if err := b.Ack(t.Context(), dest, b.Epoch(), tel, r); err != nil {
			t.Fatal(err)
		}
	}
	ack("has-all", edgeagent.Range{From: 1, To: 6000})
	ack("has-some", edgeagent.Range{From: 1, To: 1200}, edgeagent.Range{From: 1801, To: 3000})
	ack("has-none-of-these", edgeagent.Range{From: 1, To: 600}, edgeagent.Range{From: 1801, To: 2400})
	if err := thinOldest(t, b); err != nil {
		t.Fatal(err)
	}
	account(t, b, tel)
	var owed edgeagent.Ranges
	for _, g := range b.Gaps() {
		if g.Destination == "has-all" { // is told that the rollups are not for it
			if g.Stream != edgeagent.StreamRollup || g.AtMost != 0 || g.Reason != Expired {
				t.Errorf("gap %+v", g)
			}
			continue
		}
		if g.Reason != RolledUp || g.Rollup.From != 1 {
			t.Errorf("gap %+v", g)
		}
		owed.Add(g.Range)
	}
	if diff := cmp.Diff(edgeagent.Ranges{{From: 601, To: 1800}, {From: 2401, To: 6000}}, owed); diff != "" {
		t.Error(diff)
	}
	if got, _ := readRollups(t, b, "has-all", edgeagent.Limit{}); len(got) != 0 {
		t.Errorf("%d rollups for whom has the readings", len(got))
	}
	want := append(minutes(600, 1800), minutes(2400, 6000)...)
	for _, name := range []string{"has-some", "has-none-of-these"} {
		if got, _ := readRollups(t, b, name, edgeagent.Limit{}); cmp.Diff(want, got, sameSeries) != "" {
			t.Errorf("%s: %s", name, cmp.Diff(want, got, sameSeries))
		}
	}
}

// Series that are read seldom get longer buckets, or no rollups where none would be
// smaller than the readings.
func TestBucketsAreWorthIt(t *testing.T) {
	for _, tt := range []struct {
		every  time.Duration
		bucket time.Duration // 0: dropped
	}{{time.Second, time.Minute}, {30 * time.Second, 10 * time.Minute}, {3 * time.Minute, time.Hour}, {2 * time.Hour, 0}} {
		t.Run(tt.every.String(), func(t *testing.T) {
			b := open(t, t.TempDir(), options())
			register(t, b, "cloud")
			rs := noise(0, 50_000)
			for i := range rs {
				rs[i].Series, rs[i].At.Wall = series(0), int64(i)*int64(tt.every)
			}
			if _, err := b.Append(t.Context(), rs); err != nil {
				t.Fatal(err)
			}
			if err := thinOldest(t, b); err != nil {
				t.Fatal(err)
			}
			got, _ := readRollups(t, b, "cloud", edgeagent.Limit{})
			gaps := b.Gaps()
			if tt.bucket == 0 {
				if len(got) != 0 || len(gaps) != 1 || gaps[0].Reason != Evicted || gaps[0].AtMost != 50_000 {
					t.Errorf("%d rollups, gaps %+v", len(got), gaps)
				}
				return
			}
			if len(got) == 0 || got[0].Bucket != tt.bucket || gaps[0].Reason != RolledUp {
				t.Fatalf("%d rollups of %v, gaps %+v", len(got), got[0].Bucket, gaps)
			}
		})
	}
}

func TestNothingButBadReadings(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	rs := seconds(0, 3000)
	for i := range rs {
		rs[i].Value = math.NaN()
	}
	if _, err := b.Append(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	if err := thinOldest(t, b); err != nil {
		t.Fatal(err)
	}
	if gaps := b.Gaps(); len(gaps) != 1 || gaps[0].Reason != Evicted {
		t.Errorf("gaps %+v", gaps)
	}
}

// Clock segments do not share rollups, and rollups of times that one correction
// will mend bear the run that it is for.
func TestRollupsOfUnsyncedTimes(t *testing.T) {
	dir, o := t.TempDir(), options()
	clk := newSkewed()
	o.Clock = clk
	b := open(t, dir, o)
	register(t, b, "cloud")
	first := b.RunID()
	add := func(wall time.Duration, unsynced bool) {
		t.Helper()
		clk.set(wall, unsynced)
		rs := seconds(0, 1200)
		if unsynced {
			rs = taken(rs)
		}
		if _, err := b.Append(t.Context(), rs); err != nil {
			t.Fatal(err)
		}
	}
	add(0, true)
	add(time.Hour, true)
	add(time.Hour, false)
	closeBuffer(t, b)
	b = open(t, dir, o)
	register(t, b, "cloud")
	second := b.RunID()
	add(time.Hour, false)
	for b.Stats().Streams[edgeagent.StreamTelemetry].Stored > 0 {
		if err := thinOldest(t, b); err != nil {
			t.Fatal(err)
		}
	}
	want := minutes(0, 1200)
	got, batches := readRollups(t, b, "cloud", edgeagent.Limit{})
	var all []edgeagent.Rollup
	for range 4 {
		all = append(all, want...)
	}
	if diff := cmp.Diff(all, got, sameSeries); diff != "" {
		t.Error(diff)
	}
	type border struct {
		run      edgeagent.Run
		unsynced bool
		count    int
	}
	var borders []border
	for _, x := range batches {
		borders = append(borders, border{x.Run, x.Unsynced, x.Count})
		if run, ok := b.RunAt(x.Epoch, rollups, x.First); !ok || run != x.Run {
			t.Errorf("batch at %d bears run %s, the table says %s", x.First, x.Run, run)
		}
	}
	n := len(want)
	if diff := cmp.Diff([]border{{first, true, n}, {first, true, n}, {second, false, n}, {second, false, n}}, borders, cmp.AllowUnexported(border{})); diff != "" {
		t.Error(diff)
	}
	v, err := b.Verify(t.Context())
	noProblems(t, "verify", v, err)
}

// The records of an epoch that has ended have no numbers left for rollups.
func TestOldEpochsAreDropped(t *testing.T) {
	dir, o := t.TempDir(), options()
	o.MaxBytes = 4 << 20
	b := open(t, dir, o)
	fill(t, b, 0, 200_000)
	closeBuffer(t, b)
	o.Identify = func(dir string) (Identity, error) {
		id, err := here(dir)
		id.Machine = "m2"
		return id, err
	}
	b = open(t, dir, o)
	register(t, b, "cloud")
	fill(t, b, 200_000, 600_000)
	for _, g := range b.Gaps() {
		if old := g.Epoch != b.Epoch(); old != (g.Reason == Evicted) {
			t.Errorf("gap %+v", g)
		}
	}
}

// At whatever step an eviction is cut off, and whatever was done of that step: the
// next open, or the one after a second cut, has either the readings or their rollups.
func TestThinningIsCutOff(t *testing.T) {
	var ops int
	for cut := 0; cut == 0 || cut <= ops; cut++ {
		for again := range 4 {
			t.Run(fmt.Sprintf("%d and %d", cut, again), func(t *testing.T) { ops = max(ops, cutOffThinning(t, cut, again)) })
		}
	}
	if ops < 6 {
		t.Errorf("an eviction is %d steps: the test does not see them", ops)
	}
}

// cutOffThinning ends an eviction at its step cut, and the open after it at its step
// again; 0 is never. It returns how many steps the eviction took.
func cutOffThinning(t *testing.T, cut, again int) (ops int) {
	dir, o := t.TempDir(), options()
	crash := errors.New("cut off")
	at, n := -1, 0
	o.faults = func(segment.Op, string) error {
		if n++; at >= 0 && n >= at {
			return crash
		}
		return nil
	}
	b := open(t, dir, o)
	register(t, b, "cloud")
	if _, err := b.Append(t.Context(), seconds(0, 6000)); err != nil {
		t.Fatal(err)
	}
	flush(t, b)
	b.disk.Lock()
	b.seal(b.newest().streams[edgeagent.StreamTelemetry])
	b.disk.Unlock()
	if _, err := b.Append(t.Context(), seconds(6000, 600)); err != nil {
		t.Fatal(err)
	}
	flush(t, b)
	if n, at = 0, -1; cut > 0 {
		at = cut
	}
	err := thinOldest(t, b)
	if ops = n; err == nil && cut > 0 && cut <= ops {
		t.Fatal("nobody noticed")
	}
	b.crash()
	if n, at = 0, again; again > 0 {
		if b, _, err := Open(t.Context(), dir, o); err == nil {
			b.crash()
		}
	}
	at = -1
	b = open(t, dir, o)
	register(t, b, "cloud")
	account(t, b, edgeagent.StreamTelemetry)
	account(t, b, rollups)
	got, _ := readRollups(t, b, "cloud", edgeagent.Limit{})
	stored := readAll(t, b, b.Epoch())
	switch len(stored) {
	case 6600:
		if len(got) != 0 || len(b.Gaps()) != 0 {
			t.Errorf("readings and %d rollups, gaps %+v", len(got), b.Gaps())
		}
	case 600:
		if diff := cmp.Diff(minutes(0, 6000), got, sameSeries); diff != "" {
			t.Error(diff)
		}
		if g := b.Gaps(); len(g) != 1 || g[0].Reason != RolledUp || g[0].To != 6000 || g[0].Rollup.To != 100 {
			t.Errorf("gaps %+v", g)
		}
	default:
		t.Errorf("%d readings are left", len(stored))
	}
	if cut == 0 && len(stored) != 600 {
		t.Error("nothing was rolled up")
	}
	// It goes on from there.
	if len(stored) == 6600 {
		if err := thinOldest(t, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := thinOldest(t, b); err != nil {
		t.Fatal(err)
	}
	got, _ = readRollups(t, b, "cloud", edgeagent.Limit{})
	if diff := cmp.Diff(minutes(0, 6600), got, sameSeries); diff != "" {
		t.Error(diff)
	}
	v, err := b.Verify(t.Context())
	noProblems(t, "verify", v, err)
	return ops
}

// One step of an eviction fails, and the process goes on, or dies then: nothing is lost
// or there twice, and the next attempt succeeds.
func TestThinningFailsOnce(t *testing.T) {
	for step := 1; ; step++ {
		for _, die := range []bool{false, true} {
			steps := 0
			t.Run(fmt.Sprintf("step %d, dies %v", step, die), func(t *testing.T) { steps = failThinning(t, step, die) })
			if steps < step {
				if step < 6 {
					t.Errorf("an eviction is %d steps: the test does not see them", steps)
				}
				return
			}
		}
	}
}

func failThinning(t *testing.T, step int, die bool) (steps int) {
	dir, o := t.TempDir(), options()
	steps = math.MinInt32
	o.faults = func(segment.Op, string) error {
		if steps++; steps == step {
			return errors.New("once")
		}
		return nil
	}
	b := open(t, dir, o)
	register(t, b, "cloud")
	for i := range 3 { // a source for each attempt, and rollups to which others are appended
		if _, err := b.Append(t.Context(), seconds(6000*i, 6000)); err != nil {
			t.Fatal(err)
		}
		flush(t, b)
		b.disk.Lock()
		b.seal(b.newest().streams[edgeagent.StreamTelemetry])
		b.disk.Unlock()
	}
	if err := thinOldest(t, b); err != nil {
		t.Fatal(err)
	}
	steps = 0
	err := thinOldest(t, b)
	if (err != nil) != (steps >= step) {
		t.Fatalf("after %d steps: %v", steps, err)
	}
	took := steps
	steps = math.MinInt32
	if die {
		b.crash()
		b = open(t, dir, o)
		register(t, b, "cloud")
	}
	check := func() {
		t.Helper()
		account(t, b, edgeagent.StreamTelemetry)
		account(t, b, rollups)
		got, _ := readRollups(t, b, "cloud", edgeagent.Limit{})
		stored := readAll(t, b, b.Epoch())
		if diff := cmp.Diff(minutes(0, 18_000-len(stored)), got, sameSeries); diff != "" {
			t.Errorf("%d readings, and these rollups: %s", len(stored), diff)
		}
		v, err := b.Verify(t.Context())
		noProblems(t, "verify", v, err)
	}
	check()
	for b.Stats().Streams[edgeagent.StreamTelemetry].Stored > 0 {
		if err := thinOldest(t, b); err != nil {
			t.Fatal(err)
		}
	}
	check()
	if used, counts := diskBytes(t, dir), b.usedBytes(); used > counts {
		t.Errorf("%d bytes on the disk, %d counted", used, counts)
	}
	b.crash()
	b = open(t, dir, o)
	register(t, b, "cloud")
	check()
	return took
}

// The ledger of an eviction is written, but the disk says that it is not. The next
// attempt makes other rollups, because something was confirmed meanwhile, and is cut
// off. Whichever of the two the disk holds then, it holds all of it.
func TestThinningIsTakenBack(t *testing.T) {
	for cut := 1; ; cut++ {
		steps := 0
		t.Run(strconv.Itoa(cut), func(t *testing.T) { steps = takeBackThinning(t, cut) })
		if steps < cut {
			return
		}
	}
}

func takeBackThinning(t *testing.T, cut int) (steps int) {
	dir, o := t.TempDir(), options()
	clk := newSkewed()
	o.Clock = clk
	ledger, failed := 0, false
	o.faults = func(op segment.Op, path string) error {
		steps++
		state := op == segment.OpCommitted && filepath.Base(path) == stateFile
		if state {
			ledger--
		}
		if state && ledger == 0 || failed && steps >= cut {
			return errors.New("no")
		}
		return nil
	}
	b := open(t, dir, o)
	register(t, b, "cloud")
	for i := range 2 { // a step of the clock between them: two blocks of rollups
		clk.set(time.Duration(i)*time.Hour, false)
		if _, err := b.Append(t.Context(), seconds(3000*i, 3000)); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, b)
	ledger = 2 // after the intent
	if err := thinOldest(t, b); err == nil {
		t.Fatal("nobody noticed")
	}
	if err := b.ack("cloud", b.Epoch(), edgeagent.StreamTelemetry, []edgeagent.Range{{From: 1, To: 3000}}); err != nil {
		t.Fatal(err)
	}
	steps, failed = 0, true
	err := thinOldest(t, b)
	took := steps
	if (err == nil) != (took < cut) {
		t.Fatalf("after %d steps: %v", took, err)
	}
	b.crash()
	failed = false
	b = open(t, dir, o)
	register(t, b, "cloud")
	account(t, b, edgeagent.StreamTelemetry)
	account(t, b, rollups)
	got, _ := readRollups(t, b, "cloud", edgeagent.Limit{})
	stored := len(readAll(t, b, b.Epoch()))
	all, rest := minutes(0, 6000), minutes(3000, 6000)
	switch {
	case stored == 6000 && len(got) == 0:
	case stored == 0 && cmp.Equal(all, got, sameSeries): // of the first attempt
	case stored == 0 && cmp.Equal(rest, got, sameSeries):
	default:
		t.Errorf("%d readings and %d rollups, gaps %+v", stored, len(got), b.Gaps())
	}
	v, err := b.Verify(t.Context())
	noProblems(t, "verify", v, err)
	return took
}

// A source whose file comes back after it was unlinked, because the directory was not
// synced, is removed again.
func TestSourceComesBack(t *testing.T) {
	dir, o := t.TempDir(), options()
	b := open(t, dir, o)
	register(t, b, "cloud")
	if _, err := b.Append(t.Context(), seconds(0, 6000)); err != nil {
		t.Fatal(err)
	}
	flush(t, b)
	path := b.newest().streams[edgeagent.StreamTelemetry].segs[0].path
	copied := path + ".copy"
	if err := copyFile(path, copied); err != nil {
		t.Fatal(err)
	}
	if err := thinOldest(t, b); err != nil {
		t.Fatal(err)
	}
	b.crash()
	if err := segment.Rename(copied, path, nil); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir, o)
	register(t, b, "cloud")
	if got := readAll(t, b, b.Epoch()); len(got) != 0 {
		t.Errorf("%d readings came back", len(got))
	}
	got, _ := readRollups(t, b, "cloud", edgeagent.Limit{})
	if diff := cmp.Diff(minutes(0, 6000), got, sameSeries); diff != "" {
		t.Error(diff)
	}
	account(t, b, edgeagent.StreamTelemetry)
}

// A buffer that is full for long becomes rollups, and then loses the oldest of them.
func TestDownsampleOldestKeepsTheBudget(t *testing.T) {
	t.Parallel()
	dir, o := t.TempDir(), options()
	o.MaxBytes = 4 << 20
	b := open(t, dir, o)
	register(t, b, "cloud")
	const total = 1_000_000
	fill(t, b, 0, total)
	stored, lost, _ := account(t, b, edgeagent.StreamTelemetry)
	if stored+lost != total {
		t.Errorf("%d stored, %d lost of %d", stored, lost, total)
	}
	got, _ := readRollups(t, b, "cloud", edgeagent.Limit{})
	var in uint64
	for _, r := range got {
		in += r.Count
	}
	if in != lost || lost == 0 {
		t.Errorf("rollups of %d readings, %d were given up", in, lost)
	}
	b.crash()
	b, report := openReport(t, dir, o)
	if len(report.Gaps) > 0 {
		t.Errorf("the next open found %+v", report.Gaps)
	}
	account(t, b, edgeagent.StreamTelemetry)
	account(t, b, rollups)
}
