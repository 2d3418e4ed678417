//go:build linux

package pgtest_test

import (
	"testing"

	"github.com/edgeagent/edgeagent/hub/sinks/postgres/pgtest"
)

// A test starts a server, uses its address, kills it and brings it back.
func Example() {
	_ = func(t *testing.T) {
		server := pgtest.Start(t)
		t.Log(server.URL())
		server.Kill()
		server.Restart()
	}
	// Output:
}
