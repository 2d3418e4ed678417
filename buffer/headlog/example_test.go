package headlog_test

import (
	"context"
	"fmt"
	"os"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/headlog"
)

// A process takes readings and dies; the next one finds them, and goes on in the
// other file with what it has not sealed elsewhere.
func Example() {
	dir, err := os.MkdirTemp("", "headlog")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	head := headlog.Head{Epoch: 0x9f02, Limits: headlog.Limits{edgeagent.StreamTelemetry: 1 << 32}}

	recovery, err := headlog.Recover(dir, headlog.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	log, err := recovery.Start(ctx, head, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	rows := []block.Row{{Series: 1, Time: 1_000_000_000, Value: 71.5}, {Series: 2, Time: 1_000_000_000, Value: 0.25}}
	frame := headlog.Frame{Kind: headlog.Readings, Stream: edgeagent.StreamTelemetry, First: 1, Count: 2}
	frame.Payload, frame.Base, frame.Resolution = headlog.AppendRows(nil, rows, edgeagent.DefaultResolution)
	fmt.Println("append:", log.Append(frame)) // now kill -9 cannot take it
	fmt.Println("sync:", log.Sync(ctx))       // now a power cut cannot
	fmt.Println("close:", log.Close(ctx))

	if recovery, err = headlog.Recover(dir, headlog.Options{}); err != nil {
		fmt.Println(err)
		return
	}
	for f, err := range recovery.Frames() {
		if err != nil {
			fmt.Println(err)
			return
		}
		rows, err := headlog.DecodeRows(nil, f)
		fmt.Println(f.Stream, f.First, rows, err)
	}
	// Had the records been sealed meanwhile, tails would be nil.
	tails := func(yield func(headlog.Frame) bool) { yield(frame) }
	if log, err = recovery.Start(ctx, head, tails); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("moved:", log.Stats().Moved)
	fmt.Println("close:", log.Close(ctx))
	// Output:
	// append: <nil>
	// sync: <nil>
	// close: <nil>
	// telemetry 1 [{1 1000000000 71.5 good} {2 1000000000 0.25 good}] <nil>
	// moved: 1
	// close: <nil>
}
