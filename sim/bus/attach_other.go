//go:build !linux

package bus

import (
	"context"
	"errors"

	"github.com/edgeagent/edgeagent"
)

// Attach needs Linux.
func (a *Adapter) Attach(context.Context, func(bus string)) error {
	return edgeagent.WithHint(errors.New("a simulated bus of the kernel needs Linux"), `try "edgeagent demo", which simulates without one`)
}
