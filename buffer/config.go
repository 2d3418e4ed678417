package buffer

import (
	"errors"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/headlog"
)

// Config is the buffer's part of the configuration. Validate and Default stand
// beside it.
type Config struct {
	Dir       string          `yaml:"dir"`        // default: the state directory + "/buffer"
	MaxBytes  edgeagent.Bytes `yaml:"max_bytes"`  // default 256MiB, at least 4MiB
	Policy    Policy          `yaml:"policy"`     // what gives way when full
	SyncEvery time.Duration   `yaml:"sync_every"` // power-cut bound of readings and events, default 1s
	BlockSize int             `yaml:"block_size"` // readings in a full block, default 4096, 16 to 4096
	// Encryption seals everything on the disk that tells a reading or the name of
	// a series.
	Encryption Encryption `yaml:"encryption"`
}

// Policy says what gives way when the buffer is full.
type Policy string

// The policies. Whatever they say, what every destination has confirmed goes first,
// oldest first, and what goes without that is recorded as a gap.
const (
	// DownsampleOldest folds the oldest readings into one row for each series and
	// minute; then the oldest rollups go, then events, then alarms.
	DownsampleOldest Policy = "downsample-oldest"
	// DropOldest gives up the oldest readings, then rollups, events and alarms.
	DropOldest Policy = "drop-oldest"
	// DropNewest gives nothing up: Append fails with [ErrFull].
	DropNewest Policy = "drop-newest"
	// Block gives nothing up: Append waits until there is room, or its context
	// ends. For imports and replays: sensors do not wait.
	Block Policy = "block"
)

var policies = []Policy{DownsampleOldest, DropOldest, DropNewest, Block}

// Bounds of the configuration.
const (
	minMaxBytes  = 4 << 20
	minBlockSize = 16
	maxBlockSize = 4096
	maxSyncEvery = time.Hour
)

// Default returns the configuration of a buffer whose file says nothing. Dir
// stays empty: only the agent knows its state directory.
func Default() Config {
	return Config{MaxBytes: 256 << 20, Policy: DownsampleOldest, SyncEvery: time.Second, BlockSize: maxBlockSize}
}

// Validate says what is wrong, all at once, naming the keys. Zero means default.
func (c Config) Validate() error {
	var errs []error
	if c.MaxBytes != 0 && c.MaxBytes < minMaxBytes {
		errs = append(errs, edgeagent.Field("max_bytes", "%s is too small, want at least %s", c.MaxBytes, edgeagent.Bytes(minMaxBytes)))
	}
	if c.Policy != "" && !slices.Contains(policies, c.Policy) {
		errs = append(errs, edgeagent.Field("policy", "unknown policy %q, want %s, %s, %s or %s",
			c.Policy, DownsampleOldest, DropOldest, DropNewest, Block))
	}
	if c.SyncEvery < 0 || c.SyncEvery > maxSyncEvery {
		errs = append(errs, edgeagent.Field("sync_every", "%s is out of range, want 0s to %s", c.SyncEvery, maxSyncEvery))
	}
	if c.BlockSize != 0 && (c.BlockSize < minBlockSize || c.BlockSize > maxBlockSize) {
		errs = append(errs, edgeagent.Field("block_size", "%d is out of range, want %d to %d", c.BlockSize, minBlockSize, maxBlockSize))
	}
	errs = append(errs, c.Encryption.validate())
	return errors.Join(errs...)
}

// withDefaults replaces zero values.
func (c Config) withDefaults() Config {
	d := Default()
	if c.MaxBytes == 0 {
		c.MaxBytes = d.MaxBytes
	}
	if c.Policy == "" {
		c.Policy = d.Policy
	}
	if c.BlockSize == 0 {
		c.BlockSize = d.BlockSize
	}
	if c.SyncEvery == 0 {
		c.SyncEvery = d.SyncEvery
	}
	return c
}

// headSize is how long each of the two head files is.
func (c Config) headSize() int64 {
	return min(max(int64(c.MaxBytes)/32, 256<<10), headlog.DefaultSize)
}

// segmentSize is how long a segment may become.
func (c Config) segmentSize() int64 {
	return min(max(int64(c.MaxBytes)/32, 1<<20), 8<<20)
}
