package web

import (
	"context"
	"sync"
	"time"
)

const (
	rateEvery   = 5 * time.Second
	rateSamples = 61 // five minutes
	rateOver    = 12 // intervals that "per second" speaks of
)

// rates remembers how many records there were, in all and of each device, to say how
// many come a second.
type rates struct {
	mu      sync.Mutex // guards samples
	samples []sample   // oldest first, at most rateSamples
}

type sample struct {
	at      time.Time
	records uint64
	devices map[deviceName]uint64
}

type deviceName struct{ tenant, device string }

func newRates() *rates { return &rates{} }

// run takes a sample now and then until ctx ends.
func (r *rates) run(ctx context.Context, source Source) {
	tick := time.NewTicker(rateEvery)
	defer tick.Stop()
	for {
		r.take(ctx, source)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *rates) take(ctx context.Context, source Source) {
	devices, err := source.Devices(ctx)
	if err != nil {
		return // asked again soon, and whoever asks for devices is told
	}
	s := sample{at: time.Now(), records: source.Status(ctx).Records, devices: make(map[deviceName]uint64, len(devices))}
	for _, d := range devices {
		s.devices[deviceName{d.Tenant, d.Device}] = d.Records
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Only the last minute of devices is asked for.
	if n := len(r.samples); n > rateOver {
		r.samples[n-rateOver-1].devices = nil
	}
	if len(r.samples) == rateSamples {
		copy(r.samples, r.samples[1:])
		r.samples = r.samples[:rateSamples-1]
	}
	r.samples = append(r.samples, s)
}

// window returns the first and last sample of the last minute; ok is false while there
// are not two.
func (r *rates) window() (from, to sample, ok bool) {
	n := len(r.samples)
	if n < 2 {
		return sample{}, sample{}, false
	}
	return r.samples[max(0, n-1-rateOver)], r.samples[n-1], true
}

// total returns records a second over the last minute, and over each interval kept.
func (r *rates) total() (perS float64, history []Rate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	history = []Rate{}
	for i := 1; i < len(r.samples); i++ {
		a, b := r.samples[i-1], r.samples[i]
		history = append(history, Rate{b.at.UTC().Truncate(time.Millisecond), perSecond(a.records, b.records, b.at.Sub(a.at))})
	}
	if from, to, ok := r.window(); ok {
		perS = perSecond(from.records, to.records, to.at.Sub(from.at))
	}
	return perS, history
}

// device returns a function that says how many records of a device come a second.
func (r *rates) device() func(tenant, device string) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	from, to, ok := r.window()
	return func(tenant, device string) float64 {
		if !ok {
			return 0
		}
		name := deviceName{tenant, device}
		before, known := from.devices[name]
		if !known { // it is new, or has just been taken up from the store
			return 0
		}
		return perSecond(before, to.devices[name], to.at.Sub(from.at))
	}
}

// perSecond is 0 for a count that went back: the hub has forgotten an epoch.
func perSecond(from, to uint64, over time.Duration) float64 {
	if to <= from || over <= 0 {
		return 0
	}
	return float64(to-from) / over.Seconds()
}
