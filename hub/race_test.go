package hub

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/edgeagent/edgeagent"
)

// Streams come into being while acks and statistics speak of others: the race detector
// watches.
func TestStreamsComeWhileOthersAreTold(t *testing.T) {
	for name, o := range map[string]Options{
		"records in the store": {Store: newLedger(NewMemory(MemoryOptions{}))},
		"records in a sink":    {Sink: NewMemory(MemoryOptions{})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, err := New(o)
				if err != nil {
					t.Fatal(err)
				}
				f := newFeed()
				stop := running(t, h, f)
				looking := make(chan struct{})
				stopped := make(chan struct{})
				go func() {
					defer close(stopped)
					for {
						select {
						case <-looking:
							return
						default:
							h.Stats()
							h.Gaps()
						}
					}
				}()
				acked := make(chan struct{}, 1600)
				for e := range edgeagent.Epoch(400) {
					l := newLife(fmt.Sprint("gw", e), e+1)
					for _, s := range []edgeagent.Stream{alarm, edgeagent.StreamEvent} {
						f.messages <- Delivery{Topic: l.topic(), Payload: l.records(s, rng(1, 3)), Ack: func() { acked <- struct{}{} }}
						f.messages <- Delivery{Topic: l.topic(), Payload: l.records(s, rng(2, 5)), Ack: func() { acked <- struct{}{} }}
					}
				}
				for range 1600 {
					<-acked
				}
				close(looking)
				<-stopped
				stop()
			})
		})
	}
}
