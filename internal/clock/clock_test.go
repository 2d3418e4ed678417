package clock_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent/internal/clock"
)

func ExampleSystem() {
	c := clock.System(clock.Trusted, time.Time{})
	fmt.Println(c.Synced(), c.Run() >= 0)
	// Output: true true
}

func TestSystemBelowFloorIsUnsynced(t *testing.T) {
	future := time.Now().Add(24 * time.Hour)
	if clock.System(clock.Auto, future).Synced() {
		t.Error("a clock below its floor says it is synced")
	}
	if !clock.System(clock.Trusted, future).Synced() {
		t.Error("a trusted clock says it is not synced")
	}
}

func TestSystemRunRises(t *testing.T) {
	c := clock.System(clock.Auto, time.Time{})
	a := c.Run()
	b := c.Run()
	if a < 0 || b < a {
		t.Errorf("run time went from %v to %v", a, b)
	}
}

func TestGoIsVirtualInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Go()
		time.Sleep(24 * time.Hour)
		if got := c.Run(); got != 24*time.Hour {
			t.Errorf("run time %v after a virtual day", got)
		}
	})
}
