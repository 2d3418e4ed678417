package gpio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

var (
	_ sensors.SelfPaced = (*Config)(nil)

	_ sensors.Source = (*input)(nil)
	_ sensors.Paced  = (*edges)(nil)
	_ sensors.Source = (*counter)(nil)
)

// input gives the level of a line on every interval.
type input struct {
	env    sensors.Env
	line   line
	place  Place
	series edgeagent.Series
	closed bool
}

// Sample reads the level.
func (s *input) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if err := s.usable(ctx); err != nil {
		return dst, err
	}
	high, err := s.line.level()
	if err != nil {
		return dst, fmt.Errorf("read line %s: %w", s.place, err)
	}
	return append(dst, edgeagent.Reading{Series: s.series, At: s.env.Now(), Value: value(high)}), nil
}

func (s *input) usable(ctx context.Context) error {
	if s.closed {
		return errClosed
	}
	return ctx.Err()
}

// Close gives the line back.
func (s *input) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	return s.line.Close()
}

func value(high bool) float64 {
	if high {
		return 1
	}
	return 0
}

const (
	// stateEvery is how often the level is given while nothing changes.
	stateEvery = 10 * time.Second
	// edgeWait keeps a call below the scheduler's deadline.
	edgeWait = time.Second
	// maxAge is how old an edge can be: what is older is a clock that makes no
	// sense.
	maxAge = 10 * time.Second
)

// edges gives each change of a line as it comes.
type edges struct {
	input
	buf   []edge
	last  uint32        // number of the last edge seen
	given time.Duration // run time of the last reading
	begun bool
}

// Next is 0: Sample waits by itself.
func (s *edges) Next() time.Duration { return 0 }

// Sample waits for edges for up to a second. While none come it gives the level
// every ten seconds. Edges that the kernel had no room for are an error beside those
// that it had.
func (s *edges) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if err := s.usable(ctx); err != nil {
		return dst, err
	}
	if now := s.env.Clock.Run(); !s.begun || now-s.given >= stateEvery {
		dst, err := s.input.Sample(ctx, dst)
		if err == nil {
			s.begun, s.given = true, now
		}
		return dst, err
	}
	wait, cancel := context.WithTimeout(ctx, min(edgeWait, s.given+stateEvery-s.env.Clock.Run()))
	defer cancel()
	err := s.line.await(wait)
	if err == nil {
		s.buf, err = s.line.edges(s.buf[:0])
	}
	if err != nil {
		return dst, fmt.Errorf("read edges of line %s: %w", s.place, err)
	}
	lost := uint32(0)
	for _, e := range s.buf {
		lost += e.number - s.last - 1
		s.last = e.number
		dst = append(dst, edgeagent.Reading{Series: s.series, At: before(s.env.Now(), e.age), Value: value(e.high)})
	}
	if len(s.buf) > 0 {
		s.given = s.env.Clock.Run()
	}
	if lost > 0 {
		return dst, edgeagent.WithHint(fmt.Errorf("%d edges of line %s came faster than they were read", lost, s.place),
			`set the key debounce, or use "mode: counter", which misses none`)
	}
	return dst, nil
}

// before returns the time of what happened age ago.
func before(now edgeagent.Instant, age time.Duration) edgeagent.Instant {
	age = min(max(age, 0), maxAge)
	return edgeagent.Instant{Wall: now.Wall - int64(age), Run: max(now.Run-int64(age), 0)}
}

// counter counts the edges of a line.
type counter struct {
	input
	store total
	buf   []edge
	seen  uint32 // number of the last edge counted
}

func newCounter(env sensors.Env, l line, p Place, series edgeagent.Series) (*counter, error) {
	store, err := openTotal(env.State, env.Sensor)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("count of %s: %w", env.Sensor, err), `check the directory beside "buffer.dir"`)
	}
	return &counter{input: input{env: env, line: l, place: p, series: series}, store: store}, nil
}

// Sample counts what came since the last one.
func (s *counter) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if err := s.usable(ctx); err != nil {
		return dst, err
	}
	var err error
	if s.buf, err = s.line.edges(s.buf[:0]); err != nil {
		return dst, fmt.Errorf("read edges of line %s: %w", s.place, err)
	}
	at := s.env.Now()
	if n := len(s.buf); n > 0 {
		err = s.store.add(uint64(s.buf[n-1].number - s.seen))
		s.seen = s.buf[n-1].number
	}
	return append(dst, edgeagent.Reading{Series: s.series, At: at, Value: float64(s.store.count)}), err
}

// Close counts what still waits and gives the line back.
func (s *counter) Close() error {
	if s.closed {
		return nil
	}
	_, err := s.Sample(context.Background(), nil)
	return errors.Join(err, s.store.Close(), s.input.Close())
}
