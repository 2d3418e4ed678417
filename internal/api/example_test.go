package api_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/api"
)

// agent is a Source; the real one is in internal/agent.
type agent struct{ started time.Time }

func (a agent) Status(context.Context) api.Status {
	s := api.Status{
		Version: "0.1.0", Device: "gw-17", Run: 0x9c01f3aa, Clock: api.Clock{Synced: true},
		Time: api.At(a.started.Add(time.Minute)), Started: api.At(a.started), Uptime: 60,
		Buffer: api.Buffer{
			Bytes: 31 << 10, MaxBytes: 64 << 20,
			Streams: map[edgeagent.Stream]api.Stream{edgeagent.StreamTelemetry: {Records: 1204, Next: 1205}},
		},
		Uplinks: []api.Uplink{{
			Name: "cloud", Link: "tcp://broker:1883", State: api.UplinkBackoff, RetryIn: 7, Backlog: 1204,
			Since: api.At(a.started), LastError: "dial: connection refused",
			Health: api.PartHealth{Level: edgeagent.Degraded, Code: "uplink-offline", Text: "uplink offline", Since: api.At(a.started)},
		}},
	}
	s.Judge()
	return s
}

func Example() {
	dir, err := os.MkdirTemp("", "ea")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	up := make(chan struct{})
	server, err := api.New(api.Config{Socket: filepath.Join(dir, "agent.sock")}, agent{time.Now()}, api.Options{
		Listening: func(string, string) { close(up) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Run(ctx); err != nil {
			fmt.Println(err)
		}
	})
	<-up
	client, err := api.Dial(ctx, filepath.Join(dir, "agent.sock"))
	if err == nil {
		var status api.Status
		if status, err = client.Status(ctx); err == nil {
			err = api.RenderStatus(os.Stdout, status, 100)
		}
	}
	if err != nil {
		fmt.Println(err)
	}
	cancel()
	wg.Wait()
	// Output:
	// HEALTH  degraded: uplink offline for 1m
	// SENSORS none
	// BUFFER  1,204 readings, 31 KiB of 64 MiB
	// UPLINK  retry in 7s (dial: connection refused)
	// RULES   none
	//
	// degraded: uplink/cloud: uplink offline
	//
	// UPLINK  LINK               STATE           CONFIRMED  BACKLOG  LAST ACK
	// cloud   tcp://broker:1883  backoff for 1m          0    1,204  never
	//
	// edgeagent 0.1.0, device gw-17, run 9c01f3aa, up 1m
}
