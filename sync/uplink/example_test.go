package uplink_test

import (
	"fmt"

	"github.com/edgeagent/edgeagent/sync/uplink"
)

func ExampleConfig_WithDefaults() {
	c := uplink.Config{Name: "cloud", Receiver: "hub", Links: []uplink.LinkConfig{{URL: "mqtt://hub.local"}}}.WithDefaults()
	fmt.Println(c.Format, c.Ack, c.LiveWindow, c.Linger, c.MaxMessage)
	// Output: block end_to_end 1m0s 500ms 256 KiB
}

func ExampleConfig_Validate() {
	c := uplink.Config{
		Name: "cloud", Format: uplink.FormatLine, Ack: uplink.AckEndToEnd,
		Links: []uplink.LinkConfig{{URL: "cloud.example"}},
	}
	fmt.Println(c.Validate())
	// Output:
	// links[0].url: unknown scheme "", want mqtt, mqtts, ws, wss, coap, coaps, coap+tcp or coaps+tcp
	// ack: format line has no receiver that could acknowledge end to end
}
