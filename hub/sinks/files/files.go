package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/internal/atomicfile"
)

// Format says how records are written.
type Format string

// The formats.
const (
	Blocks Format = "block"
	JSONL  Format = "jsonl"
)

// ParseFormat reads the name of a format.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case Blocks, JSONL:
		return f, nil
	}
	return "", fmt.Errorf("unknown format %q, want block or jsonl", name)
}

// Sink writes files. Create one with [New].
type Sink struct {
	dir    string
	format Format
	ready  map[string]bool // folders of devices that have been put in order
	known  map[string]bool // folders that are there
}

var (
	_ hub.Sink      = (*Sink)(nil)
	_ hub.Corrector = (*Sink)(nil)
)

// New returns a sink that writes below dir, which is made if it is not there.
func New(dir string, format Format) (*Sink, error) {
	if _, err := ParseFormat(string(format)); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("files sink: %w", err), "name another folder with --sink files:DIR")
	}
	return &Sink{dir: dir, format: format, ready: map[string]bool{}, known: map[string]bool{}}, nil
}

// Commit implements [hub.Sink].
func (s *Sink) Commit(_ context.Context, c hub.Cut) error {
	dir, err := s.folder(c.EpochID())
	if err == nil {
		if s.format == Blocks {
			err = s.block(dir, c)
		} else {
			err = s.lines(dir, c)
		}
	}
	if err != nil {
		return fmt.Errorf("files sink: %w", err)
	}
	return nil
}

// block writes a cut as a file of its own.
func (s *Sink) block(dir string, c hub.Cut) error {
	b, err := c.AppendBlocks(nil)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%016x.eb", c.Epoch, c.Stream, uint64(c.Ranges[0].From))), b, 0o640)
}

// correction is a line of clock.jsonl.
type correction struct {
	Epoch edgeagent.Epoch `json:"epoch"`
	Run   edgeagent.Run   `json:"run"`
	AddNS int64           `json:"add_ns"`
	ErrNS int64           `json:"err_ns"`
}

// Correct implements [hub.Corrector].
func (s *Sink) Correct(_ context.Context, id hub.EpochID, x hub.Correction) error {
	dir, err := s.folder(id)
	if err != nil {
		return fmt.Errorf("files sink: %w", err)
	}
	if s.format == Blocks {
		b, err := x.AppendBlock(nil, id)
		if err == nil {
			err = atomicfile.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-clock-%s.eb", id.Epoch, x.Run)), b, 0o640)
		}
		return err
	}
	line, err := json.Marshal(correction{id.Epoch, x.Run, int64(x.Add), int64(x.Err)})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "clock.jsonl")
	if err := repair(file, 0); err != nil {
		return err
	}
	return appendTo(file, append(line, '\n'))
}

// folder returns the folder of a device, which is there and in order.
func (s *Sink) folder(id hub.EpochID) (string, error) {
	tenant := filepath.Join(s.dir, escape(id.Tenant))
	dir := filepath.Join(tenant, escape(id.Device))
	for _, d := range []string{tenant, dir} {
		if s.known[d] {
			continue
		}
		err := os.Mkdir(d, 0o750)
		if err == nil {
			err = syncDir(filepath.Dir(d))
		}
		if err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
		s.known[d] = true
	}
	if s.ready[dir] {
		return dir, nil
	}
	if err := atomicfile.Sweep(dir); err != nil {
		return "", err
	}
	if err := mend(dir); err != nil {
		return "", err
	}
	s.ready[dir] = true
	return dir, nil
}

// longestName is how many bytes of a folder's name are its own; file systems take 255.
const longestName = 200

// escape makes a name that every file system takes, and that no other name makes.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		dot := c == '.' && (i == 0 || i == len(name)-1)
		if c < ' ' || c == 0x7f || strings.IndexByte(`%/\<>:"|?*`, c) >= 0 || dot || c == ' ' && i == len(name)-1 {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	out := b.String()
	if len(out) <= longestName {
		return out
	}
	sum := sha256.Sum256([]byte(name))
	return strings.ToValidUTF8(out[:longestName-34], "") + "%-" + hex.EncodeToString(sum[:16])
}

// syncDir makes new names in dir outlive a power cut, where the system can.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !isWindows {
		return err
	}
	return nil
}
