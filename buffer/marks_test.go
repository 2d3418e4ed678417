package buffer

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

func marksOf(t testing.TB, b *Buffer, dest string, e edgeagent.Epoch) block.Marks {
	t.Helper()
	m, err := b.Marks(dest, e)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// squeeze makes the buffer give up something, if it has anything.
func squeeze(b *Buffer) error {
	b.disk.Lock()
	defer b.disk.Unlock()
	if err := b.checkpoint(context.Background(), true); err != nil {
		return err
	}
	if err := b.makeRoom(int64(b.o.MaxBytes) - reserveBytes - b.thinReserve() - b.usedBytes() + 1); !errors.Is(err, ErrFull) {
		return err
	}
	return nil
}

func mustSqueeze(t testing.TB, b *Buffer) {
	t.Helper()
	if err := squeeze(b); err != nil {
		t.Fatal(err)
	}
}

func TestMarksOfAnEmptyBuffer(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	m := marksOf(t, b, "cloud", b.Epoch())
	want := block.Marks{Epoch: b.Epoch(), Run: b.RunID(), Streams: map[edgeagent.Stream]block.MarkStream{}}
	for _, s := range edgeagent.Streams() {
		want.Streams[s] = block.MarkStream{Low: 1, Next: 1}
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
	for name, f := range map[string]func() error{
		"destination": func() error { _, err := b.Marks("nobody", b.Epoch()); return err },
		"epoch":       func() error { _, err := b.MarksBlocks("cloud", 1, 0); return err },
	} {
		if f() == nil {
			t.Errorf("marks of an unknown %s", name)
		}
	}
}

func TestMarksNameWhatWasEvicted(t *testing.T) {
	o := options()
	o.MaxBytes, o.Policy = minMaxBytes, DropOldest
	b := open(t, t.TempDir(), o)
	register(t, b, "cloud")
	mustAppend(t, b, 0, 100)
	before := b.MarksVersion("cloud")
	mustAppend(t, b, 100, 100)
	if b.MarksVersion("cloud") != before {
		t.Error("an append alone changes the marks")
	}
	mustSqueeze(t, b)
	if b.MarksVersion("cloud") == before {
		t.Error("an eviction does not change the marks")
	}
	ms := marksOf(t, b, "cloud", b.Epoch()).Streams[telemetry]
	if len(ms.Gaps) != 1 || ms.Gaps[0].From != 1 || ms.Gaps[0].Reason != string(Evicted) || ms.Gaps[0].AtMost == 0 {
		t.Errorf("marks %+v", ms)
	}
}

func TestMarksNameEndAndSuccessorOfAnOldEpoch(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	mustAppend(t, b, 0, 70)
	old := b.Epoch()
	closeBuffer(t, b)
	o := options()
	o.Identify = elsewhere(func(id *Identity) { id.Machine = "m2" })
	b = open(t, dir, o)
	register(t, b, "cloud")
	m := marksOf(t, b, "cloud", old)
	if m.Successor != b.Epoch() || m.Streams[telemetry].Next != 71 {
		t.Errorf("marks of the old epoch: %+v", m)
	}
	if m := marksOf(t, b, "cloud", b.Epoch()); m.Prev != old || m.Successor != 0 {
		t.Errorf("marks of the new epoch: %+v", m)
	}
}

func TestMarksBlocksSpreadTheGaps(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	mustAppend(t, b, 0, 3000)
	var gaps []Gap
	for i := range 900 {
		r := edgeagent.Range{From: edgeagent.Seq(3*i + 1), To: edgeagent.Seq(3*i + 2)}
		gaps = append(gaps, Gap{Epoch: b.Epoch(), Stream: telemetry, Range: r, Reason: DeadLettered, AtMost: 2, TFrom: int64(i) << 40})
	}
	b.disk.Lock()
	err := b.disown(b.dests["cloud"], b.Epoch(), telemetry, gaps)
	b.disk.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	want := marksOf(t, b, "cloud", b.Epoch())
	for _, limit := range []int{0, 4096, 700} {
		blocks, err := b.MarksBlocks("cloud", b.Epoch(), limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []block.Gap
		var dec block.Decoder
		for _, blk := range blocks {
			m, _, err := dec.Marks(blk)
			if err != nil || limit > 0 && len(blk) > limit || len(blk) > block.MaxStored {
				t.Fatalf("block of %d bytes, limit %d: %v", len(blk), limit, err)
			}
			if s := m.Streams[telemetry]; s.Next != 3001 || s.Low != 1 {
				t.Fatalf("low %d, next %d", s.Low, s.Next)
			}
			got = append(got, m.Streams[telemetry].Gaps...)
		}
		if diff := cmp.Diff(want.Streams[telemetry].Gaps, got); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
	if _, err := b.MarksBlocks("cloud", b.Epoch(), 100); err == nil {
		t.Error("marks fit into 100 bytes")
	}
}

func TestOwnLedgerIsBounded(t *testing.T) {
	var o own
	for i := range 3 * maxLedger {
		o = o.with(Gap{Range: edgeagent.Range{From: edgeagent.Seq(2*i + 1), To: edgeagent.Seq(2*i + 1)}, Reason: DeadLettered, AtMost: 1})
	}
	if len(o.gaps) != maxLedger || o.low != 2*2*maxLedger {
		t.Errorf("%d gaps, low %d", len(o.gaps), o.low)
	}
	if n := o.ranges().Count(); n != uint64(o.low-1)+maxLedger {
		t.Errorf("%d numbers are covered", n)
	}
}

func TestReleasedDestinationHoldsNothingAndComesBack(t *testing.T) {
	dir := t.TempDir()
	o := options()
	o.MaxBytes = minMaxBytes
	b := open(t, dir, o)
	register(t, b, "cloud")
	register(t, b, "spare")
	mustAppend(t, b, 0, 100)
	all := []edgeagent.Range{{From: 1, To: 100}}
	if err := b.Ack(t.Context(), "cloud", b.Epoch(), telemetry, all); err != nil {
		t.Fatal(err)
	}
	closeBuffer(t, b)

	// Nobody has released it: it still holds.
	b = open(t, dir, o)
	register(t, b, "cloud")
	if s := b.Survey(); s.Segments[0].State == SegmentConfirmed {
		t.Error("a destination that is not registered yet holds nothing")
	}
	want := []DestinationInfo{{"cloud", true, true}, {"spare", false, true}}
	if diff := cmp.Diff(want, b.Destinations()); diff != "" {
		t.Error(diff)
	}
	if err := b.Release("spare"); err != nil {
		t.Fatal(err)
	}
	if err := b.Release("nobody"); err == nil {
		t.Error("a destination that nobody knows was released")
	}
	mustSqueeze(t, b)
	if gaps := b.Gaps(); len(gaps) > 0 {
		t.Errorf("a released destination makes gaps: %+v", gaps)
	}
	mustAppend(t, b, 100, 10)
	closeBuffer(t, b)

	b = open(t, dir, o)
	if err := b.Ack(t.Context(), "spare", b.Epoch(), telemetry, all); err == nil {
		t.Error("a released destination may confirm")
	}
	register(t, b, "spare")
	ms := marksOf(t, b, "spare", b.Epoch()).Streams[telemetry]
	if len(ms.Gaps) != 1 || ms.Gaps[0].Reason != string(Expired) || ms.Gaps[0].From != 1 || ms.Gaps[0].To != 100 {
		t.Errorf("marks %+v", ms)
	}
	if n := cursorOf(t, b, "spare").Unconfirmed(); n != 10 {
		t.Errorf("%d unconfirmed", n)
	}
	// And it is so after the next open.
	closeBuffer(t, b)
	b = open(t, dir, o)
	register(t, b, "spare")
	if diff := cmp.Diff(ms, marksOf(t, b, "spare", b.Epoch()).Streams[telemetry]); diff != "" {
		t.Error(diff)
	}
}

func TestStartNowIsBelowLow(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	mustAppend(t, b, 0, 50)
	if err := b.Register(Destination{Name: "new", Start: StartNow}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if ms := marksOf(t, b, "new", b.Epoch()).Streams[telemetry]; ms.Low != 51 || ms.Next != 51 {
			t.Errorf("marks %+v", ms)
		}
		closeBuffer(t, b)
		b = open(t, dir, options())
		register(t, b, "new")
	}
}

// marksModel holds marks against what destinations hold and can read.
type marksModel struct {
	b    *Buffer
	dir  string
	o    Options
	boot int
	next int // value of the next reading
	// held is what each destination has confirmed at any time, its own loss or
	// the buffer's loss of a cursor notwithstanding.
	held map[string]map[edgeagent.Epoch]*edgeagent.Ranges
}

// TestMarksModel: for every destination, whatever happens, held, readable, gaps
// and below low are together all numbers below next, and nothing in a gap or below
// low can be read.
func TestMarksModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "marks")
		if err != nil {
			rt.Fatal(err)
		}
		m := &marksModel{dir: dir, o: options(), held: map[string]map[edgeagent.Epoch]*edgeagent.Ranges{}}
		m.o.BlockSize, m.o.MaxBytes = 64, minMaxBytes
		m.o.Identify = func(dir string) (Identity, error) {
			id, err := here(dir)
			id.Boot, id.Machine = strconv.Itoa(m.boot), strconv.Itoa(m.boot/3)
			return id, err
		}
		m.open(rt)
		defer func() { m.b.crash() }()
		rt.Repeat(map[string]func(*rapid.T){
			"append":   m.append,
			"ack":      m.ack,
			"register": m.register,
			"release":  m.release,
			"squeeze":  m.squeeze,
			"refuse":   m.refuse,
			"replay":   m.replay,
			"reappend": m.reappend,
			"reopen":   m.reopen,
			"kill":     m.kill,
			"powercut": m.powerCut,
			"":         m.check,
		})
	})
}

func (m *marksModel) open(t *rapid.T) {
	b, _, err := Open(context.Background(), m.dir, m.o)
	if err != nil {
		t.Fatal(err)
	}
	m.b = b
	for name := range m.held {
		if err := b.Register(Destination{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *marksModel) append(t *rapid.T) {
	n := rapid.IntRange(1, 300).Draw(t, "n")
	if _, err := m.b.Append(context.Background(), readings(m.next, n)); err != nil {
		t.Fatal(err)
	}
	m.next += n
}

func (m *marksModel) dest(t *rapid.T) string {
	if len(m.held) == 0 {
		t.Skip("no destination")
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(m.held))).Draw(t, "destination")
}

func (m *marksModel) holds(name string, e edgeagent.Epoch) *edgeagent.Ranges {
	if m.held[name][e] == nil {
		m.held[name][e] = &edgeagent.Ranges{}
	}
	return m.held[name][e]
}

// some draws a range of numbers that were given.
func (m *marksModel) some(t *rapid.T) (edgeagent.Epoch, edgeagent.Range) {
	ep := rapid.SampledFrom(m.b.epochs).Draw(t, "epoch")
	stored := m.stored(t, ep.id)
	if len(stored) == 0 {
		t.Skip("nothing is stored")
	}
	r := rapid.SampledFrom(stored).Draw(t, "range")
	from := r.From + edgeagent.Seq(rapid.IntRange(0, int(r.Len()-1)).Draw(t, "from"))
	return ep.id, edgeagent.Range{From: from, To: from + edgeagent.Seq(rapid.IntRange(0, int(r.To-from)).Draw(t, "len"))}
}

func (m *marksModel) stored(t *rapid.T, e edgeagent.Epoch) edgeagent.Ranges {
	return m.walk(t, &Reader{b: m.b, stream: telemetry, parts: []part{{epoch: e, pos: 1}}})[e]
}

// walk reads to the end and returns the numbers that came.
func (m *marksModel) walk(t *rapid.T, r *Reader) map[edgeagent.Epoch]edgeagent.Ranges {
	out := map[edgeagent.Epoch]edgeagent.Ranges{}
	for {
		batch, ok, err := r.Next(context.Background(), edgeagent.Limit{})
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return out
		}
		rs := out[batch.Epoch]
		rs.Add(batch.Range())
		out[batch.Epoch] = rs
	}
}

func (m *marksModel) ack(t *rapid.T) {
	name := m.dest(t)
	e, r := m.some(t)
	if err := m.b.Ack(context.Background(), name, e, telemetry, []edgeagent.Range{r}); err != nil {
		t.Fatal(err)
	}
	m.holds(name, e).Add(r)
}

// refuse gives records up for one destination.
func (m *marksModel) refuse(t *rapid.T) {
	name := m.dest(t)
	e, r := m.some(t)
	if err := m.b.DeadLetter(context.Background(), name, e, telemetry, r, "refused"); err != nil {
		t.Fatal(err)
	}
}

// replay asks for any numbers; what comes is what is stored of them.
func (m *marksModel) replay(t *rapid.T) {
	name := m.dest(t)
	ep := rapid.SampledFrom(m.b.epochs).Draw(t, "epoch")
	r := edgeagent.Range{From: edgeagent.Seq(rapid.IntRange(1, 2000).Draw(t, "from"))}
	r.To = r.From + edgeagent.Seq(rapid.IntRange(0, 2000).Draw(t, "len"))
	reader, err := m.b.Replay(context.Background(), name, ep.id, telemetry, []edgeagent.Range{r})
	if err != nil {
		t.Fatal(err)
	}
	got := m.walk(t, reader)[ep.id]
	want := m.stored(t, ep.id)
	refused := m.b.dests[name].place(ep.id, telemetry).own.ranges()
	for _, lost := range ep.streams[telemetry].lostRanges() {
		refused.Add(lost)
	}
	for s := r.From; s <= r.To; s++ {
		if has := want.Contains(s) && !refused.Contains(s); has != got.Contains(s) {
			t.Fatalf("%d is replayed: %v, want %v", s, !has, has)
		}
	}
}

func (m *marksModel) reappend(t *rapid.T) {
	name := m.dest(t)
	e, r := m.some(t)
	if e == m.b.Epoch() {
		t.Skip("the newest epoch")
	}
	if _, err := m.b.Reappend(context.Background(), name, e, telemetry, []edgeagent.Range{r}); err != nil {
		t.Fatal(err)
	}
}

func (m *marksModel) register(t *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
	if m.held[name] != nil {
		t.Skip("is registered")
	}
	if err := m.b.Register(Destination{Name: name}); err != nil {
		t.Fatal(err)
	}
	m.held[name] = map[edgeagent.Epoch]*edgeagent.Ranges{}
}

// release forgets what the model knows of a destination: a receiver of that name
// that comes later and holds nothing must be told everything.
func (m *marksModel) release(t *rapid.T) {
	name := m.dest(t)
	if err := m.b.Release(name); err != nil {
		t.Fatal(err)
	}
	back := rapid.Bool().Draw(t, "comes back at once")
	if !back {
		if err := squeeze(m.b); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.b.Register(Destination{Name: name}); err != nil {
		t.Fatal(err)
	}
}

func (m *marksModel) squeeze(t *rapid.T) {
	if err := squeeze(m.b); err != nil {
		t.Fatal(err)
	}
}

func (m *marksModel) reopen(t *rapid.T) {
	if err := m.b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	m.open(t)
}

func (m *marksModel) kill(t *rapid.T) {
	m.b.crash()
	m.open(t)
}

// powerCut begins a new epoch every third time.
func (m *marksModel) powerCut(t *rapid.T) {
	m.b.crash()
	m.boot++
	m.open(t)
}

func (m *marksModel) check(t *rapid.T) {
	for name := range m.held {
		for _, s := range edgeagent.Streams() {
			m.checkStream(t, name, s)
		}
	}
}

func (m *marksModel) checkStream(t *rapid.T, name string, s edgeagent.Stream) {
	c, err := m.b.Cursor(name, s)
	if err != nil {
		t.Fatal(err)
	}
	_, head := c.Head()
	readable := m.walk(t, c.Backlog(head, nil))
	for _, e := range m.b.Epochs() {
		marks, err := m.b.Marks(name, e)
		if err != nil {
			t.Fatal(err)
		}
		ms := marks.Streams[s]
		all := edgeagent.Ranges{}
		if ms.Low > 1 {
			all.Add(edgeagent.Range{From: 1, To: ms.Low - 1})
		}
		for _, g := range ms.Gaps {
			all.Add(edgeagent.Range{From: g.From, To: g.To})
			if g.AtMost > uint64(g.To-g.From)+1 {
				t.Fatalf("gap %+v", g)
			}
		}
		for _, r := range readable[e] {
			if n := all.Add(r); n != r.Len() {
				t.Fatalf("%s can read %v of %s %s, of which marks give up some: %+v", name, r, e, s, ms)
			}
		}
		if s == telemetry {
			for _, r := range *m.holds(name, e) {
				all.Add(r)
			}
		}
		if missing := all.Missing(edgeagent.Range{From: 1, To: ms.Next - 1}); len(missing) > 0 {
			t.Fatalf("%s: nothing says why it does not get %v of %s %s; marks %+v", name, missing, e, s, ms)
		}
		if n := len(all); n > 0 && all[n-1].To >= ms.Next {
			t.Fatalf("%s: numbers of %s up to %d, next %d", name, s, all[n-1].To, ms.Next)
		}
	}
}
