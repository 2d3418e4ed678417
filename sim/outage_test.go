package sim

import (
	"testing"
	"time"

	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/internal/faultnet"
)

func newBroker(t *testing.T) *broker.Broker {
	t.Helper()
	b := broker.New(broker.Options{})
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	return b
}

// The timeline of an outage, with the uplink's part played by hand.
func TestOutage(t *testing.T) {
	back := time.Unix(1000, 0)
	up := func(connects uint64) api.Status {
		return api.Status{Uplinks: []api.Uplink{{State: api.UplinkUp, Connects: connects, Since: api.At(back)}}}
	}
	down := api.Status{Uplinks: []api.Uplink{{State: api.UplinkBackoff, Connects: 1}}}
	type step struct {
		at     time.Duration
		status api.Status
		cut    bool
	}
	cases := []struct {
		name     string
		steps    []step
		wentDown bool
		cameBack bool
	}{
		{"as it should be", []step{{0, up(1), false}, {5 * time.Second, up(1), true}, {6 * time.Second, down, true}, {15 * time.Second, down, false}, {16 * time.Second, up(2), false}}, true, true},
		{"the uplink does not notice", []step{{5 * time.Second, up(1), true}, {6 * time.Second, up(1), true}, {15 * time.Second, up(1), false}, {16 * time.Second, up(1), false}}, false, false},
		{"the uplink does not come back", []step{{5 * time.Second, up(1), true}, {6 * time.Second, down, true}, {15 * time.Second, down, false}, {20 * time.Second, down, false}}, true, false},
		{"no uplink yet", []step{{5 * time.Second, api.Status{}, true}, {15 * time.Second, api.Status{}, false}}, true, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := &Demo{opts: DemoOptions{For: 20 * time.Second, Outage: 10 * time.Second}, link: faultnet.NewSwitch(nil)}
			for _, s := range c.steps {
				d.outage(s.status, s.at)
				if d.cut != s.cut || d.link.Up() == s.cut {
					t.Errorf("at %v cut is %v and the link up %v", s.at, d.cut, d.link.Up())
				}
			}
			if d.wentDown != c.wentDown || !d.cameBack.IsZero() != c.cameBack {
				t.Errorf("went down %v, came back %v", d.wentDown, d.cameBack)
			}
			if c.cameBack && !d.cameBack.Equal(back) {
				t.Errorf("came back at %v, want the session's own time", d.cameBack)
			}
		})
	}
}
