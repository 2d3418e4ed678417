package sensors

import "time"

// maxFaster bounds how many may ask for a faster rate of one source at a time; the
// rules that fire at once are few.
const maxFaster = 256

// Faster has the sources that match sampled every so often, if that is faster than
// their own interval, until it is called again with the same key and 0. Of several
// keys the fastest counts, down to MinInterval. A source that waits for its next tick
// is sampled at once; one that fails keeps its back-off, and a Paced one its pace. It
// does not block.
func (s *Scheduler) Faster(key string, match func(sensor string) bool, every time.Duration) {
	for _, r := range s.sources {
		if match(r.cfg.Name) {
			r.hurry(key, every)
		}
	}
}

func (r *runner) hurry(key string, every time.Duration) {
	r.mu.Lock()
	before := r.wanted()
	if every <= 0 {
		delete(r.faster, key)
	} else if len(r.faster) < maxFaster {
		if r.faster == nil {
			r.faster = map[string]time.Duration{}
		}
		r.faster[key] = max(every, MinInterval)
	}
	shorter := r.wanted() < before
	r.mu.Unlock()
	if shorter {
		select {
		case r.kick <- struct{}{}:
		default: // it looks soon anyway
		}
	}
}

// wanted returns the interval that counts now. Called with mu held.
func (r *runner) wanted() time.Duration {
	d := r.cfg.Interval
	for _, every := range r.faster {
		d = min(d, every)
	}
	return d
}

// pace puts the source on the interval that is wanted. The ticks of a faster rate
// begin now; back on its own interval the source is where it would have been.
func (r *runner) pace(now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch d := r.wanted(); d {
	case r.grid.interval:
	case r.cfg.Interval:
		r.grid = r.own
	default:
		r.grid = grid{now + d, d}
	}
}
