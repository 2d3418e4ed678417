package sinktest_test

import (
	"fmt"

	"github.com/edgeagent/edgeagent/hub/sinks/sinktest"
)

// A sink's test calls Run; what it proves are these.
func ExampleChecks() {
	for _, c := range sinktest.Checks(sinktest.Config{Shared: true}) {
		fmt.Println(c.Name)
	}
	// Output:
	// each record once
	// a hub that begins anew
	// crash at every call
	// answers that are lost
	// messages that come together
	// crash among them, at every call
	// random histories
	// corrections of the clock
	// gaps and conflicts
	// two workers
}
