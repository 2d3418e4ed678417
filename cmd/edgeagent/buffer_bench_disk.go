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
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
)

const (
	benchBatch   = 100             // readings in an append
	benchAppends = 2 * time.Second // how long appends are repeated
	benchSensors = 10              // that share a rate
	benchDisk    = 64 << 20        // bytes of the device's file system
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

// benchPaced counts syncs and device bytes at given rates, all side by side.
func benchPaced(ctx context.Context, dir string, data []edgeagent.Reading, o benchOptions, r *benchReport) error {
	var device benchDevice
	reason := "left out: --device=false"
	if o.device {
		reason = noLoopDevice()
	}
	g, each := errgroup.WithContext(ctx)
	for i, p := range []struct {
		rate   int
		online bool
		syncs  *float64
	}{
		{10, false, &r.Fsyncs.Offline10},
		{10, true, &r.Fsyncs.Online10},
		{100, false, &r.Fsyncs.Offline100},
		{100, true, &r.Fsyncs.Online100},
	} {
		g.Go(func() (err error) {
			*p.syncs, _, err = paced(each, filepath.Join(dir, "paced"+strconv.Itoa(i)), data, p.rate, p.online, o.each)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if reason != "" {
		r.DeviceReason = reason
		return nil
	}
	var err error
	if device.At10, err = onDevice(ctx, filepath.Join(dir, "device10"), data, 10, o.each); err == nil {
		device.At100, err = onDevice(ctx, filepath.Join(dir, "device100"), data, 100, o.each)
	}
	if err != nil { // mounting needs more than being root, in a container
		r.DeviceReason = err.Error()
		return ctx.Err()
	}
	r.Device = &device
	return nil
}

// paced appends rate readings a second, from ten sensors, for a while. It returns
// the syncs of the disk for a thousand of them, and how many there were.
func paced(ctx context.Context, dir string, data []edgeagent.Reading, rate int, online bool, d time.Duration) (syncs float64, n uint64, err error) {
	b, err := openBench(ctx, dir, "a")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, b.Close(context.WithoutCancel(ctx))) }()
	if err := b.Register(buffer.Destination{Name: "cloud", Durable: true}); err != nil {
		return 0, 0, err
	}
	background, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(background) }) // ends without an error
	defer func() { stop(); running.Wait() }()
	source, one := newEndless(data), make([]edgeagent.Reading, 1)
	before := b.Stats()
	interval := benchSensors * time.Second / time.Duration(rate)
	g, ctx := errgroup.WithContext(ctx)
	queue := make(chan edgeagent.Reading, benchSensors)
	for range benchSensors {
		g.Go(func() error {
			for r := range queue {
				last, err := b.Append(ctx, []edgeagent.Reading{r})
				if err == nil && online {
					err = b.Ack(ctx, "cloud", b.Epoch(), edgeagent.StreamTelemetry, []edgeagent.Range{{From: last, To: last}})
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(queue)
		tick := time.NewTicker(interval / benchSensors)
		defer tick.Stop()
		for left := max(int(d.Seconds()*float64(rate)), 1); left > 0; left-- {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			source.next(one)
			select {
			case queue <- one[0]:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return 0, 0, err
	}
	after := b.Stats()
	n = after.Streams[edgeagent.StreamTelemetry].Appended
	return round(float64(after.Syncs-before.Syncs) * 1000 / float64(n)), n, nil
}

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

// onDevice makes an ext4 file system in a file, appends to a buffer on it, and
// returns the bytes that its block device was asked to write for each reading:
// journal and inodes included.
func onDevice(ctx context.Context, dir string, data []edgeagent.Reading, rate int, d time.Duration) (per float64, err error) {
	mnt := filepath.Join(dir, "mnt")
	if err := os.MkdirAll(mnt, 0o700); err != nil {
		return 0, err
	}
	image := filepath.Join(dir, "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, benchDisk)); err != nil {
		return 0, err
	}
	if _, err := tool(ctx, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image); err != nil {
		return 0, err
	}
	loop, err := tool(ctx, "losetup", "--find", "--show", image)
	if err != nil {
		return 0, err
	}
	last := context.WithoutCancel(ctx) // what was set up is taken down in any case
	defer func() {
		_, e := tool(last, "losetup", "--detach", loop)
		err = errors.Join(err, e)
	}()
	if _, err := tool(ctx, "mount", loop, mnt); err != nil {
		return 0, err
	}
	defer func() {
		_, e := tool(last, "umount", mnt)
		err = errors.Join(err, e)
	}()
	before, err := written(ctx, loop, mnt)
	if err != nil {
		return 0, err
	}
	_, n, err := paced(ctx, filepath.Join(mnt, "buffer"), data, rate, false, d)
	if err != nil {
		return 0, err
	}
	after, err := written(ctx, loop, mnt)
	return round(float64(after-before) / float64(n)), err
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
