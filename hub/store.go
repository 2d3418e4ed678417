package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
)

// ErrStale is what a [Store] answers to a [Change] that was planned on a state that is
// not the stored one any more: another worker has been there. Nothing of the change is
// stored; the hub loads the state and plans anew.
var ErrStale = errors.New("state has changed meanwhile")

// ErrRefused is what a [Store] or [Sink] wraps where it will never take what it was given,
// whatever happens: too large, or nothing that it can hold. Nothing of it is stored; the
// hub puts the block into quarantine and goes on. After every other error it tries again,
// for ever, so this must not be said of what a repair or more room would mend.
var ErrRefused = errors.New("refused for good")

// EpochID names one life of one device's buffer.
type EpochID struct {
	Tenant string
	Device string
	Epoch  edgeagent.Epoch
}

// Store keeps what a hub must not forget: which numbers it holds and under which run
// they came, the names of series, what agents have said of themselves, corrections of
// their clocks, and the quarantine. A store that can also keep the records, in the same
// transaction, holds each exactly once; records go there if the hub has no [Sink].
//
// Several hubs may share a store if it refuses every change whose [StreamState.Version]
// is not the stored one.
type Store interface {
	// Epochs returns what the store knows, the epochs of a device in order of first
	// sight.
	Epochs(ctx context.Context) ([]EpochID, error)
	// Load returns what is known of an epoch, the zero Saved if nothing is; without
	// names, Saved.Series stays empty.
	Load(ctx context.Context, id EpochID, names bool) (Saved, error)
	// Kept returns the blocks in quarantine, oldest first, without their bytes.
	Kept(ctx context.Context) ([]Kept, error)
	// Commit stores changes in order, all of them or none. nil means that they
	// outlive a crash of the machine, [ErrStale] and everything else that nothing
	// changed. The hub tries again after an error.
	Commit(ctx context.Context, changes []Change) error
}

// Saved is what a [Store] knows of one epoch.
type Saved struct {
	Ended   bool // a newer epoch has begun
	Series  []SeriesName
	Clock   []Correction
	Streams map[edgeagent.Stream]StreamState
	Pending []Pending // at most one a stream
	Waiting []Kept    // with their bytes: blocks that wait for names of this epoch
}

// SeriesName says what a series id of an epoch stands for.
type SeriesName struct {
	ID  uint32
	Key edgeagent.SeriesKey
}

// Correction is what to add to the times of a run that began without a clock.
type Correction struct {
	Run edgeagent.Run
	Add time.Duration
	Err time.Duration // bound of the correction's own error
}

// Pending is a cut that is about to be handed to a [Sink], or has been: after a crash
// nobody knows. It is handed over again, the very same, before anything else of its
// stream.
type Pending struct {
	Stream   edgeagent.Stream
	Ranges   []edgeagent.Range
	Add      time.Duration // to its times
	Unsynced bool
	Received time.Time
	Block    []byte // that it was cut from
}

// Kept is a block in quarantine.
type Kept struct {
	ID uint64 // random
	Quarantined
	Block []byte
}

// Change is what one commit stores of one epoch. With epoch 0 it is about no epoch, and
// holds nothing but Keep and Drop.
type Change struct {
	EpochID
	At    time.Time
	Ended bool // a newer epoch has begun; false changes nothing
	// Series are names that the store does not have. If it has another under the same
	// id, the change is stale.
	Series []SeriesName
	// Clock are corrections that the store does not have; records of those runs that
	// were stored with unsynced times get the right ones.
	Clock []Correction
	// Streams are the streams that change. A stream that does not exist has version 0.
	Streams []StreamChange
	// Cut are the records; nil if a [Sink] has taken them. If they are unsynced and
	// the store has a correction for their run, the change is stale.
	Cut *Cut
	// Pending notes a cut that a Sink is about to be given, Done that it has taken that
	// of a stream.
	Pending *Pending
	Done    edgeagent.Stream
	Keep    []Kept   // put into quarantine
	Drop    []uint64 // out of it
}

// StreamChange is the new state of a stream. State.Version is the version it was made
// from; the store counts it up.
type StreamChange struct {
	Stream edgeagent.Stream
	State  StreamState
	// Gaps: State.Gaps have changed.
	Gaps bool
}

// StreamState is what a hub knows of one stream. As JSON it is without Version and
// Gaps, which stores keep beside it.
type StreamState struct {
	Version uint64 `json:"-"`
	// Held are the numbers that are held, rising and disjoint.
	Held []Span `json:"held,omitempty"`
	// Low and Next are what the agent says: nothing below Low can come any more, Next
	// is the number that it gives next. 0: nothing was said.
	Low  edgeagent.Seq `json:"low,omitempty"`
	Next edgeagent.Seq `json:"next,omitempty"`
	// Born is Next as it was first heard.
	Born      edgeagent.Seq        `json:"born,omitempty"`
	Lost      uint64               `json:"lost,omitempty"` // numbers below Low that were never held
	Resent    uint64               `json:"resent,omitempty"`
	Disputes  uint64               `json:"disputes,omitempty"`
	Conflicts []edgeagent.Conflict `json:"conflicts,omitempty"`
	Newest    int64                `json:"newest,omitempty"` // Unix ns
	Seen      time.Time            `json:"seen,omitzero"`
	Gaps      []NamedGap           `json:"-"`
}

// NamedGap is a range that an agent can no longer deliver.
type NamedGap struct {
	From   edgeagent.Seq   `json:"from"`
	To     edgeagent.Seq   `json:"to"`
	Reason string          `json:"reason"`
	AtMost uint64          `json:"at_most"`
	TFrom  int64           `json:"t_from,omitempty"` // Unix ns
	TTo    int64           `json:"t_to,omitempty"`
	Rollup []edgeagent.Seq `json:"rollup,omitempty"`
}

// Span is a range that came under one run, or, if Mixed, under several that are not
// known any more. In JSON it is [from, to, "run"], with an empty run if Mixed.
type Span struct {
	edgeagent.Range
	Run   edgeagent.Run
	Mixed bool
}

// MarshalJSON writes [from, to, "run"].
func (s Span) MarshalJSON() ([]byte, error) {
	run := ""
	if !s.Mixed {
		run = s.Run.String()
	}
	return fmt.Appendf(nil, `[%d,%d,%q]`, uint64(s.From), uint64(s.To), run), nil
}

// UnmarshalJSON reads [from, to, "run"].
func (s *Span) UnmarshalJSON(b []byte) error {
	var run string
	list := []any{&s.From, &s.To, &run}
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("span: %w", err)
	}
	if len(list) != 3 || s.Len() == 0 {
		return fmt.Errorf("span: bad range %s", b)
	}
	if s.Run, s.Mixed = 0, run == ""; s.Mixed {
		return nil
	}
	return s.Run.UnmarshalText([]byte(run))
}

// forgetful is the store of a hub that keeps what it knows in memory only.
type forgetful struct{}

func (forgetful) Epochs(context.Context) ([]EpochID, error)          { return nil, nil }
func (forgetful) Load(context.Context, EpochID, bool) (Saved, error) { return Saved{}, nil }
func (forgetful) Kept(context.Context) ([]Kept, error)               { return nil, nil }
func (forgetful) Commit(context.Context, []Change) error             { return nil }
