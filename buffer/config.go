package buffer

import (
	"time"

	"github.com/edgeagent/edgeagent"
)

// Config is the buffer's part of the configuration. Validate and Default stand
// beside it.
type Config struct {
	Dir       string          `yaml:"dir"`        // default: the state directory + "/buffer"
	MaxBytes  edgeagent.Bytes `yaml:"max_bytes"`  // default 256MiB, at least 4MiB
	Policy    Policy          `yaml:"policy"`     // what gives way when full
	SyncEvery time.Duration   `yaml:"sync_every"` // power-cut bound of telemetry; this version is stricter: it syncs before Append returns
	BlockSize int             `yaml:"block_size"` // readings in a full block, default 4096, 16 to 4096
	// Encryption is refused until it is built.
	Encryption string `yaml:"encryption"`
}

// Policy says what gives way when the buffer is full.
type Policy string

// The policies of this version.
const (
	DropOldest Policy = "drop-oldest" // unlink the oldest segment of the lowest class; the gap is recorded
)
