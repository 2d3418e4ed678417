//go:build !linux

package gpio

import "errors"

// kernel opens nothing: there is no such interface here.
func kernel(string) opener {
	return func(request) (line, error) { return nil, errors.New("GPIO is there on Linux only") }
}

func hintFor(error) string { return "run the agent on Linux" }
