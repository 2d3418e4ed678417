//go:build !linux

package main

import (
	"runtime"
	"time"

	"github.com/edgeagent/edgeagent/internal/doctor"
)

// thisMachine: elsewhere than on Linux hardly anything can be seen.
func thisMachine() doctor.Machine {
	return doctor.Machine{Root: "/", Arch: runtime.GOARCH, Now: time.Now(), Built: buildTime(), All: true}
}
