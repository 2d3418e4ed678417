package headlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// testEpoch is that of all frames in the tests.
const testEpoch edgeagent.Epoch = 0xe0e1e2e3e4e5e6e7

// mark is what the disk must still tell after a cut: what was promised so far.
type mark struct {
	synced int              // that many of the world's frames
	sealed [5]edgeagent.Seq // by stream: numbers up to here are safe elsewhere
	limits Limits           // raised
}

// world is a caller of the log as the buffer is one, that remembers all it did.
type world struct {
	rnd  *rand.Rand
	disk *simFS
	log  *Log

	frames  []Frame // that were accepted, in that order
	known   map[string]int
	offered map[string]Frame // accepted or not
	gone    map[int]bool     // an earlier cut took them
	live    []int            // not sealed
	next    [5]edgeagent.Seq
	mark    mark
	time    int64
	syncs   int // of a hundred steps

	failures int // that the log reported
}

// same is much faster than cmp.Equal.
func same(a, b Frame) bool {
	return a.Kind == b.Kind && a.Stream == b.Stream && a.Flags == b.Flags && a.Resolution == b.Resolution && a.Base == b.Base &&
		a.Epoch == b.Epoch && a.Run == b.Run && a.First == b.First && a.Count == b.Count && bytes.Equal(a.Payload, b.Payload)
}

func key(f *Frame) string { return fmt.Sprintf("%d/%d/%d", f.Kind, f.Stream, f.First) }

func newWorld(rnd *rand.Rand, d *simFS) *world {
	w := &world{rnd: rnd, disk: d, known: map[string]int{}, offered: map[string]Frame{}, gone: map[int]bool{}, next: [5]edgeagent.Seq{1, 1, 1, 1, 1}}
	w.syncs = []int{2, 20}[rnd.IntN(2)] // pages are full, or hold a few frames
	return w
}

func (w *world) options() Options {
	return Options{Size: MinSize, FS: w.disk, salt: w.rnd.Uint32}
}

// payload is a function of the frame's identity, so that what comes back can be
// checked, and what was never written cannot pass.
func payload(kind Kind, s edgeagent.Stream, first edgeagent.Seq, n int) []byte {
	rnd := rand.New(rand.NewPCG(uint64(kind)<<8|uint64(s), uint64(first)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// make returns the next frame: as a rule a reading that comes alone, as short as
// they are, between other things.
func (w *world) make() Frame {
	w.time += int64(w.rnd.IntN(50)) * 1e6
	f := Frame{Kind: Readings, Stream: edgeagent.StreamTelemetry, Epoch: testEpoch, Run: 7, Base: w.time, Resolution: 6, Count: 1}
	n := 10 + w.rnd.IntN(3)
	switch w.rnd.IntN(10) {
	case 0:
		f.Kind, f.Stream = Events, edgeagent.StreamAlarm
	case 1:
		f.Kind, f.Stream = Events, edgeagent.StreamEvent
	case 2:
		f.Kind, f.Stream, f.Base, f.Count = Acks, 0, 0, 0
	}
	if w.rnd.IntN(4) == 0 { // anything
		n = w.rnd.IntN(300)
		f.Base, f.Flags, f.Resolution = int64(w.rnd.Uint64()), Flags(w.rnd.IntN(4)), uint8(w.rnd.IntN(10))
		f.Count = uint32(1 + w.rnd.IntN(40))
	}
	if w.rnd.IntN(40) == 0 {
		n = w.rnd.IntN(MinSize / 4)
	}
	f.First = w.next[f.Stream]
	w.next[f.Stream] += max(1, edgeagent.Seq(f.Count))
	f.Payload = payload(f.Kind, f.Stream, f.First, n)
	return f
}

func (w *world) append() error {
	f := w.make()
	w.offered[key(&f)] = f
	err := w.try(func() error { return w.log.Append(f) })
	for err != nil {
		switch {
		case errors.Is(err, ErrFull):
			err = w.rotate(0) // what comes between has its number already
		case errors.Is(err, ErrLimit):
			err = w.raise(f.Stream)
		}
		if err != nil {
			return err
		}
		err = w.try(func() error { return w.log.Append(f) })
	}
	w.accept(f)
	w.live = append(w.live, len(w.frames)-1)
	return nil
}

func (w *world) accept(f Frame) {
	w.known[key(&f)] = len(w.frames)
	w.frames = append(w.frames, f)
}

// try calls f, and again when the log wants to be rotated first.
func (w *world) try(f func() error) error {
	err := f()
	for errors.Is(err, ErrSuspect) {
		w.failures++
		if err = w.heal(); err == nil {
			err = f()
		}
	}
	return err
}

// heal does what a caller has to after ErrSuspect.
func (w *world) heal() error {
	if err := w.log.Rotate(context.Background(), w.tails()); err != nil {
		return err
	}
	return w.log.Release(context.Background())
}

func (w *world) tails() iter.Seq[Frame] {
	ids := slices.Clone(w.live)
	return func(yield func(Frame) bool) {
		for _, id := range ids {
			if !yield(w.frames[id]) {
				return
			}
		}
	}
}

func (w *world) promise() { w.disk.mark(w.mark) }

func (w *world) sync() error {
	n := len(w.frames)
	if err := w.try(func() error { return w.log.Sync(context.Background()) }); err != nil {
		return err
	}
	w.mark.synced = n
	w.promise()
	return nil
}

func (w *world) raise(s edgeagent.Stream) error {
	limit := w.next[s] + 200
	if err := w.try(func() error { return w.log.Raise(context.Background(), s, limit) }); err != nil {
		if !errors.Is(err, ErrFull) {
			return err
		}
		if err := w.rotate(0); err != nil {
			return err
		}
		return w.raise(s)
	}
	w.mark.limits[s] = limit
	w.promise()
	return nil
}

// seal makes some of the oldest frames safe elsewhere.
func (w *world) seal() {
	n := len(w.live) * (50 + w.rnd.IntN(51)) / 100
	room := MinSize / 3
	for i, id := range slices.Backward(w.live) {
		if room -= headerSize + len(w.frames[id].Payload); room < 0 {
			n = max(n, i+1)
			break
		}
	}
	for _, id := range w.live[:n] {
		f := &w.frames[id]
		w.mark.sealed[f.Stream] = max(w.mark.sealed[f.Stream], f.last())
	}
	w.live = slices.DeleteFunc(w.live, func(id int) bool {
		return w.frames[id].last() <= w.mark.sealed[w.frames[id].Stream]
	})
	w.promise()
}

// rotate appends some frames before it lets the old file go.
func (w *world) rotate(between int) error {
	w.seal()
	ctx := context.Background()
	err := w.try(func() error { return w.log.Rotate(ctx, w.tails()) })
	if errors.Is(err, ErrUnreleased) {
		if err = w.release(); err == nil {
			err = w.try(func() error { return w.log.Rotate(ctx, w.tails()) })
		}
	}
	if err != nil {
		return err
	}
	for range between {
		if err := w.append(); err != nil {
			return err
		}
	}
	if w.rnd.IntN(4) == 0 {
		return nil // released by the next rotation
	}
	return w.release()
}

func (w *world) release() error {
	n := len(w.frames)
	if err := w.try(func() error { return w.log.Release(context.Background()) }); err != nil {
		return err
	}
	w.mark.synced = n
	w.promise()
	return nil
}

// start recovers, checks nothing, and goes on with what is there.
func (w *world) start() error {
	r, err := Recover("/sim", w.options())
	if err != nil {
		return err
	}
	w.live = w.live[:0]
	seen := map[int]bool{}
	for f, err := range r.Frames() {
		if err != nil {
			return errors.Join(err, r.Close())
		}
		id, ok := w.known[key(&f)]
		if ok && !seen[id] && f.last() > w.mark.sealed[f.Stream] {
			seen[id] = true
			w.live = append(w.live, id)
		}
	}
	slices.Sort(w.live)
	for s, limit := range r.Report().Limits[testEpoch] {
		w.next[s] = max(w.next[s], limit) // numbers of before never come again
	}
	n := len(w.frames)
	w.log, err = r.Start(context.Background(), Head{Epoch: testEpoch}, w.tails())
	if err != nil {
		return err
	}
	w.mark.synced = n
	w.promise()
	for _, s := range edgeagent.Streams() {
		if err := w.raise(s); err != nil {
			return err
		}
	}
	return nil
}

// run does n random things.
func (w *world) run(n int) error {
	for range n {
		var err error
		switch p := w.rnd.IntN(100); {
		case p < 92-w.syncs:
			err = w.append()
		case p < 92:
			err = w.sync()
		case p < 94:
			err = w.raise(edgeagent.Streams()[w.rnd.IntN(4)])
		case p < 96 || w.log.Stats().Used > MinSize*3/5:
			err = w.rotate(w.rnd.IntN(3))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// check recovers a disk and holds it against what was promised. It returns what
// is there.
func (w *world) check(files map[string][]byte, m mark, r rules) (map[int]bool, error) {
	o := Options{Size: MinSize, FS: newSimFS(files), rules: r}
	rec, err := Recover("/sim", o)
	if err != nil {
		return nil, err
	}
	defer rec.Close()
	got := map[int]bool{}
	live := 0
	for _, f := range rec.Report().Files {
		if !f.Dead {
			live++
		}
	}
	var newestOf, backwards [5]edgeagent.Seq
	for f, err := range rec.Frames() {
		if err != nil {
			return nil, err
		}
		if f.First <= newestOf[f.Stream] { // a younger file begins with what moved there
			if backwards[f.Stream]++; int(backwards[f.Stream]) >= live {
				return nil, fmt.Errorf("frame %s comes after %d", key(&f), newestOf[f.Stream])
			}
		}
		newestOf[f.Stream] = f.First
		want, ok := w.offered[key(&f)]
		if !ok {
			return nil, fmt.Errorf("frame %s was never appended", key(&f))
		}
		if !same(want, f) {
			return nil, fmt.Errorf("frame %s differs: %s", key(&f), cmp.Diff(want, f))
		}
		if id, ok := w.known[key(&f)]; ok {
			got[id] = true
		}
	}
	// All that was promised is there.
	newest := -1
	for id := range w.frames {
		f := &w.frames[id]
		if got[id] {
			newest = id
		} else if id < m.synced && !w.gone[id] && f.last() > m.sealed[f.Stream] {
			return nil, fmt.Errorf("frame %d (%s) was synced and is lost; %d are promised, report %+v", id, key(f), m.synced, rec.Report())
		}
	}
	// And of the rest, all up to some moment.
	for id := range newest {
		if f := &w.frames[id]; !got[id] && !w.gone[id] && f.last() > m.sealed[f.Stream] {
			return nil, fmt.Errorf("frame %d is there, and %d is not", newest, id)
		}
	}
	for s, limit := range m.limits {
		if l := rec.Report().Limits[testEpoch][s]; l < limit {
			return nil, fmt.Errorf("limit of stream %d is %d, was raised to %d", s, l, limit)
		}
	}
	if n := rec.Report().Lost; n > 0 {
		return nil, fmt.Errorf("%d frames are called damaged: %+v", n, rec.Report())
	}
	return got, nil
}
