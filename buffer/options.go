package buffer

import (
	"log/slog"

	"github.com/edgeagent/edgeagent/buffer/headlog"
	"github.com/edgeagent/edgeagent/buffer/segment"
	"github.com/edgeagent/edgeagent/internal/clock"
)

// Options are what Open needs besides the directory.
type Options struct {
	Config

	// Device is the device's id; series blocks bear it.
	Device string
	Clock  clock.Clock  // nil: Go's own
	Logger *slog.Logger // nil: nothing is logged
	// Identify says which machine and which directory this is; nil asks the
	// system.
	Identify func(dir string) (Identity, error)

	// The disk, for tests.
	faults  segment.Faults
	headFS  headlog.FS // nil: the machine's own
	segment int64      // how long a segment may become, 0: as Config says
	head    int64      // how long a head file is, 0: as Config says
	space   func(dir string) (free, total uint64, known bool)
}

// segmentSize is how long a segment may become.
func (o Options) segmentSize() int64 {
	if o.segment > 0 {
		return o.segment
	}
	return o.Config.segmentSize()
}

// headSize is how long each of the two head files is.
func (o Options) headSize() int64 {
	if o.head > 0 {
		return o.head
	}
	return o.Config.headSize()
}

func (o Options) withDefaults() Options {
	o.Config = o.Config.withDefaults()
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
	Mount    string `json:"mount,omitempty"`    // changes when the file system is mounted anew
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
