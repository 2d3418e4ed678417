package headlog

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/edgeagent/edgeagent"
)

// TestDamage damages the files of whole lives in every way a card can. Nothing
// may panic, nothing may be returned that was not written, and only what the
// damage touched may be missing.
func TestDamage(t *testing.T) {
	kinds := []string{"flip", "zero", "noise", "truncate", "swap", "copy", "stale"}
	type tally struct{ cases, lost, most, reported int }
	tallies := map[string]*tally{}
	for _, kind := range kinds {
		tallies[kind] = &tally{}
	}
	for life := range 10 {
		rnd := rand.New(rand.NewPCG(*seed, uint64(life)))
		w := liveLife(t, rnd, 300)
		early := w.disk.files()
		if err := w.run(100); err != nil {
			t.Fatal(err)
		}
		if err := w.sync(); err != nil {
			t.Fatal(err)
		}
		if err := w.append(); err != nil { // bears witness of the sync
			t.Fatal(err)
		}
		whole := w.disk.files()
		for i := range 105 {
			kind := kinds[i%len(kinds)]
			files := map[string][]byte{}
			for name, b := range whole {
				files[name] = slices.Clone(b)
			}
			damage(rnd, kind, files, early)
			lost, reported := survivors(t, w, kind, files)
			c := tallies[kind]
			c.cases++
			c.lost += lost
			c.most = max(c.most, lost)
			if reported {
				c.reported++
			}
		}
	}
	for _, kind := range kinds {
		c := tallies[kind]
		t.Logf("%-8s %d cases, %.1f frames lost on average, %d at most; %d are reported", kind, c.cases, float64(c.lost)/float64(c.cases), c.most, c.reported)
	}
	// One flipped bit costs one frame.
	if c := tallies["flip"]; c.most > 1 {
		t.Errorf("a flipped bit takes up to %d frames", c.most)
	}
}

func damage(rnd *rand.Rand, kind string, files, early map[string][]byte) {
	names := slices.Sorted(maps.Keys(files))
	name := names[rnd.IntN(len(names))]
	b := files[name]
	page := func() []byte {
		p := rnd.IntN(len(b)/pageSize) * pageSize
		return b[p : p+pageSize]
	}
	switch kind {
	case "flip":
		b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
	case "zero":
		clear(page())
	case "noise":
		p := page()
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
	case "truncate":
		files[name] = b[:rnd.IntN(len(b))]
	case "swap":
		p, q := page(), page()
		tmp := slices.Clone(p)
		copy(p, q)
		copy(q, tmp)
	case "copy":
		copy(page(), page())
	case "stale": // a page that was written long ago, and not since
		p := rnd.IntN(len(b)/pageSize) * pageSize
		copy(b[p:p+pageSize], early[name][p:])
	}
}

// survivors returns how many of the frames that were synced and not sealed are
// missing, and whether the log knows.
func survivors(t *testing.T, w *world, kind string, files map[string][]byte) (lost int, reported bool) {
	t.Helper()
	r, err := Recover("/sim", Options{Size: MinSize, FS: newSimFS(files)})
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	defer r.Close()
	got := map[string]bool{}
	for f, err := range r.Frames() {
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if want, ok := w.offered[key(&f)]; !ok || !same(want, f) {
			t.Fatalf("%s: frame %s was never written so", kind, key(&f))
		}
		got[key(&f)] = true
	}
	for _, id := range w.live {
		if f := &w.frames[id]; id < w.mark.synced && !got[key(f)] {
			lost++
		}
	}
	return lost, r.Report().Lost > 0
}

// TestMisplacedPage: a page that the card wrote to the wrong address as well costs
// what stood there, and no more.
func TestMisplacedPage(t *testing.T) {
	d := newSimFS(nil)
	l := begun(t, d)
	for s := edgeagent.Seq(1); s <= 30; s++ {
		if err := l.Append(reading(s)); err != nil {
			t.Fatal(err)
		}
		if s%5 == 0 {
			if err := l.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	files := d.files()
	at := bytes.Index(files["head-0"], reading(6).Payload) / pageSize * pageSize
	from := bytes.Index(files["head-0"], reading(21).Payload) / pageSize * pageSize
	copy(files["head-0"][at:at+pageSize], files["head-0"][from:])
	want := []edgeagent.Seq{1, 2, 3, 4, 5}
	for s := edgeagent.Seq(11); s <= 30; s++ {
		want = append(want, s)
	}
	if got := recovered(t, newSimFS(files)); !slices.Equal(got, want) {
		t.Errorf("recovered %v", got)
	}
}

// TestUnreadablePages: a bad sector costs the frames on it; a file of which
// nothing can be read is an error, for a start would overwrite it.
func TestUnreadablePages(t *testing.T) {
	d := newSimFS(nil)
	l := begun(t, d)
	for s := edgeagent.Seq(1); s <= 120; s++ {
		if err := l.Append(reading(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	bad := badSectors{FS: d, from: 6 * pageSize, to: 6*pageSize + 1}
	got := recovered(t, bad)
	r, err := Recover("/sim", Options{Size: MinSize, FS: bad})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	unreadable := 0
	for _, f := range r.Report().Files {
		unreadable += f.Unreadable
	}
	if unreadable != 2 { // the page of either file
		t.Errorf("%d pages are reported unreadable", unreadable)
	}
	if n := len(got); n < 120-pageSize/(100+minShort)-2 || n == 120 || r.Report().Lost != int64(120-n) || !slices.IsSorted(got) {
		t.Errorf("recovered %d frames, %v; report %+v", n, got, r.Report())
	}
	if _, err := Recover("/sim", Options{Size: MinSize, FS: badSectors{FS: d, to: 1 << 40}}); err == nil {
		t.Error("recovered from files that cannot be read")
	}
}

// badSectors is a disk that cannot read some bytes.
type badSectors struct {
	FS
	from, to int64
}

type badFile struct {
	File
	d badSectors
}

func (d badSectors) OpenFile(path string, create bool) (File, error) {
	f, err := d.FS.OpenFile(path, create)
	if err != nil {
		return nil, err
	}
	return badFile{f, d}, nil
}

func (f badFile) ReadAt(p []byte, off int64) (int, error) {
	if off < f.d.to && off+int64(len(p)) > f.d.from {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(p, off)
}

// TestGenerationsAreUnique: a cut can leave a frame in the middle of a page, of a
// generation of which it took everything else. The next one begins in the same
// place; the frame must not become part of it. The control shows that it would,
// were generations only counted.
func TestGenerationsAreUnique(t *testing.T) {
	start := func(d *simFS, salt func() uint32) *Log {
		r, err := Recover("/sim", Options{Size: MinSize, FS: d, salt: salt})
		if err != nil {
			t.Fatal(err)
		}
		l, err := r.Start(t.Context(), Head{Epoch: testEpoch, Limits: Limits{0, 99, 99, 99, 99}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	life := func(salt func() uint32) []edgeagent.Seq {
		d := newSimFS(nil)
		l := start(d, salt)
		if err := l.Append(reading(1)); err != nil {
			t.Fatal(err)
		}
		before := d.files()
		if err := l.Append(reading(2)); err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{}
		for name, b := range d.files() { // all but the second frame is lost
			at := 0
			for at < len(b) && b[at] == before[name][at] {
				at++
			}
			files[name] = append(make([]byte, at), b[at:]...)
		}
		d = newSimFS(files)
		if err := start(d, salt).Append(reading(1)); err != nil {
			t.Fatal(err)
		}
		return recovered(t, d)
	}
	if got := life(rand.Uint32); !slices.Equal(got, []edgeagent.Seq{1}) {
		t.Errorf("recovered %v, and only 1 was appended in this life", got)
	}
	if got := life(func() uint32 { return 7 }); len(got) < 2 {
		t.Errorf("the control recovers %v: this test proves nothing", got)
	}
}

// FuzzRecover gives any bytes for head files. Recovery must not panic, must return
// no more than the files could hold, and the log must go on.
func FuzzRecover(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 1))
	w := newWorld(rnd, newSimFS(nil))
	if err := w.start(); err != nil {
		f.Fatal(err)
	}
	if err := w.run(60); err != nil {
		f.Fatal(err)
	}
	files := w.disk.files()
	cut := func(b []byte) []byte { return b[:min(len(b), 3*pageSize)] }
	f.Add(cut(files["head-0"]), cut(files["head-1"]))
	f.Add([]byte{}, []byte{1})
	lying := slices.Clone(cut(files["head-0"]))
	binary.LittleEndian.PutUint32(lying[4:], 1<<31)
	f.Add(lying, cut(files["head-1"]))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a)+len(b) > 64<<10 {
			return
		}
		d := newSimFS(map[string][]byte{"head-0": a, "head-1": b})
		o := Options{Size: MinSize, FS: d}
		r, err := Recover("/sim", o)
		if err != nil {
			return // another format
		}
		n, size := 0, 0
		for f, err := range r.Frames() {
			if err != nil {
				t.Fatal(err)
			}
			n++
			size += minShort + len(f.Payload)
			_, _ = DecodeRows(nil, f)
		}
		if n != r.Report().Frames || size > len(a)+len(b) {
			t.Fatalf("%d frames of %d bytes out of %d, reported %d", n, size, len(a)+len(b), r.Report().Frames)
		}
		l, err := r.Start(t.Context(), Head{Epoch: testEpoch, Limits: Limits{0, 99, 99, 99, 99}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Append(reading(1)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := recovered(t, d); !slices.Equal(got, []edgeagent.Seq{1}) {
			t.Fatalf("recovered %v, appended 1", got)
		}
	})
}

// TestHostileFile: a file made to be slow is read in a time that its length
// bounds.
func TestHostileFile(t *testing.T) {
	const gen = 0x4848484848484848
	b := make([]byte, 4<<20)
	full := appendFrame(nil, 0, place{gen: gen, index: 1}, &Frame{Kind: Readings})
	tests := map[string]func(){
		"long frames that overlap": func() {
			for off := headerSize; off+headerSize <= len(b); off += headerSize {
				copy(b[off:], full)
				binary.LittleEndian.PutUint32(b[off:], 1)
				binary.LittleEndian.PutUint32(b[off+4:], MaxPayload)
			}
		},
		"short frames that overlap": func() {
			for off := 0; off+2*pageSize < len(b); off += pageSize {
				f := Frame{Kind: Readings}
				p := place{gen: gen, index: uint32(1 + off)}
				n := copy(b[off:], appendFrame(nil, int64(off), p, &f))
				a := anchor{Frame: f, place: p, at: int64(off)}
				f.Payload = make([]byte, maxShortPayload)
				short := a.appendShort(nil, 0, p.index+1, &f)
				const header = minShort + 1 // its length takes two bytes
				for ; n+header <= pageSize; n += header {
					copy(b[off+n:], short[:header])
				}
			}
		},
	}
	for name, fill := range tests {
		t.Run(name, func(t *testing.T) {
			clear(b)
			copy(b, full)
			fill()
			d := newSimFS(map[string][]byte{"head-0": b})
			f, err := d.OpenFile("head-0", false)
			if err != nil {
				t.Fatal(err)
			}
			s := newScanner(f, int64(len(b)), make([]byte, windowSize), rules{})
			if _, err := scan(s); err != nil {
				t.Fatal(err)
			}
			if s.work > 0 {
				t.Error("the file is not hostile enough")
			}
			if calls := d.calls; calls > 1000 {
				t.Errorf("%d reads of a file of 4 MiB", calls)
			}
		})
	}
}
