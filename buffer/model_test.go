package buffer

import (
	"context"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
)

// model is what the buffer must be like: every record by epoch and number, and
// what each destination has confirmed.
type model struct {
	b     *Buffer
	dir   string
	o     Options
	boot  int
	epoch edgeagent.Epoch

	records   map[edgeagent.Epoch]map[edgeagent.Seq]float64
	runs      map[edgeagent.Seq]edgeagent.Run // of the newest epoch
	next      edgeagent.Seq
	nextValue int
	confirmed map[string]map[edgeagent.Epoch]*edgeagent.Ranges
}

// TestModel runs random lives of a buffer against the model.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "model")
		if err != nil {
			rt.Fatal(err)
		}
		m := &model{
			dir: dir, o: options(), next: 1, records: map[edgeagent.Epoch]map[edgeagent.Seq]float64{},
			runs: map[edgeagent.Seq]edgeagent.Run{}, confirmed: map[string]map[edgeagent.Epoch]*edgeagent.Ranges{},
		}
		m.o.BlockSize = 64
		m.o.Identify = func(dir string) (Identity, error) {
			id, err := here(dir)
			id.Boot = string(rune('a' + m.boot))
			return id, err
		}
		m.open(rt)
		defer func() { m.b.crash() }()
		rt.Repeat(map[string]func(*rapid.T){
			"append":   m.append,
			"ack":      m.ack,
			"seal":     m.seal,
			"register": m.register,
			"reopen":   m.reopen,
			"kill":     m.kill,
			"powercut": m.powerCut,
			"backlog":  m.backlog,
			"":         m.check,
		})
	})
}

func (m *model) open(t *rapid.T) {
	b, _, err := Open(context.Background(), m.dir, m.o)
	if err != nil {
		t.Fatal(err)
	}
	m.b = b
	if b.Epoch() != m.epoch {
		m.epoch, m.next = b.Epoch(), 1
		m.records[m.epoch] = map[edgeagent.Seq]float64{}
	}
	for name := range m.confirmed {
		if err := b.Register(Destination{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *model) append(t *rapid.T) {
	rs := readings(m.nextValue, rapid.IntRange(1, 200).Draw(t, "n"))
	last, err := m.b.Append(context.Background(), rs)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rs {
		m.records[m.epoch][m.next] = float64(m.nextValue + i)
		m.runs[m.next] = m.b.RunID()
		m.next++
	}
	m.nextValue += len(rs)
	if last != m.next-1 {
		t.Fatalf("last = %d, want %d", last, m.next-1)
	}
}

func (m *model) name(t *rapid.T) string {
	if len(m.confirmed) == 0 {
		t.Skip("no destination")
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(m.confirmed))).Draw(t, "destination")
}

func (m *model) register(t *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
	if m.confirmed[name] != nil {
		t.Skip("is registered")
	}
	if err := m.b.Register(Destination{Name: name}); err != nil {
		t.Fatal(err)
	}
	m.confirmed[name] = map[edgeagent.Epoch]*edgeagent.Ranges{m.epoch: {}}
}

func (m *model) ack(t *rapid.T) {
	name := m.name(t)
	seqs := slices.Sorted(maps.Keys(m.records[m.epoch]))
	if len(seqs) == 0 {
		t.Skip("nothing to confirm")
	}
	from := rapid.SampledFrom(seqs).Draw(t, "from")
	r := edgeagent.Range{From: from, To: min(from+edgeagent.Seq(rapid.IntRange(0, 300).Draw(t, "len")), m.next-1)}
	if err := m.b.Ack(context.Background(), name, m.epoch, edgeagent.StreamTelemetry, []edgeagent.Range{r}); err != nil {
		t.Fatal(err)
	}
	m.confirmed[name][m.epoch].Add(r)
}

// seal makes a checkpoint, and maybe ends the segment.
func (m *model) seal(t *rapid.T) {
	m.b.disk.Lock()
	defer m.b.disk.Unlock()
	if err := m.b.checkpoint(context.Background(), rapid.Bool().Draw(t, "all")); err != nil {
		t.Fatal(err)
	}
	if ch := m.b.newest().streams[edgeagent.StreamTelemetry]; ch.open != nil && rapid.Bool().Draw(t, "end") {
		m.b.seal(ch)
	}
}

func (m *model) reopen(t *rapid.T) {
	if err := m.b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	m.open(t)
}

// kill loses cursors that were not stored yet: they may come again.
func (m *model) kill(t *rapid.T) {
	m.b.crash()
	m.open(t)
	m.forgetAcks()
}

func (m *model) powerCut(t *rapid.T) {
	m.b.crash()
	m.boot++
	m.open(t)
	m.forgetAcks()
	m.next = m.b.newest().streams[edgeagent.StreamTelemetry].next
	if m.next%reserveNumbers != 1 {
		t.Fatalf("after a power cut numbers go on at %d", m.next)
	}
}

// forgetAcks takes over what the buffer remembers, which must not be more than
// what was confirmed.
func (m *model) forgetAcks() {
	lost := m.b.newest().streams[edgeagent.StreamTelemetry].lostRanges()
	for name, epochs := range m.confirmed {
		var kept edgeagent.Ranges
		for _, r := range m.b.dests[name].place(m.epoch, edgeagent.StreamTelemetry).set {
			for _, part := range lost.Missing(r) {
				kept.Add(part)
				if len(epochs[m.epoch].Missing(part)) > 0 {
					panic("a cursor holds what nobody confirmed")
				}
			}
		}
		*epochs[m.epoch] = kept
	}
}

// backlog reads what a destination has not confirmed, in any size of batches, with
// a skip of its own.
func (m *model) backlog(t *rapid.T) {
	name := m.name(t)
	c, err := m.b.Cursor(name, edgeagent.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	var skip edgeagent.Ranges
	from := edgeagent.Seq(rapid.IntRange(1, 500).Draw(t, "skip"))
	skip.Add(edgeagent.Range{From: from, To: from + 50})
	limit := edgeagent.Limit{Records: rapid.IntRange(0, 300).Draw(t, "records"), Bytes: rapid.SampledFrom([]int{0, 100, 500, 4000}).Draw(t, "bytes"), Decoded: rapid.Bool().Draw(t, "decoded")}
	below := min(m.next, edgeagent.Seq(rapid.IntRange(1, 3000).Draw(t, "below")))
	want := map[edgeagent.Seq]float64{}
	for s, v := range m.records[m.epoch] {
		if s < below && !m.confirmed[name][m.epoch].Contains(s) && !skip.Contains(s) {
			want[s] = v
		}
	}
	r := c.Backlog(below, map[edgeagent.Epoch]edgeagent.Ranges{m.epoch: skip})
	got := map[edgeagent.Seq]float64{}
	for {
		batch, ok, err := r.Next(context.Background(), limit)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		m.checkBatch(t, batch, limit)
		rs, err := batch.Readings(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range rs {
			got[batch.First+edgeagent.Seq(i)] = r.Value
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func (m *model) checkBatch(t *rapid.T, b edgeagent.Batch, l edgeagent.Limit) {
	if l.Records > 0 && b.Count > l.Records || l.Bytes > 0 && len(b.Encoded) > l.Bytes && b.Count > 1 {
		t.Fatalf("batch of %d records, %d bytes exceeds %+v", b.Count, len(b.Encoded), l)
	}
	for s := b.First; s <= b.Last(); s++ {
		if m.runs[s] != b.Run {
			t.Fatalf("batch of run %s holds %d of run %s", b.Run, s, m.runs[s])
		}
	}
	mid := b.First + edgeagent.Seq(b.Count/2)
	cut, err := b.Cut(edgeagent.Range{From: mid, To: b.Last()})
	if err != nil || cut.First != mid || cut.Last() != b.Last() || cut.Run != b.Run {
		t.Fatalf("cut: %+v, %v", cut.BatchHeader, err)
	}
}

func (m *model) check(t *rapid.T) {
	got := map[edgeagent.Seq]float64{}
	r := &Reader{b: m.b, stream: edgeagent.StreamTelemetry, parts: []part{{epoch: m.epoch, pos: 1}}}
	for {
		batch, ok, err := r.Next(context.Background(), edgeagent.Limit{})
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		rs, err := batch.Readings(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range rs {
			got[batch.First+edgeagent.Seq(i)] = r.Value
		}
	}
	if diff := cmp.Diff(m.records[m.epoch], got); diff != "" {
		t.Fatal(diff)
	}
	for name := range m.confirmed {
		c, err := m.b.Cursor(name, edgeagent.StreamTelemetry)
		if err != nil {
			t.Fatal(err)
		}
		var want uint64
		first := edgeagent.Seq(0)
		for s := range m.records[m.epoch] {
			if !m.confirmed[name][m.epoch].Contains(s) {
				want++
				if first == 0 || s < first {
					first = s
				}
			}
		}
		if n := c.Unconfirmed(); n != want {
			t.Fatalf("%s: %d unconfirmed, want %d", name, n, want)
		}
		if _, next := c.Head(); first == 0 {
			first = next
		}
		if live := c.LiveFrom(0); live != first {
			t.Fatalf("%s: live from %d, want %d", name, live, first)
		}
	}
}
