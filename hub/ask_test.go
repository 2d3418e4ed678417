package hub

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// What somebody asks for is asked of the device at once, whatever the policy, and no
// longer than it is missing.
func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsking(t, Options{Replay: ReplayOff})
		a.records(11, 20)
		a.marks(31)
		a.records(41, 50)
		a.marks(51)
		time.Sleep(time.Hour)
		if at, _ := a.requests(); len(at) > 0 {
			t.Fatalf("asked at %v though nobody wanted it", at)
		}
		if _, err := a.hub.Ask("default", "nobody", true); !errors.Is(err, ErrUnknownDevice) {
			t.Errorf("a device that does not exist: %v", err)
		}
		if n, err := a.hub.Ask("acme", "gw1", false); n != 10 || err != nil {
			t.Errorf("missing since the hub knows the stream: %d, %v; want 31 to 40", n, err)
		}
		time.Sleep(time.Second)
		if _, of := a.requests(); cmp.Diff([]edgeagent.Ranges{{rng(31, 40)}}, of) != "" {
			t.Errorf("asked for %v", of)
		}
		if n, err := a.hub.Ask("acme", "gw1", true); n != 30 || err != nil {
			t.Errorf("missing in all: %d, %v", n, err)
		}
		time.Sleep(2 * time.Second)
		if _, of := a.requests(); len(of) != 2 || cmp.Diff(edgeagent.Ranges{rng(1, 10), rng(21, 40)}, of[1]) != "" {
			t.Errorf("asked for %v", of)
		}
		a.records(1, 10)
		a.records(21, 40)
		if n, err := a.hub.Ask("acme", "gw1", true); n != 0 || err != nil {
			t.Errorf("missing when all is there: %d, %v", n, err)
		}
		time.Sleep(time.Hour)
		a.records(51, 60)
		a.records(71, 80) // a new hole, which nobody has asked for
		time.Sleep(time.Hour)
		a.records(80, 80)
		time.Sleep(time.Hour)
		if at, _ := a.requests(); len(at) != 2 {
			t.Errorf("asked at %v", at)
		}
		a.stop()
	})
}
