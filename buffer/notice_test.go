package buffer

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

func gapOf(s edgeagent.Stream, from, to edgeagent.Seq, reason Reason) Gap {
	r := edgeagent.Range{From: from, To: to}
	return Gap{Epoch: 1, Stream: s, Range: r, Reason: reason, AtMost: r.Len()}
}

func TestNoticesAreGathered(t *testing.T) {
	var n notices
	old := gapOf(telemetry, 1, 10, Evicted)
	fresh := gapOf(telemetry, 11, 12, PowerCut)
	n.learn([]Gap{old, fresh}, []Gap{fresh})
	grown := old // evicted goes on behind the cut
	ledger := []Gap{grown, fresh, gapOf(telemetry, 13, 20, Evicted), gapOf(edgeagent.StreamAlarm, 1, 1, Damaged)}
	n.collect(ledger)
	n.collect(ledger) // nothing new
	type told struct {
		key      noticeKey
		from, to edgeagent.Seq
		atMost   uint64
	}
	list := func(xs []notice) (out []told) {
		for _, x := range xs {
			out = append(out, told{x.key, x.extent.From, x.extent.To, x.atMost})
		}
		return out
	}
	opts := cmp.AllowUnexported(told{}, noticeKey{})
	alarm := told{noticeKey{edgeagent.StreamAlarm, Damaged, ""}, 1, 1, 1}
	cut := told{noticeKey{telemetry, PowerCut, ""}, 11, 12, 2}
	if diff := cmp.Diff([]told{alarm, cut}, list(n.due(0)), opts); diff != "" {
		t.Error(diff)
	}
	n.collect(append(ledger, gapOf(telemetry, 21, 30, Evicted)))
	if got := n.due(noticeEvery - 1); len(got) > 0 {
		t.Errorf("too early: %+v", got)
	}
	both := told{noticeKey{telemetry, Evicted, ""}, 13, 30, 18}
	if diff := cmp.Diff([]told{both}, list(n.due(noticeEvery)), opts); diff != "" {
		t.Error(diff)
	}
}

func TestNoticesOfAnEndlessLossGetRare(t *testing.T) {
	var n notices
	var at []time.Duration
	var gaps []Gap
	var lost, told uint64
	for now := time.Duration(0); now < 24*time.Hour; now += time.Second {
		if now < 20*time.Hour {
			gaps = addGap(gaps, gapOf(telemetry, edgeagent.Seq(now/time.Second)+1, edgeagent.Seq(now/time.Second)+1, Evicted))
			lost++
		}
		n.collect(gaps)
		for _, x := range n.due(now) {
			at, told = append(at, now), told+x.atMost
		}
	}
	if len(at) < 20 || len(at) > 35 {
		t.Errorf("%d notices in 20 hours of loss", len(at))
	}
	if told != lost {
		t.Errorf("%d of %d lost records were told of", told, lost)
	}
	// After a quiet time the next is told at once.
	n.collect(addGap(gaps, gapOf(telemetry, 1<<30, 1<<30, Evicted)))
	if len(n.due(24*time.Hour)) != 1 {
		t.Error("after a quiet time a notice waits")
	}
	n.collect(addGap(gaps, gapOf(telemetry, 1<<40, 1<<40, Evicted)))
	if len(n.due(24*time.Hour+noticeEvery)) != 1 {
		t.Error("the pause did not begin anew")
	}
}

func TestNoticeThatCannotBeToldComesAgain(t *testing.T) {
	var n notices
	n.collect([]Gap{gapOf(telemetry, 1, 5, Evicted)})
	x := n.due(0)[0]
	n.collect([]Gap{gapOf(telemetry, 1, 9, Evicted)})
	n.putBack(x)
	got := n.due(time.Hour)
	if len(got) != 1 || got[0].atMost != 9 || got[0].extent.From != 1 || got[0].extent.To != 9 {
		t.Errorf("%+v", got)
	}
}

// notices reads the events of kind gap.
func readNotices(t testing.TB, b *Buffer) (out []edgeagent.Event) {
	t.Helper()
	for from := edgeagent.Seq(1); ; {
		batch, ok, err := b.Read(t.Context(), b.Epoch(), edgeagent.StreamEvent, from, edgeagent.Limit{})
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return out
		}
		evs, err := batch.Events(nil)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, evs...)
		from = batch.Last() + 1
	}
}

func TestGapsAreToldAsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.MaxBytes, o.Policy = minMaxBytes, DropOldest
		b := open(t, t.TempDir(), o)
		register(t, b, "cloud")
		mustAppend(t, b, 0, 100)
		if err := b.tellGaps(t.Context()); err != nil || len(readNotices(t, b)) > 0 {
			t.Fatalf("a notice of nothing, %v", err)
		}
		if err := b.DeadLetter(t.Context(), "cloud", b.Epoch(), telemetry, edgeagent.Range{From: 3, To: 3}, "no"); err != nil {
			t.Fatal(err)
		}
		mustSqueeze(t, b)
		for range 60 {
			if err := b.tellGaps(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		got := readNotices(t, b)
		var texts []string
		for _, ev := range got {
			texts = append(texts, ev.Text)
			if ev.Kind != KindGap || ev.Attrs["epoch"] != b.Epoch().String() || ev.Attrs["stream"] != "telemetry" {
				t.Errorf("notice %+v", ev)
			}
		}
		slices.Sort(texts)
		want := []string{
			"telemetry, at most 1 record: refused by the destination and put aside (cloud)",
			"telemetry, at most 99 records: gave way to newer ones before delivery",
		}
		if diff := cmp.Diff(want, texts); diff != "" {
			t.Error(diff)
		}
	})
}

func TestGapsAreWatchedUntilTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.MaxBytes, o.Policy = minMaxBytes, DropOldest
		b := open(t, t.TempDir(), o)
		register(t, b, "cloud")
		mustAppend(t, b, 0, 100)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			b.watchGaps(ctx)
			close(done)
		}()
		synctest.Wait()
		mustSqueeze(t, b)
		time.Sleep(noticeEvery)
		synctest.Wait()
		if got := readNotices(t, b); len(got) != 1 || got[0].Attrs["reason"] != string(Evicted) {
			t.Errorf("notices %+v", got)
		}
		cancel()
		<-done
	})
}

func TestOldGapsAreNotToldAgain(t *testing.T) {
	dir := t.TempDir()
	o := options()
	o.MaxBytes, o.Policy = minMaxBytes, DropOldest
	b := open(t, dir, o)
	register(t, b, "cloud")
	mustAppend(t, b, 0, 100)
	if err := b.DeadLetter(t.Context(), "cloud", b.Epoch(), telemetry, edgeagent.Range{From: 3, To: 3}, "no"); err != nil {
		t.Fatal(err)
	}
	mustSqueeze(t, b)
	closeBuffer(t, b)
	b = open(t, dir, o)
	register(t, b, "cloud")
	if err := b.tellGaps(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := readNotices(t, b); len(got) > 0 {
		t.Errorf("told again: %+v", got)
	}
}

// A notice may itself push out records, also of the events: that must not go on.
func TestNoticesDoNotFeedThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.MaxBytes, o.Policy = minMaxBytes, DropOldest
		b := open(t, t.TempDir(), o)
		register(t, b, "cloud")
		mustAppend(t, b, 0, 100)
		told := 0
		for range 2 * 3600 {
			before := b.Stats().Streams[edgeagent.StreamEvent].Appended
			if err := b.tellGaps(t.Context()); err != nil {
				t.Fatal(err)
			}
			if b.Stats().Streams[edgeagent.StreamEvent].Appended > before || told == 0 {
				told++
				mustSqueeze(t, b) // the worst: each notice costs something
			}
			time.Sleep(time.Second)
		}
		if told > 15 {
			t.Errorf("%d notices in two hours, each because of the one before", told)
		}
	})
}
