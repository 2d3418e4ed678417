package headlog

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/edgeagent/edgeagent"
)

// slots is how many head files there can be: two, and while the log recovers or a
// bad one is being replaced, two more.
const slots = 4

var errUnreadable = errors.New("no page can be read")

// Bounds of Options.Size, in bytes.
const (
	MinSize     = 64 << 10
	MaxSize     = 64 << 20
	DefaultSize = 4 << 20
)

// Options are what Recover needs besides the directory.
type Options struct {
	// Size of each of the two files in bytes: 0 means DefaultSize; what is out
	// of bounds is clamped, and rounded down to whole pages. Files of another
	// size are read as they are, and brought to Size when they are reused.
	Size int64
	FS   FS // nil: the machine's own

	salt  func() uint32 // makes a generation unique
	rules rules
}

func (o Options) withDefaults() Options {
	if o.Size == 0 {
		o.Size = DefaultSize
	}
	o.Size = min(max(o.Size, MinSize), MaxSize) / pageSize * pageSize
	if o.FS == nil {
		o.FS = disk{}
	}
	if o.salt == nil {
		o.salt = rand.Uint32
	}
	return o
}

// Report says what Recover found.
type Report struct {
	Epoch  edgeagent.Epoch // of the newest generation; 0 when there is none
	Limits map[edgeagent.Epoch]Limits
	Files  []FileReport // oldest generation first
	Frames int          // that Frames yields
	Bytes  int64        // of those, headers included
	// Lost counts frames that had been synced and are damaged now. What they
	// held is known only by what is missing.
	Lost int64
}

// FileReport says what was found in one file.
type FileReport struct {
	Name       string
	Size       int64
	Generation uint64
	Frames     int
	Bytes      int64
	Lost       int64
	// Torn: a power cut, or damage that looks like one, took frames at the end
	// that had never been synced.
	Torn       bool
	Unreadable int // pages
	// Dead: what is in here is sealed, or in another file.
	Dead bool
}

// Recovery is what is left of a head log. It belongs to one goroutine.
type Recovery struct {
	dir    string
	o      Options
	files  [slots]File // nil: not there
	scans  [slots]survey
	sizes  [slots]int64
	seen   uint64 // greatest generation
	report Report
	closed bool
}

// Recover opens and surveys the head files in dir. It writes nothing; what is
// damaged is left out and reported. Memory is bounded by half a MiB and the
// number of holes in the files. A directory without head files is an empty log.
// The caller sees to it that no other process uses dir.
func Recover(dir string, o Options) (*Recovery, error) {
	r := &Recovery{dir: dir, o: o.withDefaults()}
	if err := r.survey(); err != nil {
		return nil, errors.Join(fmt.Errorf("recover head log in %s: %w", dir, err), r.Close())
	}
	return r, nil
}

func path(dir string, slot int) string {
	return filepath.Join(dir, "head-"+strconv.Itoa(slot))
}

func (r *Recovery) survey() error {
	for i := range r.files {
		f, err := r.o.FS.OpenFile(path(r.dir, i), false)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		r.files[i] = f
		if r.sizes[i], err = f.Size(); err != nil {
			return err
		}
	}
	window := r.window()
	var live []*survey
	for i, f := range r.files {
		if f == nil {
			continue
		}
		v, err := scan(r.scanner(i, window))
		if err != nil {
			return fmt.Errorf("head-%d: %w", i, err)
		}
		if v.unreadable > 0 && int64(v.unreadable)*pageSize >= r.sizes[i] {
			// Not damage in the file: whoever starts now would overwrite all of it.
			return fmt.Errorf("head-%d: %w", i, errUnreadable)
		}
		v.slot = i
		r.scans[i] = v
		r.seen = max(r.seen, v.seen)
		live = append(live, &r.scans[i])
	}
	byGeneration(live)
	decide(live)
	r.report.Limits = map[edgeagent.Epoch]Limits{}
	for _, v := range live {
		r.note(v)
	}
	return nil
}

// window returns memory for scanners.
func (r *Recovery) window() []byte {
	return make([]byte, min(windowSize, slices.Max(r.sizes[:])))
}

func (r *Recovery) scanner(slot int, window []byte) *scanner {
	return newScanner(r.files[slot], min(r.sizes[slot], MaxSize), window, r.o.rules)
}

// decide says which files need not be read: those that a newer one released, and
// those that a rotation into which never ended, because all of it still stands in
// the older ones. What a damaged file has lost may be in the others, so they are
// read then.
func decide(files []*survey) {
	released, damaged := uint64(0), false
	for _, v := range slices.Backward(files) {
		v.dead = v.gen < released
		if !v.dead && v.lost == 0 {
			released = max(released, v.released)
		}
		damaged = damaged || !v.dead && v.lost > 0
	}
	for _, v := range files {
		v.dead = v.dead || !v.begun && !damaged
	}
}

// note adds a file to the report.
func (r *Recovery) note(v *survey) {
	for e, l := range v.limits {
		known := r.report.Limits[e]
		known.raise(l)
		r.report.Limits[e] = known
	}
	if v.gen != 0 {
		r.report.Epoch = v.epoch
	}
	r.report.Files = append(r.report.Files, FileReport{
		Name: filepath.Base(path(r.dir, v.slot)), Size: r.sizes[v.slot], Generation: v.gen,
		Frames: v.frames, Bytes: v.bytes, Lost: v.lost, Torn: v.torn, Unreadable: v.unreadable, Dead: v.dead,
	})
	if !v.dead {
		r.report.Lost += v.lost
		r.report.Frames += v.frames
		r.report.Bytes += v.bytes
	}
}

// Report returns what was found.
func (r *Recovery) Report() Report { return r.report }

// Frames returns the recovered frames in the order of the generations, and within
// one in the order of append. All that was synced is among them, unless it is
// damaged. Of what was not, there is what was appended before some moment and
// nothing from after it. The same record can come twice: from the file it was
// appended to and from the one it moved to. Each call reads the files anew; after
// Start or Close it yields an error.
func (r *Recovery) Frames() iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		if r.closed {
			yield(Frame{}, ErrClosed)
			return
		}
		var live []*survey
		for i := range r.scans {
			if v := &r.scans[i]; r.files[i] != nil && !v.dead {
				live = append(live, v)
			}
		}
		byGeneration(live)
		window := r.window()
		for _, v := range live {
			if !v.each(r.scanner(v.slot, window), func(f Frame) bool { return yield(f, nil) }) {
				return
			}
		}
	}
}

// Close lets go of the files. After Start it does nothing.
func (r *Recovery) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	var errs []error
	for _, f := range r.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
