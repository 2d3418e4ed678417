// Command edgeagent is the agent on an IoT gateway: it reads sensors, runs rules,
// keeps every reading in a crash-safe buffer and syncs upstream.
//
// What a command was asked for goes to standard output; everything else goes to
// standard error, errors as "error: …" with a "hint: …" below. Exit codes: 0 ok, 1
// failed, 2 usage, 3 degraded.
package main

import (
	"context"
	"os"
	"strconv"
	"time"
)

// Stamped by the linker.
var (
	version = "dev"
	built   = "" // Unix seconds of the commit
)

// buildTime is the earliest time that the clock can be right about.
func buildTime() time.Time {
	s, err := strconv.ParseInt(built, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(s, 0)
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
