package files

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/internal/atomicfile"
)

const isWindows = runtime.GOOS == "windows"

// record is one line. The keys are those of the agent's format json.
type record struct {
	T      string            `json:"t"`
	Tenant string            `json:"tenant"`
	Device string            `json:"device"`
	Sensor string            `json:"sensor,omitempty"`
	Metric string            `json:"metric,omitempty"`
	Unit   string            `json:"unit,omitempty"`
	Value  *float64          `json:"value,omitempty"`
	Count  uint64            `json:"count,omitempty"`
	Sum    *float64          `json:"sum,omitempty"`
	Min    *float64          `json:"min,omitempty"`
	Max    *float64          `json:"max,omitempty"`
	First  *float64          `json:"first,omitempty"`
	Last   *float64          `json:"last,omitempty"`
	Bucket int64             `json:"bucket_s,omitempty"`
	Q      string            `json:"q,omitempty"`
	Tags   map[string]string `json:"tags,omitempty"`

	Kind   string              `json:"kind,omitempty"`
	Sev    *edgeagent.Severity `json:"sev,omitempty"`
	ID     string              `json:"id,omitempty"`
	N      uint32              `json:"n,omitempty"`
	Series string              `json:"series,omitempty"`
	Text   string              `json:"text,omitempty"`
	Attrs  map[string]string   `json:"attrs,omitempty"`
	Data   []byte              `json:"data,omitempty"`

	Epoch  edgeagent.Epoch  `json:"epoch"`
	Run    edgeagent.Run    `json:"run"`
	Stream edgeagent.Stream `json:"stream"`
	Seq    edgeagent.Seq    `json:"seq"`
}

// note says which cut is about to be appended, and where it begins in each file. The note
// of a stream stays until the stream's next cut: until then the cut may come again.
type note struct {
	Cut   string           `json:"cut"`
	Begin map[string]int64 `json:"begin"` // by file
}

func noteFile(dir string, c hub.Cut) string {
	return filepath.Join(dir, fmt.Sprintf(".%s-%s.note", c.Epoch, c.Stream))
}

// lines appends a cut to the files of its days.
func (s *Sink) lines(dir string, c hub.Cut) error {
	last, err := readNote(noteFile(dir, c))
	if err != nil {
		return err
	}
	again := last.Cut == c.ID()
	days := map[string][]byte{}
	var had map[edgeagent.Seq]bool
	if again {
		if had, err = present(dir, c, last); err != nil {
			return err
		}
	}
	if err := each(c, func(r record, at int64) error { return addLine(days, r, at, had) }); err != nil {
		return err
	}
	if !again {
		if err := writeNote(dir, c, days); err != nil {
			return err
		}
	}
	for file, b := range days {
		if err := appendTo(filepath.Join(dir, file), b); err != nil {
			return err // half of it may be there; the cut comes again and finds its note
		}
	}
	return nil
}

func addLine(days map[string][]byte, r record, at int64, had map[edgeagent.Seq]bool) error {
	if had[r.Seq] {
		return nil
	}
	day := time.Unix(0, at).UTC().Format("2006-01-02") + ".jsonl"
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	days[day] = append(append(days[day], b...), '\n')
	return nil
}

func writeNote(dir string, c hub.Cut, days map[string][]byte) error {
	n := note{Cut: c.ID(), Begin: map[string]int64{}}
	for file := range days {
		info, err := os.Stat(filepath.Join(dir, file))
		switch {
		case err == nil:
			n.Begin[file] = info.Size()
		case errors.Is(err, os.ErrNotExist):
			n.Begin[file] = 0
		default:
			return err
		}
	}
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(noteFile(dir, c), b, 0o640)
}

func readNote(file string) (n note, err error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return note{}, nil
	}
	if err != nil {
		return note{}, err
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return note{}, fmt.Errorf("read %s: %w", file, err)
	}
	return n, nil
}

// present returns which records of a cut are in the files that its note names.
func present(dir string, c hub.Cut, n note) (map[edgeagent.Seq]bool, error) {
	out := map[edgeagent.Seq]bool{}
	for file, begin := range n.Begin {
		if err := repair(filepath.Join(dir, file), begin); err != nil {
			return nil, err
		}
		err := scan(filepath.Join(dir, file), begin, func(line []byte) bool {
			var r struct {
				Epoch  edgeagent.Epoch
				Stream edgeagent.Stream
				Seq    edgeagent.Seq
			}
			if json.Unmarshal(line, &r) != nil {
				return false
			}
			if r.Epoch == c.Epoch && r.Stream == c.Stream && slices.ContainsFunc(c.Ranges, func(x edgeagent.Range) bool { return x.Contains(r.Seq) }) {
				out[r.Seq] = true
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// mend puts the files of a device in order after a crash. Cuts are appended one after the
// other, so only behind the place where the last one began there may be half a line, or,
// after a power cut, anything.
func mend(dir string) error {
	notes, err := filepath.Glob(filepath.Join(globEscape(dir), ".*.note"))
	if err != nil {
		return err
	}
	last := map[string]int64{}
	for _, file := range notes {
		n, err := readNote(file)
		if err != nil {
			return err
		}
		for day, begin := range n.Begin {
			last[day] = max(last[day], begin)
		}
	}
	for day, begin := range last {
		if err := repair(filepath.Join(dir, day), begin); err != nil {
			return err
		}
	}
	return nil
}

func globEscape(dir string) string {
	if isWindows {
		return dir // has no way to escape, and no names that need it
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// repair cuts a file after the last whole line from begin on.
func repair(file string, begin int64) error {
	end := begin
	err := scan(file, begin, func(line []byte) bool {
		if !json.Valid(line) {
			return false
		}
		end += int64(len(line)) + 1
		return true
	})
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Size() <= end {
		return nil
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(end); err != nil {
		return err
	}
	return f.Sync()
}

// scan calls f for each whole line of a file from begin on, without its end, until f
// returns false. A file that is not there has none.
func scan(file string, begin int64, f func(line []byte) bool) error {
	r, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := r.Seek(begin, io.SeekStart); err != nil {
		return err
	}
	b := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := b.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !f(line[:len(line)-1]) {
			return nil
		}
	}
}

// appendTo appends to a file, and syncs it. If it fails, as much as can be done is done
// to leave nothing behind.
func appendTo(file string, b []byte) error {
	info, err := os.Stat(file)
	fresh := errors.Is(err, os.ErrNotExist)
	if err != nil && !fresh {
		return err
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		size := int64(0)
		if !fresh {
			size = info.Size()
		}
		return errors.Join(err, f.Truncate(size), f.Close())
	}
	if err = f.Close(); err == nil && fresh {
		err = syncDir(filepath.Dir(file))
	}
	return err
}
