package transporttest

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/edgeagent/edgeagent/sync/uplink"
)

// recorder is a handler that remembers, and notes what must not be.
type recorder struct {
	busy atomic.Bool // a call is under way

	mu       sync.Mutex // guards what follows
	ups      int
	caps     uplink.Caps
	sent     map[uint64]bool
	results  map[uint64]uplink.Class
	acks     []string
	over     bool // Session has returned
	problems []string
	changed  chan struct{} // closed and replaced on every change
}

var _ uplink.Handler = (*recorder)(nil)

func newRecorder() *recorder {
	return &recorder{sent: map[uint64]bool{}, results: map[uint64]uplink.Class{}, changed: make(chan struct{})}
}

func (r *recorder) Up(c uplink.Caps) {
	r.note("Up", func() {
		r.ups++
		r.caps = c
		if r.ups > 1 {
			r.problem("Up was called %d times", r.ups)
		}
	})
}

func (r *recorder) Result(x uplink.Result) {
	r.note("Result", func() {
		_, twice := r.results[x.ID]
		switch {
		case r.ups == 0:
			r.problem("Result before Up")
		case !r.sent[x.ID]:
			r.problem("Result of message %d, which was not sent", x.ID)
		case twice:
			r.problem("two results of message %d", x.ID)
		case x.Class != uplink.Accepted && x.Err == nil:
			r.problem("message %d is %s without an error", x.ID, x.Class)
		}
		r.results[x.ID] = x.Class
	})
}

func (r *recorder) Ack(payload []byte) {
	r.note("Ack", func() { r.acks = append(r.acks, string(payload)) })
}

// note runs f and holds what is true of every call.
func (r *recorder) note(call string, f func()) {
	alone := r.busy.CompareAndSwap(false, true)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !alone {
		r.problem("%s was called while another call was under way", call)
	}
	if r.over {
		r.problem("%s was called after Session had returned", call)
	}
	f()
	close(r.changed)
	r.changed = make(chan struct{})
	if alone {
		r.busy.Store(false)
	}
}

// problem is called with mu held.
func (r *recorder) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// sending notes a message before it is sent: its result may come at once.
func (r *recorder) sending(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent[id] = true
}

// look returns whether ready, called with mu held, is true, and a channel that is
// closed when it may have become so.
func (r *recorder) look(ready func() bool) (bool, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ready(), r.changed
}

func (r *recorder) accepted() int {
	n := 0
	for _, class := range r.results {
		if class == uplink.Accepted {
			n++
		}
	}
	return n
}
