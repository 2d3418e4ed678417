package coap

import (
	"os"
	"strconv"
)

// soak returns how much of something a test does: what the environment says, else n.
func soak(name string, n int) int {
	if v, err := strconv.Atoi(os.Getenv(name)); err == nil && v > 0 {
		return v
	}
	return n
}
