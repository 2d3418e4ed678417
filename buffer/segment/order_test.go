package segment

import (
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"go.etcd.io/bbolt"
)

// TestCommitOrder holds bbolt to the order that the buffer's power-cut simulator
// takes for granted: a commit writes pages in rising order, and then one of the
// two header pages, by turns. (Between them and at the end it syncs, unless one of
// two switches is set.) What writes is a private field of bbolt: if it is gone,
// look at the new version's order, and mend this test.
func TestCommitOrder(t *testing.T) {
	s, err := Create(filepath.Join(t.TempDir(), "x.seg"), 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.db.NoSync || s.db.NoGrowSync {
		t.Error("commits are not synced")
	}
	var written []int64
	hookWrites(t, s.db, func(off int64) { written = append(written, off) })
	last := int64(-1)
	for i := range 40 {
		written = nil
		if err := s.Append([]Block{block(1+i*10, 3000+i*500)}, [][]byte{{1}}); err != nil {
			t.Fatal(err)
		}
		n := len(written) - 1
		header := written[n]
		if n < 1 || !slices.IsSorted(written[:n]) || written[0] < 2*pageSize {
			t.Errorf("commit %d wrote pages at %v", i, written)
		}
		if header != 0 && header != pageSize || header == last {
			t.Errorf("commit %d wrote its header at %d, the one before at %d", i, header, last)
		}
		last = header
	}
}

// hookWrites calls f with the offset of every write.
func hookWrites(t *testing.T, db *bbolt.DB, f func(off int64)) {
	t.Helper()
	ops := reflect.ValueOf(db).Elem().FieldByName("ops")
	if !ops.IsValid() || !ops.FieldByName("writeAt").IsValid() {
		t.Fatal("bbolt.DB has no field ops.writeAt any more")
	}
	field := ops.FieldByName("writeAt")
	writeAt, ok := reflect.TypeAssert[*func([]byte, int64) (int, error)](reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())))
	if !ok {
		t.Fatalf("bbolt.DB's field ops.writeAt is a %s now", field.Type())
	}
	inner := *writeAt
	*writeAt = func(b []byte, off int64) (int, error) {
		f(off)
		return inner(b, off)
	}
}
