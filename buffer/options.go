package buffer

import (
	"log/slog"
	"time"

	"github.com/edgeagent/edgeagent/buffer/segment"
	"github.com/edgeagent/edgeagent/internal/clock"
)

// Options are what Open needs besides the directory.
type Options struct {
	Config

	// Device is the device's id; series blocks bear it.
	Device string
	// CommitDelay is how long the first appender of a group waits for others
	// to share its commit: 0 means 20 ms, negative means not at all, more than
	// 50 ms is cut to 50 ms. Alarms never wait.
	CommitDelay time.Duration
	Clock       clock.Clock  // nil: Go's own
	Logger      *slog.Logger // nil: nothing is logged
	// Identify says which machine and which directory this is; nil asks the
	// system.
	Identify func(dir string) (Identity, error)

	// The disk, for tests.
	faults  segment.Faults
	segment int64 // how long a segment may become, 0: as Config says
	space   func(dir string) (free, total uint64, known bool)
}

const (
	defaultCommitDelay = 20 * time.Millisecond
	maxCommitDelay     = 50 * time.Millisecond
)

// segmentSize is how long a segment may become.
func (o Options) segmentSize() int64 {
	if o.segment > 0 {
		return o.segment
	}
	return o.Config.segmentSize()
}

func (o Options) withDefaults() Options {
	o.Config = o.Config.withDefaults()
	switch {
	case o.CommitDelay == 0:
		o.CommitDelay = defaultCommitDelay
	case o.CommitDelay < 0:
		o.CommitDelay = 0
	}
	o.CommitDelay = min(o.CommitDelay, maxCommitDelay)
	if o.Clock == nil {
		o.Clock = clock.Go()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Identify == nil {
		o.Identify = systemIdentity
	}
	if o.space == nil {
		o.space = freeSpace
	}
	return o
}

// Identity says on which machine, in which boot and in which directory a buffer
// lives. An empty part could not be read, and is not compared.
type Identity struct {
	Machine  string `json:"machine,omitempty"`  // machine-id
	Hardware string `json:"hardware,omitempty"` // serial number of the board
	Inode    string `json:"inode,omitempty"`    // of the directory
	Lock     string `json:"lock,omitempty"`     // inode and birth of the file LOCK, which is made once
	FS       string `json:"fs,omitempty"`       // id of the file system it is on
	Boot     string `json:"boot,omitempty"`     // changes with every start of the kernel
	Mount    string `json:"mount,omitempty"`    // changes with every mount
}

// moved says which part of the buffer's surroundings is not what it was, or "".
func (id Identity) moved(now Identity) string {
	differs := func(a, b string) bool { return a != "" && b != "" && a != b }
	switch {
	case differs(id.Machine, now.Machine):
		return "another machine-id"
	case differs(id.Hardware, now.Hardware):
		return "another board"
	case differs(id.FS, now.FS):
		return "another file system"
	case differs(id.Inode, now.Inode):
		return "another directory"
	case differs(id.Lock, now.Lock):
		return "files put back from a copy"
	}
	return ""
}

// sameBoot reports whether nothing but the process can have died since id was
// read: then the page cache still holds all that was written.
func (id Identity) sameBoot(now Identity) bool {
	return id.Boot != "" && id.Boot == now.Boot && id.Mount != "" && id.Mount == now.Mount
}
