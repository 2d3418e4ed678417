package doctor

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Level ranks a finding.
type Level string

// The levels. Unknown: it could not be seen, which is not the same as well.
const (
	OK      Level = "ok"
	Unknown Level = "unknown"
	Warning Level = "warning" // works, and may not for long, or not as well as it could
	Failed  Level = "failed"  // keeps the agent, or a sensor of it, from working
)

// rank orders levels, worst last.
func (l Level) rank() int {
	switch l {
	case OK:
		return 0
	case Unknown:
		return 1
	case Warning:
		return 2
	default:
		return 3
	}
}

// Finding is what one check says.
type Finding struct {
	Check string `json:"check"` // stable: "clock", "disk"
	Level Level  `json:"level"`
	Text  string `json:"text"` // one line, lower case
	Hint  string `json:"hint,omitempty"`
}

// Machine is where the checks look. The zero Machine with a Root is enough on Linux;
// the functions are seams.
type Machine struct {
	Root string // "/"
	// Arch and ARM are what the program was built for: runtime.GOARCH and GOARM.
	Arch, ARM string
	// Kernel is the machine's own name of its architecture (uname -m): "aarch64".
	Kernel string
	// User is who the agent runs as; Groups are this user's, by name. All: it is root.
	User   string
	Groups []string
	All    bool
	// Synced says whether the wall time can be trusted; Now is that time, and it
	// cannot be before Built.
	Synced     func() bool
	Now, Built time.Time
	// Owner returns the group that owns a file, and its mode.
	Owner func(path string) (group string, mode fs.FileMode, err error)
	// Space returns how large the file system under a path is.
	Space func(path string) (Space, error)
}

// Space is that of a file system, in bytes.
type Space struct{ Total, Free uint64 }

// Wanted is what the configuration wants of the machine.
type Wanted struct {
	I2C    []Chip
	W1     []string // ids
	Serial []string // ports
	GPIO   []string // chips: "gpiochip0"
	// Buffer is the directory of the buffer, and what it may grow to.
	Buffer      string
	BufferLimit int64
}

// Chip is where a sensor sits.
type Chip struct {
	Sensor string
	Bus    string // as configured; Number is -1 if it is none that can be told
	Number int
	Addr   uint16 // 0: none
}

// Examine runs all checks.
func Examine(ctx context.Context, m Machine, w Wanted) []Finding {
	var out []Finding
	for _, check := range []func(Machine, Wanted) []Finding{
		board, program, memory, power, timekeeping, disk, wear, buses, chips, oneWire, ports,
	} {
		if ctx.Err() != nil {
			break
		}
		out = append(out, check(m, w)...)
	}
	return out
}

// Worst returns the worst level.
func Worst(list []Finding) Level {
	worst := OK
	for _, f := range list {
		if f.Level.rank() > worst.rank() {
			worst = f.Level
		}
	}
	return worst
}

// path returns where a file of the machine is.
func (m Machine) path(parts ...string) string {
	return filepath.Join(append([]string{"/", m.Root}, parts...)...)
}

// read returns the content of a small file without the space around it, "" if it cannot
// be read.
func (m Machine) read(parts ...string) string {
	b, err := os.ReadFile(m.path(parts...))
	if err != nil || len(b) > 64<<10 {
		return ""
	}
	return strings.Trim(string(b), " \n\r\t\x00")
}

// has reports whether a file is there.
func (m Machine) has(parts ...string) bool {
	_, err := os.Stat(m.path(parts...))
	return err == nil
}

// glob lists what matches, as paths of the machine ("/dev/i2c-1").
func (m Machine) glob(pattern string) []string {
	files, err := filepath.Glob(m.path(pattern))
	if err != nil {
		return nil
	}
	for i, f := range files {
		files[i] = "/" + strings.TrimPrefix(strings.TrimPrefix(f, m.path()), "/")
	}
	return files
}

func ok(check, text string) []Finding { return []Finding{{Check: check, Level: OK, Text: text}} }
