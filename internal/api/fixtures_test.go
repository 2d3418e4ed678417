package api

import (
	"context"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
)

var update = flag.Bool("update", false, "write golden files")

func TestMain(m *testing.M) {
	time.Local = time.UTC // golden screens show local times
	flag.Parse()
	os.Exit(m.Run())
}

// fixed is a source that never changes.
type fixed Status

func (f fixed) Status(context.Context) Status { return Status(f) }

var noon = time.Date(2026, 11, 23, 12, 6, 41, 250e6, time.FixedZone("CET", 3600))

func ago(d time.Duration) Time { return At(noon.Add(-d)) }

// goodStatus is an agent with nothing to complain about.
func goodStatus() Status {
	boiler := func(metric, unit string, value float64) Value {
		return ValueOf(edgeagent.Reading{
			Series: edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "boiler", Metric: metric, Unit: unit}),
			At:     edgeagent.Instant{Wall: noon.UnixNano()}, Value: value,
		}, 250*time.Millisecond)
	}
	s := Status{
		Version: "0.1.0", Tenant: "default", Device: "gw-17", Run: 0x9c01f3aa,
		Time: At(noon), Started: ago(26*time.Hour + 3*time.Minute), Uptime: SecondsOf(26*time.Hour + 3*time.Minute),
		Clock: Clock{Synced: true, Source: "auto"},
		Sensors: []Sensor{
			{
				Name: "boiler", Driver: "bmxx80", Interval: 1, Samples: 93_780, Readings: 281_340, LastSample: ago(250 * time.Millisecond),
				Values: []Value{boiler("temperature", "Cel", 25.0824), boiler("humidity", "%", 40.1), boiler("pressure", "Pa", 100653.2656)},
			},
			{
				Name: "gate", Driver: "gpio", Interval: 0.25, Samples: 10, Readings: 10, Errors: 1, Missed: 2,
				LastSample: ago(4 * time.Minute), LastError: "read line 7: busy",
				Values: []Value{ValueOf(edgeagent.Reading{
					Series: edgeagent.NewSeries(edgeagent.SeriesKey{
						Sensor: "gate", Metric: "state", Kind: edgeagent.State,
						Labels: edgeagent.MakePairs(map[string]string{"0": "closed", "1": "open"}),
					}),
					At: edgeagent.Instant{Wall: noon.Add(-4 * time.Minute).UnixNano()}, Value: 1, Quality: edgeagent.Stale,
				}, 4*time.Minute)},
			},
			{Name: "plant1/line0/host", Driver: "proc", Interval: 10, Samples: 9_378, Readings: 9_378, LastSample: ago(0), Values: []Value{
				{Series: "plant1/line0/host/mem", Metric: "mem", Value: 32 << 20, Unit: "By", Quality: "good", At: At(noon)},
				{Series: "plant1/line0/host/load1", Metric: "load1", Value: Number(math.NaN()), Quality: "bad", At: At(noon), Age: 0.004},
			}},
		},
		Buffer: Buffer{
			Dir: "/var/lib/edgeagent/buffer", Epoch: 0x9f02aa5510c4d3e1, Run: 0x9c01f3aa,
			Streams: map[edgeagent.Stream]Stream{
				edgeagent.StreamAlarm:     {Records: 2, Next: 3, Bytes: 1 << 20},
				edgeagent.StreamEvent:     {Records: 0, Next: 1},
				edgeagent.StreamTelemetry: {Records: 1204, Next: 290_728, Bytes: 3 << 20},
			},
			Bytes: 4<<20 + 31<<10, MaxBytes: 64 << 20, Pressure: 0.0635, Oldest: ago(time.Minute),
			Appended: 290_729, Pending: 3, Commits: 93_785, Fsyncs: 93_790,
			Segments: 3, Series: 7,
		},
		Uplinks: []Uplink{{
			Name: "cloud", Link: "tcp://broker.example:1883", Format: "block", Ack: "end_to_end",
			State: UplinkUp, Since: ago(26 * time.Hour), LastAck: ago(2 * time.Second), Connects: 1,
			Messages: 93_000, Bytes: 9_000_000, Sent: 289_600, Accepted: 289_580, Confirmed: 289_523, Resent: 77,
			InFlight: 2, Waiting: 57, Backlog: 1206,
			ByStream: map[edgeagent.Stream]uint64{edgeagent.StreamAlarm: 2, edgeagent.StreamTelemetry: 1204},
		}},
		Rules: Rules{Loaded: 3, Evaluated: 290_728, Instances: []Rule{
			{ID: "boiler-hot", State: "ok", Severity: edgeagent.Critical},
		}},
	}
	s.Judge()
	return s
}

// degradedStatus: no uplink, a dead sensor, two alarms, a buffer that lost data.
func degradedStatus() Status {
	s := goodStatus()
	s.Clock.Synced = false
	s.Sensors[0].Health = PartHealth{
		Level: edgeagent.Degraded, Code: "sensor-error", Text: "read bme280 at 0x76 on bus 1:\nno ack",
		Hint: `check the wiring and "i2cdetect -y 1"`, Since: ago(10 * time.Second),
	}
	s.Sensors[0].Values = nil
	s.Buffer.FillIn = Seconds(18 * 86400)
	s.Buffer.Evicted, s.Buffer.Gaps, s.Buffer.GapRecords = 4096, 1, 4096
	u := &s.Uplinks[0]
	u.State, u.Since, u.RetryIn, u.LastError = UplinkBackoff, ago(130*time.Second), 7, "dial: connection refused"
	u.Health = PartHealth{Level: edgeagent.Degraded, Code: "uplink-offline", Text: "uplink offline", Hint: `check "destinations[].links[].url" and that the broker runs`, Since: u.Since}
	s.Rules.Firing = 2
	s.Rules.Instances = []Rule{
		{ID: "pump-bearing-vibration", State: RuleFiring, Severity: edgeagent.Warning, Since: ago(130 * time.Second), Text: "pump vibrates at 11.2 mm/s"},
		{ID: "boiler-hot", Instance: "boiler", State: RuleClearing, Severity: edgeagent.Critical, Since: ago(20 * time.Hour), Text: "boiler at 95.1 degC"},
	}
	s.Judge(Warning{PartHealth{Level: edgeagent.Degraded, Code: "clock-unsynced", Text: "the clock is not synchronised", Hint: `set "clock.source" to trusted if it is right`}, "clock"})
	// The uplink comes first on the screen, as the agent puts it.
	s.Health.Warnings[0], s.Health.Warnings[1] = s.Health.Warnings[1], s.Health.Warnings[0]
	return s
}

// golden compares got with testdata/name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := diffLines(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (run with -update to accept):\n%s", path, diff)
	}
}
