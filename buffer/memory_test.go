package buffer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/headlog"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// sickDisk is the machine's disk, which fails when it is told to, and counts.
type sickDisk struct {
	fail     atomic.Pointer[error] // of every write, sync and new file
	syncs    atomic.Int64
	badSyncs atomic.Int64                  // that many fail
	hold     atomic.Pointer[chan struct{}] // syncs wait until it is closed
	held     chan struct{}                 // a sync waits
}

func newSickDisk() *sickDisk { return &sickDisk{held: make(chan struct{}, 100)} }

func (d *sickDisk) sick() error {
	if err := d.fail.Load(); err != nil {
		return *err
	}
	return nil
}

func (d *sickDisk) on(o *Options) {
	o.headFS = d
	o.faults = func(op segment.Op, _ string) error {
		if op == segment.OpRemove {
			return nil
		}
		return d.sick()
	}
}

func (d *sickDisk) OpenFile(path string, create bool) (headlog.File, error) {
	if err := d.sick(); err != nil && create {
		return nil, err
	}
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return &sickFile{f, d}, nil
}

func (d *sickDisk) Remove(path string) error { return os.Remove(path) }
func (d *sickDisk) SyncDir(string) error     { return d.sick() }

type sickFile struct {
	*os.File
	d *sickDisk
}

func (f *sickFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.d.sick(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *sickFile) Datasync() error {
	f.d.syncs.Add(1)
	if ch := f.d.hold.Load(); ch != nil {
		f.d.held <- struct{}{}
		<-*ch
	}
	if f.d.badSyncs.Add(-1) >= 0 {
		return syscall.EIO
	}
	return f.d.sick()
}

func (f *sickFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// TestDiskFailsForGood: the buffer goes on in memory, under another epoch, gives
// what it still holds, loses the oldest, and moves back when the disk can be used.
func TestDiskFailsForGood(t *testing.T) {
	dir, o, d := t.TempDir(), options(), newSickDisk()
	d.on(&o)
	c := &handClock{run: time.Second}
	o.Clock = c
	b := open(t, dir, o)
	register(t, b, "cloud")
	first := b.Epoch()
	mustAppend(t, b, 0, 100)
	flush(t, b)
	mustAppend(t, b, 100, 50) // in head log and memory only
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}

	eio := error(syscall.EIO)
	d.fail.Store(&eio)
	if last := mustAppend(t, b, 150, 7); last != 7 {
		t.Errorf("in memory numbers begin at %d", last)
	}
	second := b.Epoch()
	if second == first || !b.Stats().Memory || b.Health().Code != "buffer-memory" || b.Health().Level != edgeagent.Failed {
		t.Fatalf("epoch %s after %s, health %+v", second, first, b.Health())
	}
	if _, err := b.AppendEvents(t.Context(), edgeagent.StreamAlarm, []edgeagent.Event{{Kind: "alarm"}}); err != nil {
		t.Errorf("alarm: %v", err)
	}
	old := readAll(t, b, first)
	if len(old) != 50 || old[101] != 100 || old[150] != 149 {
		t.Errorf("%d records of the first epoch are left, want those in memory", len(old))
	}
	if got := readAll(t, b, second); len(got) != 7 || got[1] != 150 {
		t.Errorf("in memory: %v", got)
	}
	if err := b.Ack(t.Context(), "cloud", first, telemetry, []edgeagent.Range{{From: 1, To: 120}}); err != nil {
		t.Errorf("ack for the first epoch: %v", err)
	}
	if err := b.Ack(t.Context(), "cloud", second, telemetry, []edgeagent.Range{{From: 1, To: 3}}); err != nil {
		t.Errorf("ack for the second: %v", err)
	}

	c.run += retryDiskEvery // tried in vain
	if last := mustAppend(t, b, 157, 1); last != 8 || !b.Stats().Memory {
		t.Errorf("after a try in vain: %d, memory %v", last, b.Stats().Memory)
	}
	d.fail.Store(nil)
	mustAppend(t, b, 158, 1)
	if !b.Stats().Memory {
		t.Error("the disk was tried too early")
	}
	c.run += retryDiskEvery
	mustAppend(t, b, 159, 1) // still in memory, and then it is tried
	third := b.Epoch()
	if third == second || b.Stats().Memory || b.Health().Level != edgeagent.OK {
		t.Fatalf("epoch %s, health %+v", third, b.Health())
	}
	mustAppend(t, b, 160, 5)
	check := func(b *Buffer, when string) {
		t.Helper()
		want := map[edgeagent.Seq]float64{}
		for i := range 150 {
			want[edgeagent.Seq(i+1)] = float64(i)
		}
		if diff := cmp.Diff(want, readAll(t, b, first)); diff != "" {
			t.Errorf("%s, first epoch: %s", when, diff)
		}
		if got := readAll(t, b, second); len(got) != 10 || got[10] != 159 {
			t.Errorf("%s, in memory: %v", when, got)
		}
		if got := readAll(t, b, third); len(got) != 5 || got[1] != 160 {
			t.Errorf("%s, third epoch: %v", when, got)
		}
		if n := cursorOf(t, b, "cloud").Unconfirmed(); n != 150-120+10-3+5 {
			t.Errorf("%s: %d unconfirmed", when, n)
		}
		if gaps := b.Gaps(); len(gaps) > 0 {
			t.Errorf("%s: gaps %+v", when, gaps)
		}
		v, err := b.Verify(t.Context())
		noProblems(t, when, v, err)
	}
	check(b, "back on the disk")
	b.crash()
	o.headFS, o.faults = nil, nil
	b = open(t, dir, o)
	register(t, b, "cloud")
	check(b, "after a restart")
}

// TestMemoryIsBounded: without a disk the oldest readings give way, alarms last.
func TestMemoryIsBounded(t *testing.T) {
	o, d := options(), newSickDisk()
	d.on(&o)
	b := open(t, t.TempDir(), o)
	eio := error(syscall.EIO)
	d.fail.Store(&eio)
	if _, err := b.AppendEvents(t.Context(), edgeagent.StreamAlarm, []edgeagent.Event{{Kind: "alarm", ID: "a"}}); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		mustAppend(t, b, i*4000, 4000)
		if n := b.Stats().PendingBytes; n > maxTail {
			t.Fatalf("%d bytes in memory", n)
		}
	}
	got := readAll(t, b, b.Epoch())
	if len(got) < 50_000 || got[160_000] != 159_999 {
		t.Errorf("%d readings are left", len(got))
	}
	for s, v := range got {
		if v != float64(s-1) {
			t.Fatalf("number %d holds %v", s, v)
		}
	}
	st := b.Stats()
	if st.Forgotten+uint64(len(got)) != 160_000 || st.Streams[edgeagent.StreamAlarm].Stored != 1 || len(b.Gaps()) > 0 {
		t.Errorf("%d forgotten, %d left, alarms %+v, gaps %v", st.Forgotten, len(got), st.Streams[edgeagent.StreamAlarm], b.Gaps())
	}
	if err := b.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestOpenOnASickDisk begins in memory, and moves once the disk is well.
func TestOpenOnASickDisk(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EROFS, syscall.EIO, syscall.ENOSPC} {
		dir, o, d := filepath.Join(t.TempDir(), "buffer"), options(), newSickDisk()
		d.on(&o)
		c := &handClock{run: time.Second}
		o.Clock = c
		sick := error(errno)
		d.fail.Store(&sick)
		b, report := openReport(t, dir, o)
		if !b.Stats().Memory || report.NewEpoch != diskFailed || b.Health().Code != "buffer-memory" {
			t.Fatalf("%v: report %+v, health %+v", errno, report, b.Health())
		}
		register(t, b, "cloud")
		old := b.Epoch()
		mustAppend(t, b, 0, 10)
		d.fail.Store(nil)
		c.run += retryAfter(errno)
		mustAppend(t, b, 10, 1)
		if b.Stats().Memory || b.Epoch() == old {
			t.Errorf("%v: still in memory", errno)
		}
		mustAppend(t, b, 11, 3)
		closeBuffer(t, b)
		b = open(t, dir, o)
		register(t, b, "cloud")
		if diff := cmp.Diff(counted(11), readAll(t, b, old)); diff != "" {
			t.Errorf("%v: %s", errno, diff)
		}
		if n := cursorOf(t, b, "cloud").Unconfirmed(); n != 14 {
			t.Errorf("%v: %d unconfirmed", errno, n)
		}
		b.crash()
	}
}

// TestOneFailedSyncIsSurvived: the log moves to another file, and nothing is lost.
// The second failure is the end of the disk.
func TestOneFailedSyncIsSurvived(t *testing.T) {
	dir, o, d := t.TempDir(), options(), newSickDisk()
	d.on(&o)
	b := open(t, dir, o)
	epoch := b.Epoch()
	mustAppend(t, b, 0, 10)
	d.badSyncs.Store(1)
	if err := b.Sync(t.Context()); err != nil || b.Stats().Memory {
		t.Errorf("sync: %v, memory %v", err, b.Stats().Memory)
	}
	mustAppend(t, b, 10, 5)
	if _, err := b.AppendEvents(t.Context(), edgeagent.StreamAlarm, []edgeagent.Event{{Kind: "alarm"}}); err != nil {
		t.Error(err)
	}
	d.badSyncs.Store(1)
	mustAppend(t, b, 15, 5)
	if err := b.Sync(t.Context()); err != nil || !b.Stats().Memory {
		t.Errorf("second failure: %v, memory %v", err, b.Stats().Memory)
	}
	if diff := cmp.Diff(counted(20), readAll(t, b, epoch)); diff != "" {
		t.Error(diff)
	}
	b.crash()
	o.headFS, o.faults = nil, nil
	if diff := cmp.Diff(counted(20), readAll(t, open(t, dir, o), epoch)); diff != "" {
		t.Errorf("after a restart: %s", diff)
	}
}

// TestSlowSyncDelaysNobody: while a sync of the card takes as long as it likes,
// appends, reads and acks go on.
func TestSlowSyncDelaysNobody(t *testing.T) {
	o, d := options(), newSickDisk()
	d.on(&o)
	b := open(t, t.TempDir(), o)
	register(t, b, "cloud")
	mustAppend(t, b, 0, 10)
	if err := b.Sync(t.Context()); err != nil { // the series are durable now
		t.Fatal(err)
	}
	mustAppend(t, b, 10, 10)
	hold := make(chan struct{})
	d.hold.Store(&hold)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Sync(context.Background()); err != nil {
			t.Error(err)
		}
	})
	<-d.held // the card is at it
	for i := range 50 {
		mustAppend(t, b, 20+10*i, 10)
	}
	got, _ := drain(t, cursorOf(t, b, "cloud").Live(1), edgeagent.Limit{})
	if diff := cmp.Diff(counted(520), got); diff != "" {
		t.Error(diff)
	}
	if err := b.Ack(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{{From: 1, To: 520}}); err != nil {
		t.Error(err)
	}
	d.hold.Store(nil)
	close(hold)
	wg.Wait()
}

// TestOnlineNeedsNoSync: what all destinations have for good in time is not synced;
// what only one of them has, or one without durable acks, is.
func TestOnlineNeedsNoSync(t *testing.T) {
	tests := map[string]struct {
		dests []Destination
		acks  int // of how many of them
		syncs bool
	}{
		"nobody":             {nil, 0, true},
		"durable":            {[]Destination{{Name: "a", Durable: true}}, 1, false},
		"not durable":        {[]Destination{{Name: "a"}}, 1, true},
		"silent":             {[]Destination{{Name: "a", Durable: true}}, 0, true},
		"one of two":         {[]Destination{{Name: "a", Durable: true}, {Name: "b", Durable: true}}, 1, true},
		"both":               {[]Destination{{Name: "a", Durable: true}, {Name: "b", Durable: true}}, 2, false},
		"one is not durable": {[]Destination{{Name: "a", Durable: true}, {Name: "b"}}, 2, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, d := options(), newSickDisk()
				o.headFS = d
				b := open(t, t.TempDir(), o)
				for _, x := range tt.dests {
					if err := b.Register(x); err != nil {
						t.Fatal(err)
					}
				}
				ctx, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := b.Run(ctx); err != nil {
						t.Error(err)
					}
				})
				before := d.syncs.Load()
				const seconds = 100
				for i := range seconds * 10 {
					last := mustAppend(t, b, i, 1)
					time.Sleep(100 * time.Millisecond)
					for _, x := range tt.dests[:tt.acks] {
						if err := b.Ack(t.Context(), x.Name, b.Epoch(), telemetry, []edgeagent.Range{{From: 1, To: last}}); err != nil {
							t.Fatal(err)
						}
					}
				}
				n := d.syncs.Load() - before
				if tt.syncs && (n < seconds*9/10 || n > seconds*11/10) || !tt.syncs && n > 0 {
					t.Errorf("%d syncs for 1,000 readings in %d s", n, seconds)
				}
				stop()
				wg.Wait()
			})
		})
	}
}

// TestAcksSurviveAKill: cursors are in the head log.
func TestAcksSurviveAKill(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	register(t, b, "cloud")
	mustAppend(t, b, 0, 100)
	for _, r := range []edgeagent.Range{{From: 1, To: 10}, {From: 20, To: 29}, {From: 15, To: 16}} {
		if err := b.Ack(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{r}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // from the head log, and from what it moved to
		b.crash()
		b = open(t, dir, options())
		register(t, b, "cloud")
		if n := cursorOf(t, b, "cloud").Unconfirmed(); n != 78 {
			t.Errorf("%d unconfirmed, want 78", n)
		}
	}
}

// TestAlarmsAreSynced: an alarm is on the disk before its caller hears of it; an
// event is not, nor is a reading.
func TestAlarmsAreSynced(t *testing.T) {
	o, d := options(), newSickDisk()
	o.headFS = d
	b := open(t, t.TempDir(), o)
	before := d.syncs.Load()
	mustAppend(t, b, 0, 10)
	if _, err := b.AppendEvents(t.Context(), edgeagent.StreamEvent, []edgeagent.Event{{Kind: "x"}}); err != nil {
		t.Fatal(err)
	}
	if n := d.syncs.Load() - before; n != 0 {
		t.Errorf("%d syncs for readings and an event", n)
	}
	if _, err := b.AppendEvents(t.Context(), edgeagent.StreamAlarm, []edgeagent.Event{{Kind: "alarm"}}); err != nil {
		t.Fatal(err)
	}
	if n := d.syncs.Load() - before; n != 1 {
		t.Errorf("%d syncs for an alarm", n)
	}
}

// TestRunTwice: one owner at a time.
func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, t.TempDir(), options())
		var wg sync.WaitGroup
		wg.Go(func() { _ = b.Run(t.Context()) })
		synctest.Wait()
		if err := b.Run(t.Context()); err == nil {
			t.Error("the buffer runs twice")
		}
		closeBuffer(t, b)
		wg.Wait() // Close ends Run
		if _, err := b.Append(t.Context(), readings(0, 1)); !errors.Is(err, ErrClosed) {
			t.Errorf("append after close: %v", err)
		}
	})
}
