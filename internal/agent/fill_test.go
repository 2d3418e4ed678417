package agent

import (
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/api"
)

func TestFillIn(t *testing.T) {
	// 1,000 readings a second at 2 bytes each into a free half of 20 MB.
	at := func(change func(*api.Buffer)) api.Buffer {
		b := api.Buffer{
			MaxBytes: 20_000_000, Pressure: 0.5, Appended: 120_000,
			Streams: map[edgeagent.Stream]api.Stream{edgeagent.StreamTelemetry: {Records: 50_000, Bytes: 100_000}},
		}
		change(&b)
		return b
	}
	tests := []struct {
		name   string
		buffer api.Buffer
		uptime time.Duration
		want   time.Duration
	}{
		{"half full", at(func(*api.Buffer) {}), 2 * time.Minute, 5000 * time.Second},
		{"full", at(func(b *api.Buffer) { b.Pressure = 1 }), 2 * time.Minute, 0},
		{"too early", at(func(*api.Buffer) {}), 30 * time.Second, 0},
		{"nothing stored", at(func(b *api.Buffer) { b.Streams = nil }), 2 * time.Minute, 0},
		{"hardly anything appended", at(func(b *api.Buffer) { b.Appended = 3 }), 2 * time.Minute, 0},
		{"for ever", at(func(b *api.Buffer) { b.MaxBytes = 1 << 60 }), 2 * time.Minute, maxFillIn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := fillIn(tt.buffer, tt.uptime); got != tt.want {
				t.Errorf("full in %v, want %v", got, tt.want)
			}
		})
	}
}
