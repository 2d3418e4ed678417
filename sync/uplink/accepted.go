package uplink

import (
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
)

// acceptedSet is what the transport has accepted and the receiver has not confirmed,
// in the order of acceptance. It outlives sessions: such ranges are not sent again
// just because the link was lost.
type acceptedSet struct {
	entries []entry
	records int
	bytes   int
	// timeout is how long the receiver may take. It doubles with each resending and
	// begins anew when something is confirmed.
	timeout time.Duration
	lastAck time.Duration // when the receiver last acknowledged anything, 0 = never
	probeAt time.Duration // no probe before
}

// entry is one accepted message, or what is left of it.
type entry struct {
	epoch   edgeagent.Epoch
	stream  edgeagent.Stream
	left    []edgeagent.Range
	records int
	size    int
	at      time.Duration
}

// Bounds of what may be accepted and unconfirmed, messages in flight included.
// Alarms go on up to twice as much.
const (
	maxAccepted      = 1000
	maxAcceptedBytes = 4 << 20
	longestConfirm   = time.Hour
)

func (a *acceptedSet) add(e entry) {
	a.entries = append(a.entries, e)
	a.records += e.records
	a.bytes += e.size
}

// forget takes an entry's amounts out; the caller takes out the entry.
func (a *acceptedSet) forget(e entry) {
	a.records -= e.records
	a.bytes -= e.size
}

func (a *acceptedSet) total() Count {
	return Count{uint64(len(a.entries)), uint64(a.records), uint64(a.bytes)}
}

// holds reports whether the bounds, times factor, are reached.
func (a *acceptedSet) holds(w window, factor int) bool {
	return len(a.entries)+w.messages >= factor*maxAccepted || a.bytes+w.bytes+w.target() > factor*maxAcceptedBytes
}

// dueAt returns when the oldest entry has waited for too long.
func (a *acceptedSet) dueAt() time.Duration {
	if len(a.entries) == 0 {
		return never
	}
	due := a.entries[0].at + a.timeout
	if !a.answered(a.entries[0]) {
		due = max(due, a.probeAt)
	}
	return due
}

// answered reports whether the receiver has acknowledged anything since e was
// accepted: then it is alive, and what it does not have by now it has not got.
func (a *acceptedSet) answered(e entry) bool { return a.lastAck > e.at }

// expired removes and returns what has to be sent again at now: everything that
// waited for too long, if the receiver is alive; otherwise the oldest message alone,
// as a probe, because a receiver that lost everything has nothing to acknowledge and
// would wait for us as we for it.
func (a *acceptedSet) expired(now time.Duration) []entry {
	if now < a.dueAt() {
		return nil
	}
	n := 1
	if a.answered(a.entries[0]) {
		for n < len(a.entries) && now >= a.entries[n].at+a.timeout && a.answered(a.entries[n]) {
			n++
		}
	}
	out := slices.Clone(a.entries[:n])
	a.entries = slices.Delete(a.entries, 0, n)
	for _, e := range out {
		a.forget(e)
	}
	a.timeout = min(2*a.timeout, longestConfirm)
	a.probeAt = now + a.timeout
	return out
}

// expire makes accepted ranges unsent again that the receiver should have confirmed
// long ago.
func (m *machine) expire(now time.Duration) {
	for _, e := range m.accepted.expired(now) {
		m.reopen[e.stream] = true
		delete(m.series, e.epoch) // perhaps it was the definitions that were lost
		m.count.expired++
		m.count.resent.add(e.records, e.size)
	}
}
