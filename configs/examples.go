package configs

import "embed"

// Examples holds the configurations that ship with the program, and the recorded
// series that the demo replays.
//
//go:embed examples
var Examples embed.FS
