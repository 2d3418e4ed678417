package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
)

const (
	benchBatch   = 100             // readings in an append
	benchAppends = 2 * time.Second // how long appends are repeated
	benchDisk    = 512 << 20       // bytes of the device's file system
)

// endless gives data over and over, each time later than the last.
type endless struct {
	data []edgeagent.Reading
	at   int
	add  int64 // ns
	span int64
}

func newEndless(data []edgeagent.Reading) *endless {
	first, last := data[0].At.Wall, data[0].At.Wall
	for _, r := range data {
		first, last = min(first, r.At.Wall), max(last, r.At.Wall)
	}
	return &endless{data: data, span: last - first + int64(time.Second)}
}

// next overwrites dst with its next readings.
func (e *endless) next(dst []edgeagent.Reading) {
	for i := range dst {
		if e.at == len(e.data) {
			e.at, e.add = 0, e.add+e.span
		}
		dst[i] = e.data[e.at]
		dst[i].At.Wall += e.add
		e.at++
	}
}

// benchIdentity is a machine that does not change, but for its boots.
func benchIdentity(boot string) func(string) (buffer.Identity, error) {
	return func(string) (buffer.Identity, error) {
		return buffer.Identity{Machine: "bench", Inode: "1", FS: "1", Boot: boot, Mount: "1"}, nil
	}
}

func openBench(ctx context.Context, dir, boot string) (*buffer.Buffer, error) {
	b, _, err := buffer.Open(ctx, dir, buffer.Options{Device: "bench", Identify: benchIdentity(boot)})
	return b, err
}

// benchAppend appends batches that wait for nobody, and returns nanoseconds and
// allocations a reading.
func benchAppend(ctx context.Context, dir string, data []edgeagent.Reading, d time.Duration) (ns, allocs float64, err error) {
	b, err := openBench(ctx, dir, "a")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, b.Close(context.WithoutCancel(ctx))) }()
	source, batch := newEndless(data), make([]edgeagent.Reading, benchBatch)
	warm := make([]edgeagent.Reading, min(len(data), 10_000)) // names the series
	source.next(warm)
	if _, err := b.Append(ctx, warm); err != nil {
		return 0, 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, began := 0, time.Now()
	for time.Since(began) < d {
		source.next(batch)
		if _, err := b.Append(ctx, batch); err != nil {
			return 0, 0, err
		}
		n += len(batch)
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	return round(float64(took) / float64(n)), round(float64(after.Mallocs-before.Mallocs) / float64(n)), nil
}

// benchOpen fills a buffer, copies what a power cut would leave of it, and returns
// the milliseconds that opening the copy takes.
func benchOpen(ctx context.Context, dir string, data []edgeagent.Reading, readings int) (ms float64, err error) {
	b, err := openBench(ctx, dir, "a")
	if err != nil {
		return 0, err
	}
	source, batch := newEndless(data), make([]edgeagent.Reading, 4096)
	for left := readings; left > 0 && err == nil; left -= len(batch) {
		batch = batch[:min(left, len(batch))]
		source.next(batch)
		_, err = b.Append(ctx, batch)
	}
	cut := dir + "-cut"
	if err == nil {
		err = os.CopyFS(cut, os.DirFS(dir))
	}
	if err = errors.Join(err, b.Close(context.WithoutCancel(ctx))); err != nil {
		return 0, err
	}
	began := time.Now()
	if b, err = openBench(ctx, cut, "b"); err != nil {
		return 0, err
	}
	took := time.Since(began)
	records := b.Stats().Streams[edgeagent.StreamTelemetry].Stored
	if err := b.Close(ctx); err != nil {
		return 0, err
	}
	if records != uint64(readings) {
		return 0, fmt.Errorf("a buffer of %d readings was opened with %d", readings, records)
	}
	return round(float64(took) / 1e6), nil
}

// pace is a load whose syncs and device bytes are counted.
type pace struct {
	rate   int // readings a second, appended one by one
	online bool
	lasts  time.Duration // of the load, by its own clock
}

// benchPaced counts syncs and device bytes at given rates. Where there is a device to
// count at, the syncs are those of the same loads.
func benchPaced(ctx context.Context, dir string, data []edgeagent.Reading, o benchOptions, r *benchReport) error {
	reason := "left out: --device=false"
	if o.device {
		reason = noLoopDevice()
	}
	var device benchDevice
	for i, x := range []struct {
		pace
		syncs, bytes *float64
	}{
		{pace{10, false, o.each}, &r.Fsyncs.Offline10, &device.Offline10},
		{pace{10, true, o.each}, &r.Fsyncs.Online10, &device.Online10},
		{pace{100, false, o.each}, &r.Fsyncs.Offline100, &device.Offline100},
		{pace{100, true, o.each}, &r.Fsyncs.Online100, &device.Online100},
	} {
		at := filepath.Join(dir, "paced"+strconv.Itoa(i))
		var err error
		if reason == "" {
			*x.syncs, *x.bytes, err = onDevice(ctx, at, data, x.pace)
			if err == nil {
				continue
			}
			reason = err.Error() // mounting needs more than being root, in a container
			at += "-again"
		}
		if *x.syncs, err = paced(ctx, at, data, x.pace, func() error { return nil }); err != nil {
			return err
		}
	}
	if r.DeviceReason = reason; reason == "" {
		r.Device = &device
	}
	return nil
}

// benchClock stands still but for what the load makes of it: an hour passes in
// seconds, and each reading still has its own moment.
type benchClock struct{ run atomic.Int64 }

func (c *benchClock) advance(d time.Duration) { c.run.Add(int64(d)) }
func (c *benchClock) Wall() time.Time         { return time.Unix(1_800_000_000, c.run.Load()) }
func (c *benchClock) Run() time.Duration      { return time.Duration(c.run.Load()) }
func (c *benchClock) Synced() bool            { return true }

// benchAcks is how often a receiver confirms what it has.
const benchAcks = 500 * time.Millisecond

// paced appends readings one by one at the pace of a clock of its own, and returns
// the syncs of the disk for a thousand of them. ready is called when the buffer is
// open: what making its files costs is paid once in their life.
func paced(ctx context.Context, dir string, data []edgeagent.Reading, p pace, ready func() error) (syncs float64, err error) {
	clk := &benchClock{}
	b, _, err := buffer.Open(ctx, dir, buffer.Options{Device: "bench", Identify: benchIdentity("a"), Clock: clk})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close(context.WithoutCancel(ctx))) }()
	if err := b.Register(buffer.Destination{Name: "cloud", Durable: true}); err != nil {
		return 0, err
	}
	if err := ready(); err != nil {
		return 0, err
	}
	source, one := newEndless(data), make([]edgeagent.Reading, 1)
	before, told := b.Stats().Syncs, time.Duration(0)
	n := p.count()
	for range n {
		clk.advance(time.Second / time.Duration(p.rate))
		source.next(one)
		last, err := b.Append(ctx, one)
		if err == nil && p.online && clk.Run() >= told+benchAcks {
			told = clk.Run()
			err = b.Ack(ctx, "cloud", b.Epoch(), edgeagent.StreamTelemetry, []edgeagent.Range{{From: 1, To: last}})
		}
		if err != nil {
			return 0, err
		}
	}
	return round(float64(b.Stats().Syncs-before) * 1000 / float64(n)), nil
}

// count returns how many readings the load has.
func (p pace) count() int { return max(int(p.lasts.Seconds()*float64(p.rate)), 1) }

// noLoopDevice says why no device can be measured here, or "".
func noLoopDevice() string {
	switch {
	case runtime.GOOS != "linux":
		return "not linux"
	case os.Geteuid() != 0:
		return "not root"
	}
	for _, tool := range []string{"mkfs.ext4", "losetup", "mount", "umount", "sync"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed"
		}
	}
	return ""
}

// onDevice makes an ext4 file system in a file, runs a load on a buffer there, and
// returns its syncs and the bytes that the block device was asked to write for each
// reading: journal and inodes included.
func onDevice(ctx context.Context, dir string, data []edgeagent.Reading, p pace) (syncs, per float64, err error) {
	mnt := filepath.Join(dir, "mnt")
	if err := os.MkdirAll(mnt, 0o700); err != nil {
		return 0, 0, err
	}
	image := filepath.Join(dir, "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, benchDisk)); err != nil {
		return 0, 0, err
	}
	if _, err := tool(ctx, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image); err != nil {
		return 0, 0, err
	}
	loop, err := tool(ctx, "losetup", "--find", "--show", image)
	if err != nil {
		return 0, 0, err
	}
	last := context.WithoutCancel(ctx) // what was set up is taken down in any case
	defer func() {
		_, e := tool(last, "losetup", "--detach", loop)
		err = errors.Join(err, e)
	}()
	if _, err := tool(ctx, "mount", loop, mnt); err != nil {
		return 0, 0, err
	}
	defer func() {
		_, e := tool(last, "umount", mnt)
		err = errors.Join(err, e)
	}()
	var before uint64
	syncs, err = paced(ctx, filepath.Join(mnt, "buffer"), data, p, func() (err error) {
		before, err = written(ctx, loop, mnt)
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	after, err := written(ctx, loop, mnt)
	return syncs, round(float64(after-before) / float64(p.count())), err
}

// written returns how many bytes a device has been asked to write, once all that
// waits is written.
func written(ctx context.Context, device, mnt string) (uint64, error) {
	if _, err := tool(ctx, "sync", "-f", mnt); err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "stat"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat))
	if len(fields) < 7 {
		return 0, fmt.Errorf("counters of %s: %q", device, stat)
	}
	sectors, err := strconv.ParseUint(fields[6], 10, 64)
	return 512 * sectors, err
}

func tool(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, text)
	}
	return text, nil
}
