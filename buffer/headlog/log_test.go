package headlog

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

func none(func(Frame) bool) {}

// seqs returns tails of one record each.
func seqs(list ...edgeagent.Seq) iter.Seq[Frame] {
	return func(yield func(Frame) bool) {
		for _, s := range list {
			if !yield(reading(s)) {
				return
			}
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	l := begun(t, newSimFS(nil))
	valid := reading(1)
	with := func(change func(*Frame)) Frame {
		f := valid
		change(&f)
		return f
	}
	tests := map[string]struct {
		frame Frame
		want  error // nil: any
	}{
		"no kind":              {with(func(f *Frame) { f.Kind = 0 }), nil},
		"a kind of the log's":  {with(func(f *Frame) { f.Kind = kindHeader }), nil},
		"no stream":            {with(func(f *Frame) { f.Stream = 0 }), nil},
		"an unknown stream":    {with(func(f *Frame) { f.Stream = 5 }), nil},
		"number 0":             {with(func(f *Frame) { f.First = 0 }), nil},
		"no records":           {with(func(f *Frame) { f.Count = 0 }), nil},
		"a number over 2^53":   {with(func(f *Frame) { f.First = 1 << 53 }), nil},
		"the last over 2^53":   {with(func(f *Frame) { f.First, f.Count = 1<<53-2, 9 }), nil},
		"a number not its own": {with(func(f *Frame) { f.First = 1 << 32 }), ErrLimit},
		"the last at limit":    {with(func(f *Frame) { f.First, f.Count = 1<<32-2, 3 }), ErrLimit},
		"a payload too large":  {with(func(f *Frame) { f.Payload = make([]byte, l.MaxPayload()+1) }), nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := l.Append(tt.frame)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if st := l.Stats(); st.Frames != 0 || st.Degraded != nil {
		t.Errorf("refusals left traces: %+v", st)
	}
	for _, f := range []Frame{
		valid,
		with(func(f *Frame) { f.First, f.Count = 1<<32-2, 2 }),
		with(func(f *Frame) { f.Kind, f.First, f.Stream = Acks, 1<<60, 0 }),
		with(func(f *Frame) { f.Epoch, f.First = 1, 1<<40 }), // an older epoch has its own limits
		with(func(f *Frame) { f.Payload = make([]byte, l.MaxPayload()) }),
	} {
		if err := l.Append(f); err != nil {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// TestFramesComeBack as they were appended, every field of them.
func TestFramesComeBack(t *testing.T) {
	d := newSimFS(nil)
	l := begun(t, d)
	want := []Frame{
		{Kind: Series, Payload: []byte("definitions")},
		{
			Kind: Readings, Stream: edgeagent.StreamTelemetry, Flags: Unsynced | Starts, Resolution: 6, Base: -1e15,
			Run: 0xffffffff, First: 1<<32 - 10, Count: 7, Payload: []byte{1},
		},
		{Kind: Events, Stream: edgeagent.StreamAlarm, Epoch: 0xabc, First: 1, Count: 1},
		{Kind: 77, Payload: []byte("of a later version")},
	}
	for _, f := range want {
		if err := l.Append(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := Recover("/sim", Options{Size: MinSize, FS: d})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []Frame
	for f, err := range r.Frames() {
		if err != nil {
			t.Fatal(err)
		}
		f.Payload = slices.Clone(f.Payload)
		got = append(got, f)
	}
	for i := range want {
		if want[i].Epoch == 0 {
			want[i].Epoch = testEpoch
		}
	}
	if diff := cmp.Diff(want, got, cmp.Transformer("payload", func(b []byte) string { return string(b) })); diff != "" {
		t.Errorf("recovered frames (-want +got):\n%s", diff)
	}
}

func TestRotation(t *testing.T) {
	d := newSimFS(nil)
	l := begun(t, d)
	next := edgeagent.Seq(1)
	fill := func() {
		t.Helper()
		for {
			err := l.Append(reading(next))
			if errors.Is(err, ErrFull) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			next++
		}
	}
	fill()
	if err := l.Rotate(t.Context(), seqs(next-2, next-1)); err != nil {
		t.Fatal(err)
	}
	if !l.Stats().Unreleased {
		t.Error("the old file is not held back")
	}
	if got := recovered(t, d); len(got) != int(next-1)+2 {
		t.Errorf("%d frames before the release, want those of both files", len(got))
	}
	if err := l.Rotate(t.Context(), none); !errors.Is(err, ErrUnreleased) {
		t.Errorf("rotation into a file that is not released: %v", err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := recovered(t, d); !slices.Equal(got, []edgeagent.Seq{next - 2, next - 1}) {
		t.Errorf("recovered %v", got)
	}
	kept := next - 1
	fill()
	huge := func(yield func(Frame) bool) {
		for yield(reading(1)) {
		}
	}
	if err := l.Rotate(t.Context(), huge); !errors.Is(err, ErrFull) {
		t.Errorf("rotation with more than fits: %v", err)
	}
	if err := l.Rotate(t.Context(), func(yield func(Frame) bool) { yield(Frame{}) }); err == nil {
		t.Error("rotation with a frame that is none")
	}
	if got := recovered(t, d); got[0] != kept-1 || got[len(got)-1] != next-1 || len(got) != int(next-kept)+1 {
		t.Errorf("after rotations that came to nothing: %v", got)
	}
	if err := l.Rotate(t.Context(), none); err != nil {
		t.Fatal(err)
	}
	fill()
	if st := l.Stats(); st.Rotations != 3 || st.Files != 2 || st.Moved != 2 {
		t.Errorf("stats %+v", st)
	}
}

// TestUnfinishedRotation: what a rotation wrote that came to nothing does not come
// back a second time, behind what is newer.
func TestUnfinishedRotation(t *testing.T) {
	d := newSimFS(nil)
	r, err := Recover("/sim", Options{Size: 4 * MinSize, FS: d})
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.Start(t.Context(), Head{Epoch: testEpoch, Limits: Limits{0, 99, 99, 99, 99}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Append(reading(1)); err != nil {
		t.Fatal(err)
	}
	writes := d.calls
	tails := func(yield func(Frame) bool) {
		for yield(reading(1)) {
		}
	}
	if err := l.Rotate(t.Context(), tails); !errors.Is(err, ErrFull) || d.calls < writes+2 {
		t.Fatalf("rotation with more than fits: %v after %d writes", err, d.calls-writes)
	}
	if err := l.Append(reading(2)); err != nil {
		t.Fatal(err)
	}
	if got := recovered(t, d); !slices.Equal(got, []edgeagent.Seq{1, 2}) {
		t.Errorf("recovered %v", got)
	}
}

// TestLimitsStandInBothFiles: either file alone, and no frame, tells the limits.
func TestLimitsStandInBothFiles(t *testing.T) {
	d := newSimFS(nil)
	l := begun(t, d)
	if err := l.Raise(t.Context(), edgeagent.StreamAlarm, 1<<33); err != nil {
		t.Fatal(err)
	}
	if err := l.Raise(t.Context(), edgeagent.StreamAlarm, 5); err != nil { // lower: nothing
		t.Fatal(err)
	}
	want := Limits{0, 1 << 33, 1 << 32, 1 << 32, 1 << 32}
	for _, lost := range []string{"head-0", "head-1"} {
		files := d.files()
		delete(files, lost)
		r, err := Recover("/sim", Options{Size: MinSize, FS: newSimFS(files)})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Report(); got.Limits[testEpoch] != want || got.Epoch != testEpoch {
			t.Errorf("without %s: epoch %v, limits %v", lost, got.Epoch, got.Limits)
		}
		// Numbers of an epoch are bound by what was found, not by what the caller
		// remembers; those of another are not.
		l, err := r.Start(t.Context(), Head{Epoch: testEpoch, Limits: Limits{0, 1, 1, 1, 1 << 40}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Stats().Limits; got != (Limits{0, 1 << 33, 1 << 32, 1 << 32, 1 << 40}) {
			t.Errorf("started with limits %v", got)
		}
	}
	for _, s := range []edgeagent.Stream{0, 5} {
		if err := l.Raise(t.Context(), s, 9); err == nil {
			t.Errorf("raised the limit of %v", s)
		}
	}
	if err := l.Raise(t.Context(), edgeagent.StreamAlarm, 1<<53+1); err == nil {
		t.Error("raised a limit over 2^53")
	}
}

// TestSizeChanges: files of another size are read, and brought to size when they
// are reused.
func TestSizeChanges(t *testing.T) {
	d := newSimFS(nil)
	next := edgeagent.Seq(1)
	for _, size := range []int64{MinSize, 4 * MinSize, 2 * MinSize, MinSize} {
		r, err := Recover("/sim", Options{Size: size, FS: d})
		if err != nil {
			t.Fatal(err)
		}
		var got []edgeagent.Seq
		for f := range r.Frames() {
			got = append(got, f.First)
		}
		if len(got) != int(next-1) {
			t.Fatalf("%d frames, want %d", len(got), next-1)
		}
		tails := func(yield func(Frame) bool) { // straight from the old files into the new
			for f := range r.Frames() {
				if !yield(f) {
					return
				}
			}
		}
		l, err := r.Start(t.Context(), Head{Epoch: testEpoch, Limits: Limits{0, 99, 99, 99, 99}}, tails)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if err := l.Append(reading(next)); err != nil {
				t.Fatal(err)
			}
			next++
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, b := range d.files() {
			if int64(len(b)) != size {
				t.Errorf("%s has %d bytes, want %d", name, len(b), size)
			}
		}
	}
}

// TestOtherFormat is refused, not overwritten.
func TestOtherFormat(t *testing.T) {
	b := make([]byte, MinSize)
	copy(b, appendFrame(nil, 0, place{gen: 1 << 40}, &Frame{Kind: kindHeader, Payload: []byte{version + 1, 2, 3}}))
	if _, err := Recover("/sim", Options{Size: MinSize, FS: newSimFS(map[string][]byte{"head-1": b})}); !errors.Is(err, ErrFormat) {
		t.Errorf("files of a later version: %v", err)
	}
}

func TestClosed(t *testing.T) {
	d := newSimFS(nil)
	r, err := Recover("/sim", Options{Size: MinSize, FS: d})
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.Start(t.Context(), Head{Epoch: testEpoch}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range r.Frames() {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("frames of a recovery that was handed on: %v", err)
		}
	}
	if _, err := r.Start(t.Context(), Head{}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("second start: %v", err)
	}
	for range 2 {
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	for name, err := range map[string]error{
		"append": l.Append(reading(1)), "sync": l.Sync(ctx), "rotate": l.Rotate(ctx, nil), "release": l.Release(ctx),
		"raise": l.Raise(ctx, edgeagent.StreamAlarm, 9),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
