package decode_test

import (
	"bytes"
	"fmt"
	"os"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/hub/decode"
)

// What a gateway publishes, back to back, comes out as line protocol.
func Example() {
	var enc block.Encoder
	msg, err := enc.Series(nil, "gw-7", 9, []block.SeriesEntry{
		{ID: 1, Key: edgeagent.SeriesKey{Sensor: "boiler", Metric: "temperature", Unit: "Cel", Resolution: 6}},
	})
	if err == nil {
		id := block.ID{Stream: edgeagent.StreamTelemetry, Epoch: 9, First: 1, Run: 3, Resolution: 6}
		msg, err = enc.Readings(msg, id, []block.Row{{Series: 1, Time: 1772323200_000000000, Value: 21.5}})
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	stats, err := decode.Copy(os.Stdout, bytes.NewReader(msg), decode.None, decode.Options{Format: "line"})
	fmt.Println(stats.Records, err)
	// Output:
	// boiler,device=gw-7 temperature=21.5 1772323200000000000
	// 1 <nil>
}
