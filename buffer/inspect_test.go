package buffer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

func readOnly(t testing.TB, dir string) *ReadOnly {
	t.Helper()
	r, err := OpenReadOnly(t.Context(), dir, testKey())
	if err != nil {
		t.Fatalf("open to read: %v", err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// fingerprint says everything about the files of a directory that a reader could
// change: names, sizes, modes, times of change, contents.
func fingerprint(t testing.TB, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%s %v %d %d", path, fi.Mode(), fi.Size(), fi.ModTime().UnixNano())
		if !e.IsDir() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %x", sha256.Sum256(b))
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// numbered is a record's name within a stream.
type numbered struct {
	epoch edgeagent.Epoch
	seq   edgeagent.Seq
}

// values are the values of a stream by epoch and number, as Blocks gives them.
func values(t testing.TB, blocks func(f func([]byte) error) error) map[numbered]float64 {
	t.Helper()
	var dec block.Decoder
	out, named := map[numbered]float64{}, map[edgeagent.Epoch]uint32{}
	err := blocks(func(blk []byte) error {
		h, err := block.Check(blk)
		if err != nil {
			return err
		}
		if h.Kind == block.KindSeries {
			_, e, list, _, err := dec.Series(blk)
			named[e] = list[len(list)-1].ID
			return err
		}
		if h.MaxSeriesID > named[h.Epoch] {
			t.Errorf("block %d uses series %d before it is named", h.First, h.MaxSeriesID)
		}
		rows, _, err := dec.Readings(nil, blk)
		for i, row := range rows {
			key := numbered{h.Epoch, h.First + edgeagent.Seq(i)}
			if _, twice := out[key]; twice {
				t.Errorf("record %v comes twice", key)
			}
			out[key] = row.Value
		}
		return err
	})
	if err != nil {
		t.Fatalf("blocks: %v", err)
	}
	return out
}

func stoppedValues(t testing.TB, r *ReadOnly, q Query) (map[numbered]float64, uint64) {
	t.Helper()
	var lost uint64
	got := values(t, func(f func([]byte) error) (err error) { lost, err = r.Blocks(context.Background(), q, f); return err })
	return got, lost
}

func runningValues(t testing.TB, b *Buffer, q Query) map[numbered]float64 {
	t.Helper()
	return values(t, func(f func([]byte) error) error { return b.Blocks(context.Background(), q, f) })
}

var allReadings = Query{Stream: edgeagent.StreamTelemetry}

// noise makes n readings that do not compress, so that segments fill up.
func incompressible(seed uint64, n int) []edgeagent.Reading {
	rnd := rand.New(rand.NewPCG(seed, 1))
	out := readings(0, n)
	for i := range out {
		out[i].Value = rnd.Float64()
	}
	return out
}

func appendNoise(t testing.TB, b *Buffer, seed uint64, n int) {
	t.Helper()
	if _, err := b.Append(context.Background(), incompressible(seed, n)); err != nil {
		t.Fatal(err)
	}
}

func noProblems(t testing.TB, what string, v Verification, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("verify %s: %v", what, err)
	}
	for _, p := range v.Problems {
		t.Errorf("%s: %v", what, p)
	}
}

// TestStoppedAndRunningAgree: whatever way the agent ended, the files say what it
// said of itself, and reading them changes nothing.
func TestStoppedAndRunningAgree(t *testing.T) {
	ends := map[string]func(*Buffer){
		"closed": func(b *Buffer) { closeBuffer(t, b) },
		"killed": func(b *Buffer) { b.crash() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := options()
			o.MaxBytes, o.Policy = 4<<20, DropOldest
			open(t, dir, o).crash() // a run that appended nothing
			b := open(t, dir, o)
			register(t, b, "cloud")
			for i := range uint64(105) {
				appendNoise(t, b, i, 4096)
			}
			confirmed := b.Survey().Segments[0].To + 5
			if err := b.Ack(t.Context(), "cloud", b.Epoch(), edgeagent.StreamTelemetry, []edgeagent.Range{{From: 1, To: confirmed}}); err != nil {
				t.Fatal(err)
			}
			if _, err := b.AppendEvents(t.Context(), edgeagent.StreamAlarm, []edgeagent.Event{{Kind: "alarm", ID: "a/b/c"}}); err != nil {
				t.Fatal(err)
			}
			appendNoise(t, b, 999, 10)
			if err := b.save(nil); err != nil { // cursors, which a kill may take
				t.Fatal(err)
			}
			b.disk.Lock()
			err := b.checkpoint(t.Context(), false) // as Close does
			b.disk.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			running, rows := b.Survey(), runningValues(t, b, allReadings)
			v, err := b.Verify(t.Context())
			noProblems(t, "running", v, err)
			end(b)

			before := fingerprint(t, dir)
			r := readOnly(t, dir)
			stopped := r.Survey()
			stoppedRows, lost := stoppedValues(t, r, allReadings)
			w, err := r.Verify(t.Context())
			noProblems(t, "stopped", w, err)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, fingerprint(t, dir)); diff != "" {
				t.Errorf("reading changed the directory:\n%s", diff)
			}

			if len(running.Segments) < 4 || len(running.Gaps) == 0 || running.Segments[1].State != SegmentConfirmed {
				t.Fatalf("the test is too small: %+v", running.Segments)
			}
			same := cmpopts.IgnoreFields(Survey{}, "Running", "Clean", "MaxBytes", "Used")
			if diff := cmp.Diff(running, stopped, same, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b edgeagent.SeriesKey) bool { return a == b })); diff != "" {
				t.Errorf("survey (-running +stopped):\n%s", diff)
			}
			if !maps.Equal(rows, stoppedRows) || lost != 0 {
				t.Errorf("%d rows running, %d stopped, %d lost, or their values differ", len(rows), len(stoppedRows), lost)
			}
			if v.Records != w.Records || v.Blocks != w.Blocks || v.Segments != w.Segments || v.Records != uint64(len(rows))+1 {
				t.Errorf("verified running %+v, stopped %+v, %d rows", v, w, len(rows))
			}
			if stopped.Clean != (name == "closed") || stopped.Used < running.Used/2 {
				t.Errorf("clean %v, used %d of %d", stopped.Clean, stopped.Used, running.Used)
			}
		})
	}
}

// TestVerifyNeedsNoExcuse: histories of all kinds, without damage, show no problem.
func TestVerifyNeedsNoExcuse(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			dir := t.TempDir()
			boot, inode := 1, 1
			o := options()
			o.MaxBytes = 4 << 20
			o.Identify = func(string) (Identity, error) {
				return Identity{Machine: "m", Inode: strconv.Itoa(inode), Boot: strconv.Itoa(boot), Mount: "7"}, nil
			}
			b := open(t, dir, o)
			for range 8 {
				register(t, b, "cloud")
				for range rnd.IntN(12) {
					appendNoise(t, b, rnd.Uint64(), 1+rnd.IntN(8000))
				}
				if next := b.Survey().Epochs; rnd.IntN(2) == 0 {
					if to := next[len(next)-1].Streams[edgeagent.StreamTelemetry].Next; to > 2 {
						from := 1 + edgeagent.Seq(rnd.Uint64N(uint64(to-1)))
						_ = b.Ack(t.Context(), "cloud", b.Epoch(), edgeagent.StreamTelemetry, []edgeagent.Range{{From: from, To: to - 1}})
					}
				}
				v, err := b.Verify(t.Context())
				noProblems(t, "running", v, err)
				switch rnd.IntN(5) {
				case 0:
					b.crash()
				case 1:
					closeBuffer(t, b)
				case 2:
					b.crash()
					boot++
				case 3:
					closeBuffer(t, b)
					inode++
				case 4:
					continue
				}
				before := fingerprint(t, dir)
				r := readOnly(t, dir)
				v, err = r.Verify(t.Context())
				noProblems(t, "stopped", v, err)
				_, lost := stoppedValues(t, r, allReadings)
				r.Close()
				if lost != 0 || fingerprint(t, dir) != before {
					t.Fatalf("%d records lost, or the directory changed", lost)
				}
				b = open(t, dir, o)
			}
		})
	}
}

// flip changes one bit in the middle of the block that begins at a number.
func flip(t testing.TB, path string, first edgeagent.Seq) {
	t.Helper()
	var found []byte
	err := segment.Contents(path, func(b segment.Block) error {
		if b.First == first {
			found = slices.Clone(b.Encoded)
		}
		return nil
	}, func([]byte) error { return nil })
	if err != nil || found == nil {
		t.Fatalf("block %d of %s: %v", first, path, err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; ; at++ { // stale copies as well: which one counts is the file's affair
		i := bytes.Index(file[at:], found)
		if i < 0 {
			break
		}
		at += i
		file[at+len(found)/2] ^= 4
	}
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
}

// filled makes a stopped buffer of several segments and returns them.
func filled(t testing.TB, dir string) []SegmentSurvey {
	t.Helper()
	o := options()
	o.MaxBytes = 16 << 20
	b := open(t, dir, o)
	for i := range uint64(55) {
		appendNoise(t, b, i, 4096)
	}
	appendNoise(t, b, 1000, 5)
	flush(t, b)
	s := b.Survey()
	closeBuffer(t, b)
	if len(s.Segments) < 3 {
		t.Fatalf("only %d segments", len(s.Segments))
	}
	return s.Segments
}

func TestVerifyNamesDamage(t *testing.T) {
	path := func(dir string, s SegmentSurvey) string { return filepath.Join(dir, filepath.FromSlash(s.File)) }
	tests := []struct {
		name string
		harm func(t *testing.T, dir string, segs []SegmentSurvey)
		want func(segs []SegmentSurvey) []Problem // Err is not compared
		lost func(segs []SegmentSurvey) uint64
	}{
		{
			"a bit of a block", func(t *testing.T, dir string, segs []SegmentSurvey) { flip(t, path(dir, segs[1]), segs[1].From+4096) },
			func(segs []SegmentSurvey) []Problem {
				return []Problem{{Kind: ProblemDamaged, File: segs[1].File, Range: edgeagent.Range{From: segs[1].From + 4096, To: segs[1].From + 8191}}}
			},
			func([]SegmentSurvey) uint64 { return 4096 },
		},
		{
			"the last block of all", func(t *testing.T, dir string, segs []SegmentSurvey) {
				last := segs[len(segs)-1]
				flip(t, path(dir, last), last.To-4)
			},
			func(segs []SegmentSurvey) []Problem {
				last := segs[len(segs)-1]
				return []Problem{{Kind: ProblemDamaged, File: last.File, Range: edgeagent.Range{From: last.To - 4, To: last.To}}}
			},
			func([]SegmentSurvey) uint64 { return 5 },
		},
		{
			"both headers of a file", func(t *testing.T, dir string, segs []SegmentSurvey) {
				file, err := os.ReadFile(path(dir, segs[0]))
				if err != nil {
					t.Fatal(err)
				}
				clear(file[:8192])
				if err := os.WriteFile(path(dir, segs[0]), file, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			func(segs []SegmentSurvey) []Problem {
				return []Problem{{Kind: ProblemDamaged, File: segs[0].File, Range: segs[0].Range}}
			},
			func([]SegmentSurvey) uint64 { return 0 },
		},
		{
			"a segment in the middle", func(t *testing.T, dir string, segs []SegmentSurvey) {
				if err := os.Remove(path(dir, segs[1])); err != nil {
					t.Fatal(err)
				}
			},
			func(segs []SegmentSurvey) []Problem {
				return []Problem{{Kind: ProblemMissing, File: segs[1].File, Range: segs[1].Range}}
			},
			func([]SegmentSurvey) uint64 { return 0 },
		},
		{
			"the newest segment", func(t *testing.T, dir string, segs []SegmentSurvey) {
				if err := os.Remove(path(dir, segs[len(segs)-1])); err != nil {
					t.Fatal(err)
				}
			},
			func(segs []SegmentSurvey) []Problem {
				last := segs[len(segs)-1]
				return []Problem{{Kind: ProblemMissing, File: last.File, Range: last.Range}}
			},
			func([]SegmentSurvey) uint64 { return 0 },
		},
		{
			"a segment cut short", func(t *testing.T, dir string, segs []SegmentSurvey) {
				if err := os.Truncate(path(dir, segs[0]), segs[0].Bytes/2); err != nil {
					t.Fatal(err)
				}
			}, nil, nil,
		},
		{
			"the state", func(t *testing.T, dir string, _ []SegmentSurvey) {
				if err := os.WriteFile(filepath.Join(dir, stateFile), make([]byte, 9000), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			func([]SegmentSurvey) []Problem { return []Problem{{Kind: ProblemState, File: stateFile}} },
			func([]SegmentSurvey) uint64 { return 0 },
		},
	}
	original := t.TempDir()
	segs := filled(t, original)
	whole, _ := stoppedValues(t, readOnly(t, original), allReadings)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(dir, os.DirFS(original)); err != nil {
				t.Fatal(err)
			}
			tt.harm(t, dir, segs)
			before := fingerprint(t, dir)
			r := readOnly(t, dir)
			v, err := r.Verify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, lost := stoppedValues(t, r, allReadings)
			r.Survey()
			if diff := cmp.Diff(before, fingerprint(t, dir)); diff != "" {
				t.Errorf("reading changed the directory:\n%s", diff)
			}
			for k, x := range got {
				if w, ok := whole[k]; !ok || w != x {
					t.Fatalf("record %v is %v, was %v", k, x, w)
				}
			}
			if len(v.Problems) == 0 {
				t.Fatal("verify found nothing")
			}
			if tt.want == nil {
				if len(got)+int(lost) != len(whole) {
					t.Errorf("%d rows and %d lost of %d", len(got), lost, len(whole))
				}
				return
			}
			ignore := cmpopts.IgnoreFields(Problem{}, "Err", "Epoch", "Stream")
			if diff := cmp.Diff(tt.want(segs), v.Problems, ignore); diff != "" {
				t.Errorf("problems (-want +got):\n%s\n%v", diff, v.Problems)
			}
			if lost != tt.lost(segs) {
				t.Errorf("%d lost, want %d", lost, tt.lost(segs))
			}
		})
	}
}

// TestVerifyOfARunningBuffer finds a bit that changed, and leaves the repair to
// whoever reads it.
func TestVerifyOfARunningBuffer(t *testing.T) {
	dir := t.TempDir()
	segs := filled(t, dir)
	b := open(t, dir, options())
	flip(t, filepath.Join(dir, filepath.FromSlash(segs[0].File)), 4097)
	flipped := fingerprint(t, dir)
	v, err := b.Verify(t.Context())
	if err != nil || len(v.Problems) != 1 || v.Problems[0].Range != (edgeagent.Range{From: 4097, To: 8192}) {
		t.Fatalf("problems %v, %v", v.Problems, err)
	}
	if diff := cmp.Diff(flipped, fingerprint(t, dir)); diff != "" {
		t.Errorf("verify changed the directory:\n%s", diff)
	}
	runningValues(t, b, allReadings) // repairs
	v, err = b.Verify(t.Context())
	noProblems(t, "repaired", v, err)
	if gaps := b.Gaps(); len(gaps) != 1 || gaps[0].Reason != Damaged {
		t.Errorf("gaps %v", gaps)
	}
}

// TestInspectWhileInUse runs everything beside appends and evictions.
func TestInspectWhileInUse(t *testing.T) {
	o := options()
	o.MaxBytes = 4 << 20
	b := open(t, t.TempDir(), o)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := uint64(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := b.Append(context.Background(), incompressible(i, 4096)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for len(b.Gaps()) == 0 { // until something was evicted
		v, err := b.Verify(t.Context())
		noProblems(t, "in use", v, err)
		b.Survey()
		runningValues(t, b, allReadings)
	}
	close(stop)
	wg.Wait()
}

func TestReadOnlyBesideAnAgent(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	mustAppend(t, b, 0, 10)
	_, err := OpenReadOnly(t.Context(), dir, testKey())
	var hint edgeagent.Hinter
	if !errors.Is(err, ErrLocked) || !errors.As(err, &hint) {
		t.Fatalf("beside an agent: %v", err)
	}
	closeBuffer(t, b)
	first, second := readOnly(t, dir), readOnly(t, dir) // readers do not exclude each other
	if _, _, err := Open(t.Context(), dir, options()); !errors.Is(err, ErrLocked) {
		t.Fatalf("an agent beside readers: %v", err)
	}
	first.Close()
	second.Close()
	open(t, dir, options())
}

func TestReadOnlyOfWhatIsNoBuffer(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{filepath.Join(dir, "none"), dir} {
		if _, err := OpenReadOnly(t.Context(), d, testKey()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", d, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("made %v", entries)
	}
	if err := os.WriteFile(filepath.Join(dir, stateFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := OpenReadOnly(t.Context(), dir, testKey()); err != nil || r.stateErr == nil {
		t.Errorf("an empty state: %v", err)
	}
}

func TestBlocksSince(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	for i := range 20 {
		mustAppend(t, b, i*1000, 1000) // 1 s apart
	}
	since := Query{Stream: edgeagent.StreamTelemetry, Since: 15_500 * 1e9}
	running := runningValues(t, b, since)
	closeBuffer(t, b)
	stopped, _ := stoppedValues(t, readOnly(t, dir), since)
	for name, got := range map[string]map[numbered]float64{"running": running, "stopped": stopped} {
		young := 0
		for _, v := range got {
			if v >= 15_500 {
				young++
			}
		}
		if young != 4500 || len(got) > 10_000 {
			t.Errorf("%s: %d rows, %d of them young enough, want 4500", name, len(got), young)
		}
	}
	if _, err := readOnly(t, dir).Blocks(t.Context(), allReadings, func([]byte) error { return errGone }); !errors.Is(err, errGone) {
		t.Errorf("an error of the callback became %v", err)
	}
}

func ExampleOpenReadOnly() {
	dir, err := os.MkdirTemp("", "buffer")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	b, _, err := Open(ctx, dir, Options{Device: "gw-17"})
	if err != nil {
		fmt.Println(err)
		return
	}
	boiler := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "boiler", Metric: "temperature", Resolution: edgeagent.DefaultResolution})
	_, err = b.Append(ctx, []edgeagent.Reading{{Series: boiler, Value: 71.5, Recorded: true}})
	if err := errors.Join(err, b.Close(ctx)); err != nil {
		fmt.Println(err)
		return
	}

	r, err := OpenReadOnly(ctx, dir, testKey())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	v, err := r.Verify(ctx)
	s := r.Survey()
	fmt.Println(s.Device, s.Clean, len(s.Series), "series,", v.Records, "record,", len(v.Problems), "problems", err)
	// Output: gw-17 true 1 series, 1 record, 0 problems <nil>
}
