package segment

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

func block(first, size int) Block {
	b := make([]byte, size)
	copy(b, "EB")
	for i := 2; i < size; i++ {
		b[i] = byte(first + i)
	}
	return Block{First: edgeagent.Seq(first), Starts: first%3 == 0, Encoded: b}
}

func create(t testing.TB, dir string) *Segment {
	t.Helper()
	s, err := Create(filepath.Join(dir, "a.seg"), 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// firsts returns the numbers of the blocks that Each calls for.
func firsts(t testing.TB, s *Segment, from edgeagent.Seq) (out []int) {
	t.Helper()
	err := s.Each(from, func(b Block) bool {
		if diff := cmp.Diff(block(int(b.First), len(b.Encoded)), b); diff != "" {
			t.Fatal(diff)
		}
		out = append(out, int(b.First))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAppendAndEach(t *testing.T) {
	s := create(t, t.TempDir())
	if got := firsts(t, s, 1); got != nil {
		t.Errorf("an empty segment holds %v", got)
	}
	if err := s.Append([]Block{block(10, 100), block(20, 32<<10)}, [][]byte{[]byte("one")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Append([]Block{block(30, 70)}, [][]byte{[]byte("two")}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		from edgeagent.Seq
		want []int
	}{
		{1, []int{10, 20, 30}},
		{10, []int{10, 20, 30}},
		{19, []int{10, 20, 30}},
		{20, []int{20, 30}},
		{25, []int{20, 30}},
		{99, []int{30}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, firsts(t, s, tt.from)); diff != "" {
			t.Errorf("from %d: %s", tt.from, diff)
		}
	}
	var series []string
	if err := s.Series(func(b []byte) bool { series = append(series, string(b)); return true }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one", "two"}, series); diff != "" {
		t.Error(diff)
	}
}

func TestReopenedSegmentGoesOn(t *testing.T) {
	s := create(t, t.TempDir())
	for i := range 50 {
		if err := s.Append([]Block{block(i+1, 300)}, [][]byte{{byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var blocks, series int
	err := Contents(s.path, func(Block) error { blocks++; return nil }, func([]byte) error { series++; return nil })
	if err != nil || blocks != 50 || series != 50 {
		t.Errorf("%d blocks, %d series, %v", blocks, series, err)
	}
	for _, readOnly := range []bool{true, false} {
		r, err := Open(s.path, readOnly, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(firsts(t, r, 1)); n != 50 {
			t.Errorf("%d blocks", n)
		}
		if err := r.Append([]Block{block(51, 10)}, [][]byte{{50}}); (err == nil) == readOnly {
			t.Errorf("append to a read-only segment %v: %v", readOnly, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBrokenSegmentRefusesAppends(t *testing.T) {
	dir := t.TempDir()
	fail := false
	s, err := Create(filepath.Join(dir, "a.seg"), 1<<20, func(op Op, _ string) error {
		if fail && op == OpCommitted {
			return syscall.EIO
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Append([]Block{block(1, 100)}, nil); err != nil {
		t.Fatal(err)
	}
	fail = true
	if err := s.Append([]Block{block(2, 100)}, nil); !errors.Is(err, syscall.EIO) {
		t.Errorf("append: %v", err)
	}
	fail = false
	if err := s.Append([]Block{block(2, 100)}, nil); !errors.Is(err, ErrBroken) {
		t.Errorf("append: %v", err)
	}
	if got := firsts(t, s, 1); len(got) == 0 || got[0] != 1 {
		t.Errorf("what was stored before is gone: %v", got)
	}
}

func TestSparseSegmentSurvivesTruncation(t *testing.T) {
	s := create(t, t.TempDir())
	if err := s.Append([]Block{block(1, 100)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.path, 3*pageSize); err != nil {
		t.Fatal(err)
	}
	if err := Verify(s.path, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("verify: %v", err)
	}
}

func TestCreateRefusesWhatIsThere(t *testing.T) {
	s := create(t, t.TempDir())
	if _, err := Create(s.path, 1<<20, nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("create: %v", err)
	}
	if _, err := Open(s.path+"x", false, 1<<20, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
}

func TestFormatIsChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	st, _, err := OpenStore(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	err = Contents(path, func(Block) error { return nil }, func([]byte) error { return nil })
	if !errors.Is(err, ErrFormat) {
		t.Errorf("a store passes as a segment: %v", err)
	}
	s := create(t, t.TempDir())
	if err := s.Append([]Block{block(1, 10)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenStore(s.path, nil); !errors.Is(err, ErrFormat) {
		t.Errorf("a segment passes as a store: %v", err)
	}
}

// TestCostOfSmallCommits keeps an eye on what a commit of one small block costs.
func TestCostOfSmallCommits(t *testing.T) {
	s := create(t, t.TempDir())
	s.db.NoSync = true
	const commits, size = 1000, 300
	for i := range commits {
		if err := s.Append([]Block{block(i+1, size)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("file: %.2f bytes a logical byte", float64(s.Used())/(commits*size))
	if s.Used() > commits*size*8/5 {
		t.Errorf("%d bytes for %d blocks of %d", s.Used(), commits, size)
	}
}

func TestSlackBoundsGrowth(t *testing.T) {
	s := create(t, t.TempDir())
	for i, size := range []int{70, 32 << 10, 70, 32 << 10, 32 << 10, 5000, 70, 32 << 10, 4096, 4000, 32 << 10} {
		before := s.Used()
		if err := s.Append([]Block{block(i+1, size)}, nil); err != nil {
			t.Fatal(err)
		}
		if grown := s.Used() - before; grown > int64(size)+Slack {
			t.Errorf("a block of %d bytes grew the file by %d", size, grown)
		}
	}
}

func ExampleCreate() {
	dir, err := os.MkdirTemp("", "segment")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	s, err := Create(filepath.Join(dir, "0001.seg"), 1<<20, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	err = s.Append([]Block{{First: 1, Encoded: []byte("one")}, {First: 100, Encoded: []byte("two")}}, nil)
	fmt.Println(err)
	err = s.Each(42, func(b Block) bool {
		fmt.Println(b.First, string(b.Encoded))
		return true
	})
	fmt.Println(err)
	// Output:
	// <nil>
	// 1 one
	// 100 two
	// <nil>
}
