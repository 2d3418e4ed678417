package sensors

import (
	"context"

	"github.com/edgeagent/edgeagent"
)

// Conditioner is what a runner does to a sample, for tests.
func Conditioner(c Conditioning) func(ctx context.Context, src Source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	x := newConditioner(c)
	return func(ctx context.Context, src Source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
		dst, err := x.sample(ctx, src, dst)
		x.apply(dst)
		return dst, err
	}
}
