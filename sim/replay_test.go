package sim

import (
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/internal/agent"
)

// A hub loses all that it has. Started anew it gets again what the buffer has, if it
// wants all; by default it goes on from where the gateway is.
func TestHubThatLosesItsState(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]hub.ReplayPolicy{"all": hub.ReplayAll, "new": hub.ReplayNew} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same := func(in hub.Input) hub.Input { return in }
			r := newRestored(t, same)
			r.flush = time.Minute // all that the first life took is confirmed
			r.live("the first readings", confirmed(100))
			before := r.stored()
			r.mu.Lock()
			clear(r.rows)
			r.mu.Unlock()
			r.startHub(same, hub.Options{Replay: policy, ReplayAfter: 200 * time.Millisecond})
			again := func() (n int) {
				r.mu.Lock()
				defer r.mu.Unlock()
				for x := range before {
					if r.rows[x] {
						n++
					}
				}
				return n
			}
			r.live("the second life", func(a *agent.Agent) bool {
				return confirmed(100)(a) && (policy != hub.ReplayAll || again() == len(before))
			})
			if got := again(); policy != hub.ReplayAll && got > 0 {
				t.Errorf("%d of %d earlier readings came again", got, len(before))
			}
			if r.epochs[0] != r.epochs[1] {
				t.Error("a new epoch began")
			}
			if st := r.hub.Stats().Devices[0].Epochs[0].Streams[2]; st.Stream != edgeagent.StreamTelemetry {
				t.Fatalf("stream %s", st.Stream)
			}
		})
	}
}
