package hub

import (
	"bytes"
	"container/list"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Cause says why a block is in quarantine.
type Cause uint8

// The causes.
const (
	// CauseSeries: readings of series that are not known yet. They are taken up
	// when the names come.
	CauseSeries Cause = iota
	// CausePoison: damaged, or contradicting what is known of the device.
	CausePoison
	// CauseConflict: a number that is held already, under another run of the
	// agent. The agent's buffer has gone back in time.
	CauseConflict
	// CauseFormat: no block, or of a kind or version that this hub does not read.
	CauseFormat
	causes
)

var causeNames = [causes]string{"series", "poison", "conflict", "format"}

// String returns the name used in statistics.
func (c Cause) String() string {
	if c < causes {
		return causeNames[c]
	}
	return "unknown"
}

// MarshalText writes the name, so that causes can be JSON keys.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the name.
func (c *Cause) UnmarshalText(text []byte) error {
	for i, name := range causeNames {
		if name == string(text) {
			*c = Cause(i)
			return nil
		}
	}
	return fmt.Errorf("unknown cause %q", text)
}

// Quarantined describes one block in quarantine. Identity is zero for what could
// not be read that far.
type Quarantined struct {
	Tenant string
	Device string
	Cause  Cause
	Epoch  edgeagent.Epoch
	Stream edgeagent.Stream
	Range  edgeagent.Range
	Run    edgeagent.Run
	Bytes  int
	At     time.Time
}

// entryOverhead is charged for each block beside its bytes.
const entryOverhead = 256

// entry is a block in quarantine.
type entry struct {
	Quarantined
	id   uint64
	blk  []byte
	elem *list.Element // in its tenant's cell
	wait *epoch        // for CauseSeries: where it waits
	key  waitKey
}

// waitKey tells waiting blocks apart, so that one that comes again is kept once.
type waitKey struct {
	stream edgeagent.Stream
	r      edgeagent.Range
	run    edgeagent.Run
}

func (e *entry) cost() int { return e.Bytes + entryOverhead }

// quarantine keeps raw blocks, oldest first to go, within a bound for each tenant
// and one for all.
type quarantine struct {
	perTenant, total int // bounds in bytes
	cells            map[string]*cell
	ids              map[uint64]*entry
	bytes            int
	dropped          uint64
}

type cell struct {
	entries list.List // of *entry, oldest first
	bytes   int
}

func newQuarantine(perTenant, total int) *quarantine {
	return &quarantine{perTenant: perTenant, total: total, cells: map[string]*cell{}, ids: map[uint64]*entry{}}
}

// plan returns which blocks give way to e, all of the same tenant, or false if that
// does not do.
func (q *quarantine) plan(e *entry) (out []*entry, ok bool) {
	c := q.cells[e.Tenant]
	need := e.cost()
	free := min(q.perTenant, q.total-q.bytes)
	if c == nil {
		return nil, need <= free
	}
	free = min(q.perTenant-c.bytes, q.total-q.bytes)
	for el := c.entries.Front(); el != nil && need > free; el = el.Next() {
		old := el.Value.(*entry)
		out = append(out, old)
		free += old.cost()
	}
	return out, need <= free
}

// put keeps a copy of e's block in place of those that give way. Without room for it,
// they go all the same.
func (q *quarantine) put(e *entry, out []*entry, room bool) {
	for _, old := range out {
		q.remove(old)
		q.dropped++
	}
	if !room {
		q.dropped++
		return
	}
	e.blk = bytes.Clone(e.blk)
	q.take(e)
}

// take keeps e, whatever the bounds, and knows it already if it has been there.
func (q *quarantine) take(e *entry) {
	if old := q.ids[e.id]; old != nil {
		if e.wait == nil {
			return
		}
		q.remove(old)
	}
	c := q.cells[e.Tenant]
	if c == nil {
		c = &cell{}
		q.cells[e.Tenant] = c
	}
	e.elem = c.entries.PushBack(e)
	q.ids[e.id] = e
	c.bytes += e.cost()
	q.bytes += e.cost()
	if e.wait != nil {
		e.wait.waiting[e.key] = e
	}
}

// remove forgets e.
func (q *quarantine) remove(e *entry) {
	if q.ids[e.id] != e {
		return
	}
	delete(q.ids, e.id)
	c := q.cells[e.Tenant]
	c.entries.Remove(e.elem)
	c.bytes -= e.cost()
	q.bytes -= e.cost()
	if c.entries.Len() == 0 {
		delete(q.cells, e.Tenant)
	}
	if e.wait != nil {
		delete(e.wait.waiting, e.key)
	}
}

// list describes each block, by tenant, oldest first.
func (q *quarantine) list() (out []Quarantined) {
	for _, c := range q.cells {
		for el := c.entries.Front(); el != nil; el = el.Next() {
			out = append(out, el.Value.(*entry).Quarantined)
		}
	}
	return out
}
