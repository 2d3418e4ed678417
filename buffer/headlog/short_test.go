package headlog

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// single is a reading that comes alone, ten milliseconds after the one before.
func single(s edgeagent.Seq) Frame {
	f := Frame{Kind: Readings, Stream: edgeagent.StreamTelemetry, Epoch: testEpoch, Run: 7, First: s, Count: 1}
	row := block.Row{Series: uint32(1 + s%20), Time: 1_700_000_000_000_000_000 + int64(s)*10_000_000, Value: float64(s) / 7}
	f.Payload, f.Base, f.Resolution = AppendRows(nil, []block.Row{row}, edgeagent.DefaultResolution)
	return f
}

// ack is what a destination says twice a second.
func ack(n int) Frame {
	return Frame{Kind: Acks, Stream: edgeagent.StreamTelemetry, Epoch: testEpoch, Payload: append([]byte("\x03hub"), byte(n), byte(n>>8))}
}

// frameBytes appends frames and returns how long each is on the disk, and what
// comes back.
func frameBytes(t *testing.T, frames []Frame) (sizes []int, got []Frame) {
	t.Helper()
	d := newSimFS(nil)
	l := begun(t, d)
	for _, f := range frames {
		before := l.Stats().Bytes
		if err := l.Append(f); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, int(l.Stats().Bytes-before))
	}
	return sizes, comeBack(t, d)
}

// comeBack returns all frames on a disk.
func comeBack(t *testing.T, d FS) (got []Frame) {
	t.Helper()
	r, err := Recover("/sim", Options{Size: MinSize, FS: d})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for f, err := range r.Frames() {
		if err != nil {
			t.Fatal(err)
		}
		f.Payload = bytes.Clone(f.Payload)
		got = append(got, f)
	}
	return got
}

// TestASecondFitsIntoAPage: 100 readings that come one by one in a second, with two
// acks in between, take one page, so that a sync writes no more.
func TestASecondFitsIntoAPage(t *testing.T) {
	d := newSimFS(nil)
	l := begun(t, d)
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	next, before := edgeagent.Seq(1), l.Stats().Used
	for range 4 {
		for i := range 100 {
			if err := l.Append(single(next)); err != nil {
				t.Fatal(err)
			}
			next++
			if i%50 == 49 {
				if err := l.Append(ack(int(next))); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		used := l.Stats().Used
		if used-before != pageSize {
			t.Errorf("a second takes %d bytes", used-before)
		}
		before = used
	}
}

// TestWhatIsShort says which frames are, and how long they are all in all.
func TestWhatIsShort(t *testing.T) {
	with := func(s edgeagent.Seq, change func(*Frame)) Frame {
		f := single(s)
		change(&f)
		return f
	}
	const full = headerSize + 10 // with a row of 10 bytes
	tests := map[string]struct {
		frames []Frame
		want   []int
	}{
		"readings one by one": {[]Frame{single(1), single(2), single(3)}, []int{full, 21, 21}},
		"at the same time":    {[]Frame{single(1), with(2, func(f *Frame) { f.Base = single(1).Base })}, []int{full, 20}},
		"acks in between":     {[]Frame{single(1), ack(1), single(2), ack(2), single(3)}, []int{full, 66, 22, 16, 22}},
		"more of them":        {[]Frame{single(1), with(2, func(f *Frame) { f.Count = 9 }), single(11)}, []int{full, 22, 23}},
		"a hole":              {[]Frame{single(1), single(3), single(1 << 31)}, []int{full, 22, 31}},
		"a number again":      {[]Frame{single(1), single(2), single(2), single(1)}, []int{full, 21, 22, 21}},
		"numbers that fall":   {[]Frame{single(2), single(1), single(3)}, []int{full, full, 22}},
		"a clock segment": {
			[]Frame{single(1), with(2, func(f *Frame) { f.Flags = Starts }), single(3)},
			[]int{full, 21, 21},
		},
		"the first of a clock segment": {
			[]Frame{with(1, func(f *Frame) { f.Flags = Starts }), single(2)},
			[]int{full, 21},
		},
		"the clock is synced": {
			[]Frame{with(1, func(f *Frame) { f.Flags = Unsynced }), with(2, func(f *Frame) { f.Flags = Unsynced }), single(3), single(4)},
			[]int{full, 21, full, 21},
		},
		"another run":   {[]Frame{single(1), with(2, func(f *Frame) { f.Run = 8 })}, []int{full, full}},
		"another epoch": {[]Frame{single(1), with(2, func(f *Frame) { f.Epoch = 8 })}, []int{full, full}},
		"resolutions in turn": {
			[]Frame{single(1), with(2, func(f *Frame) { f.Resolution = 7 }), single(3), with(4, func(f *Frame) { f.Resolution = 7 })},
			[]int{full, full, 21, 21},
		},
		"a base off the grid": {[]Frame{single(1), with(2, func(f *Frame) { f.Base++ }), single(3)}, []int{full, full, 21}},
		"times far apart": {
			[]Frame{single(1), with(2, func(f *Frame) { f.Base -= 4e18 }), with(3, func(f *Frame) { f.Resolution, f.Base = 200, 1<<62 })},
			[]int{full, 27, full},
		},
		"a long payload": {
			[]Frame{single(1), with(2, func(f *Frame) { f.Payload = make([]byte, maxShortPayload+1) })},
			[]int{full, headerSize + maxShortPayload + 1},
		},
		"nine kinds in turn": {
			slices.Repeat([]Frame{{Kind: 10}, {Kind: 11}, {Kind: 12}, {Kind: 13}, {Kind: 14}, {Kind: 15}, {Kind: 16}, {Kind: 17}, {Kind: 18}}, 2),
			slices.Repeat([]int{headerSize}, 18),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			sizes, got := frameBytes(t, tt.frames)
			if diff := cmp.Diff(tt.want, sizes); diff != "" {
				t.Errorf("bytes (-want +got):\n%s", diff)
			}
			for i := range tt.frames {
				if tt.frames[i].Epoch == 0 {
					tt.frames[i].Epoch = testEpoch
				}
				if i >= len(got) || !same(tt.frames[i], got[i]) {
					t.Fatalf("frame %d of %d differs: appended %+v, recovered %+v", i, len(got), tt.frames[i], got[min(i, len(got)-1)])
				}
			}
		})
	}
}

// TestFullFramesWhereTheyMustBe: the first of each page is full, and the first
// behind a sync that went well, for it tells how much is durable.
func TestFullFramesWhereTheyMustBe(t *testing.T) {
	l := begun(t, newSimFS(nil))
	size := func(s edgeagent.Seq) int {
		before := l.Stats().Bytes
		if err := l.Append(single(s)); err != nil {
			t.Fatal(err)
		}
		return int(l.Stats().Bytes - before)
	}
	if n := size(1); n < headerSize {
		t.Errorf("the first frame has %d bytes", n)
	}
	page, full := int64(-1), 0
	for s := edgeagent.Seq(2); s < 600; s++ {
		at := l.Stats().Used
		isFull := size(s) >= headerSize
		if isFull {
			full++
		}
		if first := at/pageSize != page; page >= 0 && isFull != first {
			t.Fatalf("frame %d at %d: full is %t", s, at, isFull)
		}
		page = at / pageSize
	}
	if full < 3 {
		t.Errorf("%d frames are full", full)
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := size(600); n < headerSize {
		t.Errorf("the first frame behind a sync has %d bytes", n)
	}
	if n := size(601); n >= headerSize {
		t.Errorf("the second has %d", n)
	}
}

// TestSyncIsToldOfAtOnce: a frame that was appended while a sync was under way does
// not know yet that it went well; the next one says so.
func TestSyncIsToldOfAtOnce(t *testing.T) {
	d := &duringSync{FS: newSimFS(nil)}
	l := begun(t, d)
	add := func(s edgeagent.Seq) {
		if err := l.Append(single(s)); err != nil {
			t.Fatal(err)
		}
	}
	add(1)
	d.then = func() { d.then = nil; add(2); add(3) }
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	durable := l.Stats().Used / pageSize
	add(4)
	add(5)
	f, err := d.FS.OpenFile("head-0", false)
	if err != nil {
		t.Fatal(err)
	}
	v, err := scan(newScanner(f, MinSize, make([]byte, MinSize), rules{}))
	if err != nil {
		t.Fatal(err)
	}
	if v.durable != durable*pageSize {
		t.Errorf("the file says that %d bytes are durable, of %d", v.durable, durable*pageSize)
	}
	if got := recovered(t, d); !slices.Equal(got, []edgeagent.Seq{1, 2, 3, 4, 5}) {
		t.Errorf("recovered %v", got)
	}
}

// duringSync lets a test do something in the middle of a sync.
type duringSync struct {
	FS
	then func()
}

type duringSyncFile struct {
	File
	d *duringSync
}

func (d *duringSync) OpenFile(path string, create bool) (File, error) {
	f, err := d.FS.OpenFile(path, create)
	if err != nil {
		return nil, err
	}
	return duringSyncFile{f, d}, nil
}

func (f duringSyncFile) Datasync() error {
	if f.d.then != nil {
		f.d.then()
	}
	return f.File.Datasync()
}

// TestDamageOfShortFrames damages each byte of a page in turn. One that hits a
// short frame costs that one; one that hits a full frame costs those of its kind
// that follow in the page. Nothing comes back that differs, and the pages before
// and after lose nothing.
func TestDamageOfShortFrames(t *testing.T) {
	d := newSimFS(nil)
	l := begun(t, d)
	var want []Frame
	add := func(f Frame) int64 {
		at := l.Stats().Used
		if err := l.Append(f); err != nil {
			t.Fatal(err)
		}
		want = append(want, f)
		return at
	}
	type extent struct {
		from, to int64
		kind     Kind
		full     bool
	}
	var page []extent
	var from int64
	for p := range 3 {
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			f := single(edgeagent.Seq(1 + 40*p + i))
			if i%8 == 4 {
				f = ack(100*p + i)
			}
			at := add(f)
			if p == 1 {
				to := l.Stats().Used
				page = append(page, extent{at, to, f.Kind, to-at >= headerSize})
			}
		}
		if p == 1 {
			from = page[0].from
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if from%pageSize != 0 {
		t.Fatalf("the page begins at %d", from)
	}
	head := d.files()["head-0"][:from+4*pageSize] // all that was written
	files := map[string][]byte{"head-0": head}
	for at := from; at < from+pageSize; at++ {
		head[at] ^= 0x10
		lost := map[int]bool{}
		for i, x := range page {
			if at < x.from || at >= x.to {
				continue
			}
			lost[40+i] = true
			for k, y := range page {
				if x.full && y.kind == x.kind && k > i {
					lost[40+k] = true
				}
			}
		}
		got := comeBack(t, newSimFS(files))
		k := 0
		for i := range want {
			if lost[i] {
				continue
			}
			if k >= len(got) || !same(want[i], got[k]) {
				t.Fatalf("byte %d is damaged: frame %d is not there, or not as it was; %d of %d came back, %d should be lost",
					at-from, i, len(got), len(want), len(lost))
			}
			k++
		}
		if k != len(got) {
			t.Fatalf("byte %d is damaged: %d frames come back that should not", at-from, len(got)-k)
		}
		head[at] ^= 0x10
	}
}

// TestStaleShortFrames: behind the last frame of a page stand short frames of an
// older generation, at the very places where those of this one would be. The tags
// are equal here; the anchor's checksum tells them apart.
func TestStaleShortFrames(t *testing.T) {
	const older, newer = 1<<32 | 7, 2<<32 | 7
	file := make([]byte, pageSize)
	var slot slot
	at := 0
	add := func(gen uint64, f Frame) {
		if slot.gen != gen {
			slot.gen, slot.page, at = gen, anchors{}, 0
		}
		at += copy(file[at:], slot.encode(nil, int64(at), &f))
		slot.index++
	}
	for s := edgeagent.Seq(1); s <= 9; s++ {
		add(older, single(s))
	}
	before := slot.page.list[0]
	slot.index = 0
	add(newer, single(30))
	stale, now := file[at:], slot.page.list[0]
	if h, ok := now.parse(stale); !ok || now.at != before.at || tag(older) != tag(newer) || before.checksum(stale[:h.size()], int64(at)) != h.sum {
		t.Fatal("no stale frame stands there that looks right: this test proves nothing")
	}
	d := newSimFS(map[string][]byte{"head-0": file})
	f, err := d.OpenFile("head-0", false)
	if err != nil {
		t.Fatal(err)
	}
	s := newScanner(f, pageSize, make([]byte, pageSize), rules{})
	off, h, ok := s.find(0, newer)
	if !ok || h.First != 30 {
		t.Fatalf("found %+v, %t", h, ok)
	}
	if off, h, ok = s.find(off+int64(h.size()), newer); ok {
		t.Errorf("found a stale frame at %d: %+v", off, h)
	}
}

// FuzzShort: what is written as a short frame is read as it was, and any bytes are
// a header or none.
func FuzzShort(f *testing.F) {
	f.Add(uint8(6), int64(1e18), int64(2e6), uint64(1), uint64(1), uint32(1), uint32(1), uint16(1), false, []byte("payload"))
	f.Add(uint8(99), int64(-1<<63), int64(1<<62), uint64(1<<53), uint64(1<<63), uint32(9), uint32(1<<32-1), uint16(400), true, []byte{})
	f.Fuzz(func(t *testing.T, resolution uint8, base, step int64, first, more uint64, count, count2 uint32, behind uint16, starts bool, payload []byte) {
		a := anchor{
			Frame: Frame{Kind: Readings, Stream: 3, Epoch: 1, Run: 2, Resolution: resolution, Base: base, First: edgeagent.Seq(first), Count: count},
			place: place{gen: 0x1234, index: 5}, at: 3 * pageSize, sum: 0xabcdef,
		}
		want := a.Frame
		want.Base += step / unit(resolution) * unit(resolution)
		want.First += edgeagent.Seq(more)
		want.Count, want.Payload = count2, payload
		if starts {
			want.Flags |= Starts
		}
		index := a.index + uint32(behind%pageSize)
		if a.passesOn(&want) && index > a.index && len(payload) <= maxShortPayload {
			b := a.appendShort(nil, 3*pageSize+100, index, &want)
			h, ok := a.parse(b[:min(len(b), maxShortHeader)])
			if !ok || h.size() != len(b) || h.header > maxShortHeader || h.header < minShort || h.index != index || h.sum != a.checksum(b, 3*pageSize+100) {
				t.Fatalf("%t, header %+v of %d bytes", ok, h, len(b))
			}
			h.Payload = b[h.header:]
			if !same(h.Frame, want) {
				t.Fatalf("wrote %+v, read %+v", want, h.Frame)
			}
		}
		if len(payload) >= minShort {
			if h, ok := a.parse(payload); ok && (h.header > len(payload) || h.length > maxShortPayload || h.index <= a.index) {
				t.Fatalf("header %+v out of %d bytes", h, len(payload))
			}
		}
	})
}
