package uplink

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// lose makes the receiver forget what it holds, and ask for it again.
func (r *receiver) loseAll(from, to edgeagent.Seq) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := place{0xe1, tele}
	have := r.held[p]
	delete(r.held, p)
	lost := edgeagent.Range{From: from, To: to}
	var rest edgeagent.Ranges
	for _, x := range have {
		for _, part := range (edgeagent.Ranges{lost}).Missing(x) {
			rest.Add(part)
		}
	}
	r.held[p] = rest
	r.onAck = func(a edgeagent.Ack) edgeagent.Ack {
		if missing := r.held[p].Missing(lost); len(missing) > 0 {
			a.Replay = map[edgeagent.Stream]edgeagent.Ranges{tele: missing}
		}
		return a
	}
}

// lacks returns what of 1 to the last record the receiver does not hold.
func (r *receiver) lacks(to edgeagent.Seq) []edgeagent.Range {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[place{0xe1, tele}].Missing(edgeagent.Range{From: 1, To: to})
}

// What was confirmed and is asked for again is sent again, behind what is unsent.
func TestReplay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		r.log.add(tele, 10_000)
		r.log.gone[place{0xe1, tele}] = edgeagent.Ranges{{From: 3001, To: 4000}}
		r.start()
		r.complete(time.Minute)
		before := len(r.rx.arrivals())
		r.rx.loseAll(2001, 6000)
		pause(2 * time.Second)
		if missing := r.rx.lacks(10_000); len(missing) != 1 || missing[0] != (edgeagent.Range{From: 3001, To: 4000}) {
			t.Errorf("the receiver lacks %v", missing)
		}
		var again edgeagent.Ranges
		for _, a := range r.rx.arrivals()[before:] {
			if a.head.Count > 0 {
				again.Add(a.head.Range())
			}
			if a.head.Count > 0 && a.lane != LaneBacklog {
				t.Errorf("%v came on %s", a.head.Range(), a.lane)
			}
		}
		if diff := cmp.Diff(edgeagent.Ranges{{From: 2001, To: 3000}, {From: 4001, To: 6000}}, again); diff != "" {
			t.Errorf("sent again (-want +got):\n%s", diff)
		}
		replays := 0
		r.log.look(func() { replays = r.log.replays })
		pause(10 * time.Second) // what is gone is asked for in each ack: once a second is enough
		r.end()
		if n := r.log.replays - replays; n < 5 || n > 11 {
			t.Errorf("%d requests were taken in ten seconds", n)
		}
	})
}

// What is unsent is not sent twice because the receiver asks for it, and goes first.
func TestReplayOfTheUnsent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		p := place{0xe1, tele}
		r.log.addAt(tele, 300_000, 0)
		r.log.confirmed[p] = edgeagent.Ranges{{From: 1, To: 1000}}
		r.tr.rate = 50_000 // a minute for the backlog
		r.rx.loseAll(1, 300_000)
		r.start()
		pause(10 * time.Minute)
		if missing := r.rx.lacks(300_000); len(missing) > 0 {
			t.Errorf("the receiver lacks %v", missing)
		}
		records := edgeagent.Seq(0)
		for _, a := range r.rx.arrivals() {
			if a.head.Count > 0 && a.head.Last() <= 1000 && records < 299_000 {
				t.Errorf("%v came after %d records", a.head.Range(), records)
			}
			records += edgeagent.Seq(a.head.Count)
		}
		r.end()
		if r.rx.twice > 0 {
			t.Errorf("%d records came twice", r.rx.twice)
		}
	})
}

// What was accepted long ago and is asked for is sent again without waiting for
// confirm_timeout.
func TestReplayOfTheAccepted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		lose := true
		r.tr.lose = func(m Message) bool { return lose && m.Identity.Count > 0 }
		r.rx.series[0xe1] = r.log.series
		r.log.add(tele, 1000)
		r.start()
		pause(time.Second)
		r.tr.set(func() { lose = false })
		r.rx.loseAll(1, 1000)
		r.rx.mu.Lock()
		r.rx.held[place{0xe1, edgeagent.StreamEvent}] = nil // it speaks
		r.rx.mu.Unlock()
		pause(30 * time.Second)
		if n := r.log.unconfirmed(); n > 0 {
			t.Errorf("%d records are unconfirmed", n)
		}
		r.end()
	})
}

// Only a receiver end to end may ask.
func TestNoReplayWithoutEndToEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.tr.ackEvery = 200 * time.Millisecond
		r.log.add(tele, 1000)
		r.start()
		r.complete(time.Minute)
		r.rx.loseAll(1, 1000)
		pause(time.Minute)
		r.end()
		if r.log.replays > 0 {
			t.Errorf("%d requests were taken", r.log.replays)
		}
	})
}
