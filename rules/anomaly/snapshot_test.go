package anomaly

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/edgeagent/edgeagent"
)

// taught returns a monitor in the middle of its work.
func taught(n int) *Monitor {
	m := NewMonitor(gaugeFacts())
	feed(m, 0, n, func(Verdict) {})
	return m
}

func gaugeFacts() Facts {
	lo, hi := -40.0, 125.0
	return Facts{Min: &lo, Max: &hi, MaxRate: 5, Every: time.Minute, Resolution: 0.01}
}

// feed gives a monitor the readings from to to of a day's curve with noise and
// whatever else can happen.
func feed(m *Monitor, from, to int, each func(Verdict)) {
	for i := from; i < to; i++ {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		x := 20 + 5*math.Sin(float64(i)*2*math.Pi/1440) + r.NormFloat64()*0.3
		switch {
		case i%1000 == 500:
			x += 30
		case i%3000 > 2900:
			x = 19
		case i%2000 == 700:
			x = math.NaN()
		case i%5000 == 4000:
			x = 300
		}
		run := int64(i) * int64(time.Minute)
		each(m.Observe(edgeagent.Instant{Wall: 1_700_000_000e9 + run, Run: run}, i%7 > 0, x))
	}
}

// TestSnapshotGoesOn cuts a series anywhere: what goes on from the snapshot says the
// same as what was never cut.
func TestSnapshotGoesOn(t *testing.T) {
	for _, cut := range []int{0, 1, 5, 8, 9, 30, 120, 1439, 2950, 7000} {
		whole, again := taught(cut), NewMonitor(gaugeFacts())
		snapshot := whole.AppendSnapshot(nil)
		if len(snapshot) != SnapshotSize {
			t.Fatalf("%d bytes, want %d", len(snapshot), SnapshotSize)
		}
		if err := again.Restore(snapshot); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		var want, got []Verdict
		feed(whole, cut, cut+3000, func(v Verdict) { want = append(want, v) })
		feed(again, cut, cut+3000, func(v Verdict) { got = append(got, v) })
		for i := range want {
			if want[i] != got[i] {
				t.Fatalf("cut at %d, reading %d: %+v, want %+v", cut, cut+i, got[i], want[i])
			}
		}
		if *whole != *again {
			t.Errorf("cut at %d: the states differ at the end", cut)
		}
	}
}

// TestSnapshotHoldsEverything changes each field of the state: the snapshot must show
// it, so that a field that is added cannot be forgotten.
func TestSnapshotHoldsEverything(t *testing.T) {
	m := taught(5000)
	was := m.AppendSnapshot(nil)
	n := 0
	eachNumber(reflect.ValueOf(&m.state).Elem(), "state", func(path string, v reflect.Value) {
		n++
		// Fields are not exported: they are set through their address.
		switch p := v.Addr().UnsafePointer(); v.Kind() {
		case reflect.Bool:
			*(*bool)(p) = !*(*bool)(p)
			defer func() { *(*bool)(p) = !*(*bool)(p) }()
		default:
			*(*byte)(p) ^= 1
			defer func() { *(*byte)(p) ^= 1 }()
		}
		if bytes.Equal(m.AppendSnapshot(nil), was) {
			t.Errorf("%s is not in the snapshot", path)
		}
	})
	if n < 400 {
		t.Errorf("looked at %d numbers only", n)
	}
}

func eachNumber(v reflect.Value, path string, f func(path string, v reflect.Value)) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			eachNumber(v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	case reflect.Array:
		for i := range v.Len() {
			eachNumber(v.Index(i), path+"[]", f)
		}
	default:
		f(path, v)
	}
}

func TestSnapshotRefuses(t *testing.T) {
	good := taught(3000).AppendSnapshot(nil)
	nan := bytes.Clone(good)
	for i := range 8 {
		nan[5+i] = 0xFF // learned
	}
	newer := bytes.Clone(good)
	newer[0]++
	for name, b := range map[string][]byte{
		"empty": nil, "short": good[:100], "long": append(bytes.Clone(good), 0), "not a number": nan, "another version": newer,
	} {
		m := taught(10)
		was := *m
		if err := m.Restore(b); err == nil {
			t.Errorf("%s: taken", name)
		}
		if *m != was {
			t.Errorf("%s: the monitor has changed", name)
		}
	}
}

func TestSize(t *testing.T) {
	if n := unsafe.Sizeof(Monitor{}); n > 4096 {
		t.Errorf("a monitor has %d bytes, want at most 4096", n)
	}
	if n := unsafe.Sizeof(Detector{}); n > 4096 {
		t.Errorf("a detector has %d bytes, want at most 4096", n)
	}
}

// FuzzRestore: whatever is restored works on, stays finite, and gives back what it
// was given. A patch is two bytes of an offset and eight to put there.
func FuzzRestore(f *testing.F) {
	var bases [][]byte
	for _, n := range []int{0, 50, 4000} {
		bases = append(bases, taught(n).AppendSnapshot(nil))
	}
	f.Add(uint8(0), []byte{}, 0)
	f.Add(uint8(1), []byte("\x01\x00\xff\xff\xff\xff\xff\xff\xef\x7f"), 0)
	f.Add(uint8(2), []byte("\x10\x01\x00\x00\x00\x00\x00\x00\xf0\x3f\x20\x00\x00\x00\x00\x00\x00\x00\xf0\xbf"), 0)
	f.Add(uint8(2), []byte{}, -1)
	f.Fuzz(func(t *testing.T, base uint8, patches []byte, longer int) {
		b := bytes.Clone(bases[int(base)%len(bases)])
		for ; len(patches) >= 10; patches = patches[10:] {
			at := int(binary.LittleEndian.Uint16(patches)) % (len(b) - 8)
			copy(b[at:], patches[2:10])
		}
		if longer < 0 {
			b = b[:max(0, len(b)+longer%len(b))]
		}
		m := NewMonitor(gaugeFacts())
		if m.Restore(b) != nil {
			return
		}
		if !bytes.Equal(m.AppendSnapshot(nil), b) {
			t.Fatal("not the same bytes again")
		}
		feed(m, 100, 400, func(v Verdict) {
			if !(v.Score >= 0 && v.Score <= 1) || math.IsNaN(v.Extent) {
				t.Fatalf("%+v", v)
			}
		})
		if err := NewMonitor(gaugeFacts()).Restore(m.AppendSnapshot(nil)); err != nil {
			t.Fatalf("poisoned: %v", err)
		}
	})
}
