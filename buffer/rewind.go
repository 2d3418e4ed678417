package buffer

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// rewindReason is why an epoch begins after a proven rewind.
const rewindReason = "a receiver proved that the buffer was put back"

// rewindPause is the least time between two restarts because of a rewind.
const rewindPause = time.Hour

// rewind is what is known of an epoch that was put back to an older state: its
// newest numbers mean something else at the receivers that proved it.
type rewind struct {
	Destinations []string `json:"destinations"`
	At           int64    `json:"at"` // wall time of the first proof, Unix ns
}

// ProveRewind notes durably that a destination's receiver holds, under numbers of
// the newest epoch, records that this buffer never gave: an old copy of it was put
// back in place. The next Open begins a new epoch, so the agent should be restarted
// in order when restart is true; [Buffer.Rewound] then says which epoch's numbers
// are not to be believed. It is false when another epoch was given up for the same
// reason less than an hour ago (by the wall clock): then a new epoch does not help,
// and the destination should be stopped.
func (b *Buffer) ProveRewind(ctx context.Context, dest string, e edgeagent.Epoch) (restart bool, err error) {
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("note the rewind that %s proved: %w", dest, err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	b.disk.Lock()
	defer b.disk.Unlock()
	b.mu.Lock()
	_, _, err = b.given(dest, e, edgeagent.StreamTelemetry, nil)
	newest := b.newest().id
	r, marked := b.rewinds[e]
	now := b.o.Clock.Wall().UnixNano()
	late := false // too soon after another
	for other, x := range b.rewinds {
		late = late || other != e && time.Duration(now-x.At).Abs() < rewindPause
	}
	b.mu.Unlock()
	switch {
	case err != nil:
		return fail(err)
	case e != newest:
		return fail(fmt.Errorf("epoch %s is not the newest", e))
	case late && !marked:
		return false, nil
	case slices.Contains(r.Destinations, dest):
		return true, nil
	}
	if !marked {
		r.At = now
	}
	r.Destinations = append(slices.Clone(r.Destinations), dest)
	if err := b.save([]segment.Change{set(bucketRewinds, orderKey(uint64(e)), r)}); err != nil {
		return fail(writeError(err))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rewinds[e] = r
	return true, nil
}

// Rewound reports whether a destination's receiver has proved a rewind of an epoch:
// what it says it holds of that epoch may be something else.
func (b *Buffer) Rewound(dest string, e edgeagent.Epoch) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(b.rewinds[e].Destinations, dest)
}

// readRewinds loads them from state.db.
func (b *Buffer) readRewinds() error {
	b.rewinds = map[edgeagent.Epoch]rewind{}
	return b.store.Each(bucketRewinds, nil, func(key, value []byte) error {
		var r rewind
		if err := parse(bucketRewinds, key, value, &r); err != nil {
			return err
		}
		if len(key) != 8 {
			return fmt.Errorf("state %s: %w: %w", bucketRewinds, segment.ErrDamaged, errBadKey)
		}
		b.rewinds[edgeagent.Epoch(binary.BigEndian.Uint64(key))] = r
		return nil
	})
}

// rewoundNow says why the newest epoch must not go on, or "".
func (b *Buffer) rewoundNow() string {
	if len(b.epochs) > 0 && len(b.rewinds[b.newest().id].Destinations) > 0 {
		return rewindReason
	}
	return ""
}
