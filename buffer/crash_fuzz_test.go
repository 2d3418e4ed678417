package buffer

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// FuzzState puts a file or a value of anybody's making into state.db, its checksum
// right. The buffer must start or say that the directory is foreign, give no wrong
// value, and go on.
func FuzzState(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 1))
	dir := memDir(f)
	w := newSimWorld(rnd, dir)
	if _, err := w.open(); err != nil {
		f.Fatal(err)
	}
	if err := w.live(80); err != nil {
		f.Fatal(err)
	}
	w.b.crash()
	files := takeUp(f, dir)
	state := files[stateFile]
	entries := stateEntries(f, filepath.Join(dir, stateFile))
	for i, e := range entries {
		f.Add(uint8(i), e.Value)
		f.Add(uint8(i), []byte("{}"))
	}
	f.Add(uint8(255), state)
	f.Add(uint8(255), state[:2*simPage])
	f.Fuzz(func(t *testing.T, which uint8, value []byte) {
		if len(value) > 1<<20 {
			t.Skip("too long")
		}
		files := maps.Clone(files)
		if int(which) >= len(entries) {
			files[stateFile] = append([]byte{}, value...)
		}
		dir := putDown(t, files)
		if int(which) < len(entries) {
			e := entries[which]
			e.Value = value
			if e.Bucket != bucketSeries {
				sum := checksum(e.Bucket, e.Key, value)
				e.Value = append([]byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)}, value...)
			}
			st, _, err := segment.OpenStore(filepath.Join(dir, stateFile), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(st.Commit([]segment.Change{e}), st.Close()); err != nil {
				t.Fatal(err)
			}
		}
		o := w.o
		err := inTime("open", func() error { return w.useForeign(dir, o) })
		if err != nil {
			t.Error(err)
		}
	})
}

// stateEntries returns all values of a store, without checksums.
func stateEntries(t testing.TB, path string) (out []segment.Change) {
	t.Helper()
	st, _, err := segment.OpenStore(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, bucket := range []string{
		bucketBuffer, bucketEpochs, bucketStreams, bucketSegments, bucketSeries, bucketDestinations, bucketCursors,
	} {
		err := st.Each(bucket, nil, func(key, value []byte) error {
			if bucket != bucketSeries {
				value = value[4:]
			}
			out = append(out, segment.Change{Bucket: bucket, Key: bytes.Clone(key), Value: bytes.Clone(value)})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// useForeign opens a buffer whose state says anything, reads all that is there and
// appends.
func (w *simWorld) useForeign(dir string, o Options) error {
	b, _, err := Open(context.Background(), dir, o)
	if err != nil {
		if errors.Is(err, ErrForeign) {
			return nil
		}
		return err
	}
	defer b.crash()
	for _, s := range edgeagent.Streams() {
		id := simChain{w.now.epoch, s}
		h, err := readChain(b, id)
		if err != nil {
			continue // names that are gone: an error, as long as it is not a wrong value
		}
		for seq, c := range h.records {
			// A name may be another, for the state gives the names.
			want := w.accepted[simID{id, seq}]
			if want.value != c.value || want.detail != c.detail {
				return errWrong
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := b.Append(ctx, []edgeagent.Reading{w.reading()}); err != nil && b.Health().Level == edgeagent.OK {
		return err
	}
	return b.Close(context.Background())
}

// FuzzLife lives a life after a script, a byte a step, with power cuts in it, and
// holds the buffer against what was promised at every cut and at the end.
func FuzzLife(f *testing.F) {
	f.Add(uint64(1), []byte{0, 1, 2, 0, 5, 7, 0, 3, 6, 15, 0, 0, 4})
	f.Add(uint64(2), bytes.Repeat([]byte{0, 8, 16, 1, 9, 2, 3, 4, 5, 6, 0, 39}, 4))
	f.Add(uint64(3), bytes.Repeat([]byte{0xf8, 0x3, 0x7}, 10))
	f.Fuzz(func(t *testing.T, seed uint64, script []byte) {
		if len(script) > 200 {
			t.Skip("too long")
		}
		w := newSimWorld(rand.New(rand.NewPCG(seed, 1)), memDir(t))
		w.record()
		if _, err := w.open(); err != nil {
			t.Fatal(err)
		}
		defer func() { w.b.crash() }()
		for i, c := range script {
			var err error
			if c%8 == 7 {
				if w, err = w.surviveCut(t, cutModes[int(c/8)%len(cutModes)]); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				continue
			}
			if err := w.act(c%8, int(c/8)); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
		}
		w.b.crash()
		if err := w.afterFaults(t); err != nil {
			t.Fatal(err)
		}
	})
}

// act does one thing.
func (w *simWorld) act(what byte, arg int) error {
	switch what {
	case 0:
		return w.append(edgeagent.StreamTelemetry, 1+arg*arg)
	case 1:
		return w.append(edgeagent.StreamAlarm, 1+arg)
	case 2:
		return w.append(edgeagent.StreamEvent, 1+arg)
	case 3:
		return w.sync()
	case 4:
		return w.ack()
	case 5:
		return w.squeeze()
	case 6:
		return w.reopen()
	}
	return nil
}

// surviveCut cuts the power now, and returns the world that goes on.
func (w *simWorld) surviveCut(t *testing.T, mode string) (*simWorld, error) {
	w.b.crash()
	m := newSimMedium(w.rnd, simLies{})
	m.play(w.tape.steps, len(w.tape.steps))
	files := m.cut(mode)
	dir := putDown(t, files)
	left, err := w.afterCut(dir, m.note)
	_ = os.RemoveAll(dir)
	if err != nil {
		return w, err
	}
	next := w.fork(w.rnd, putDown(t, files), m.note, left)
	_ = os.RemoveAll(w.dir)
	next.record()
	_, err = next.open()
	for id, h := range left {
		p := next.now.chains[id]
		if n := len(h.ranges); n > 0 {
			p.durable = max(p.durable, min(p.given, h.ranges[n-1].To))
			next.now.chains[id] = p
		}
	}
	return next, err
}
