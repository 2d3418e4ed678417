package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

const (
	maxWaiting     = 16 // requests; 503 beyond
	maxConnections = 16
	// answerWithin is how long a request may wait for the buffer.
	answerWithin = 10 * time.Second
	// wait keeps a sample below the scheduler's deadline.
	wait = time.Second
	// ahead is how far in the future a reading may be.
	ahead = 24 * time.Hour
)

var (
	errClosed    = errors.New("sensor is closed")
	errBusy      = errors.New("too many requests wait")
	errTooSeries = errors.New("too many series")
)

var (
	_ sensors.Paced     = (*source)(nil)
	_ sensors.Informed  = (*source)(nil)
	_ sensors.SelfPaced = (*Config)(nil)
)

// source takes requests in the server's goroutines and gives their readings in
// Sample.
type source struct {
	env    sensors.Env
	cfg    *Config
	server *http.Server
	served sync.WaitGroup
	queue  chan *ticket
	ending chan struct{} // closed by Close: nobody waits any more
	rate   limiter
	given  []*ticket // of the last sample: they wait for Taken
	closed bool

	mu     sync.Mutex // guards series
	series map[key]edgeagent.Series
}

// key tells series apart without making a name for each reading.
type key struct {
	name, metric string
	tags         edgeagent.Pairs
}

// ticket is one request that waits for its readings to be stored.
type ticket struct {
	readings []edgeagent.Reading
	done     chan error // capacity 1

	mu       sync.Mutex // guards what follows
	gone     bool       // nobody waits any more
	underWay bool
}

// start reports whether the readings are still wanted, and takes them if so.
func (t *ticket) start() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.underWay = !t.gone
	return t.underWay
}

// giveUp reports whether the readings were not taken, and will not be.
func (t *ticket) giveUp() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone = true
	return !t.underWay
}

func newSource(env sensors.Env, c *Config) *source {
	return &source{
		env: env, cfg: c, queue: make(chan *ticket, maxWaiting), ending: make(chan struct{}),
		rate: limiter{perSecond: float64(c.MaxRate)}, series: map[key]edgeagent.Series{},
	}
}

// serve answers on l until Close.
func (s *source) serve(l net.Listener) {
	s.server = &http.Server{
		Handler: s.handler(), MaxHeaderBytes: 8 << 10,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 2 * answerWithin, IdleTimeout: time.Minute,
	}
	l = netutil.LimitListener(l, maxConnections)
	s.served.Go(func() { _ = s.server.Serve(l) }) // it ends with Close alone
}

// Next is 0: Sample waits by itself.
func (s *source) Next() time.Duration { return 0 }

// Sample waits for requests for up to a second and gives their readings.
func (s *source) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.closed {
		return dst, errClosed
	}
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case x := <-s.queue:
		dst = s.take(dst, x)
	case <-ctx.Done():
		return dst, nil
	case <-t.C:
		return dst, nil
	}
	for range maxWaiting - 1 { // what waits besides shares one append
		select {
		case x := <-s.queue:
			dst = s.take(dst, x)
		default:
			return dst, nil
		}
	}
	return dst, nil
}

func (s *source) take(dst []edgeagent.Reading, t *ticket) []edgeagent.Reading {
	if !t.start() {
		return dst
	}
	s.given = append(s.given, t)
	return append(dst, t.readings...)
}

// Taken implements sensors.Informed: it answers the requests of the last sample.
func (s *source) Taken(err error) {
	for _, t := range s.given {
		t.done <- err
	}
	clear(s.given)
	s.given = s.given[:0]
}

// submit hands readings in and waits until the buffer has taken them.
func (s *source) submit(ctx context.Context, rs []edgeagent.Reading) error {
	t := &ticket{readings: rs, done: make(chan error, 1)}
	select {
	case s.queue <- t:
	default:
		return errBusy
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	select {
	case err := <-t.done:
		return err
	case <-s.ending:
	case <-ctx.Done():
	}
	if t.giveUp() {
		return errors.New("the readings were not stored in time")
	}
	return errors.New("it is not known whether the readings are stored")
}

// readings turns what was pushed into readings: all of it, or none.
func (s *source) readings(list []pushed) ([]edgeagent.Reading, error) {
	now := s.env.Now()
	out := make([]edgeagent.Reading, 0, len(list))
	for _, p := range list {
		if err := p.check(); err != nil {
			return nil, err
		}
		if p.dated && p.wall > now.Wall+int64(ahead) {
			return nil, fmt.Errorf("the time of %s is more than a day ahead", p.metric)
		}
		series, err := s.seriesOf(p)
		if err != nil {
			return nil, err
		}
		r := edgeagent.Reading{Series: series, At: now, Value: p.value}
		if p.dated {
			r.At.Wall, r.Recorded = p.wall, true
		}
		out = append(out, r)
	}
	return out, nil
}

func (s *source) seriesOf(p pushed) (edgeagent.Series, error) {
	k := key{p.name, p.metric, edgeagent.MakePairs(p.tags)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if x, ok := s.series[k]; ok {
		return x, nil
	}
	if len(s.series) >= s.cfg.MaxSeries {
		return edgeagent.Series{}, fmt.Errorf("%w: there are %d already; raise max_series", errTooSeries, s.cfg.MaxSeries)
	}
	sensor := s.env.Sensor
	if part := segments(p.name); part != "" {
		sensor += "/" + part
	}
	tags := s.env.Tags
	if len(p.tags) > 0 {
		merged := maps.Clone(p.tags)
		maps.Copy(merged, s.env.Tags.Map()) // the configuration knows better
		tags = edgeagent.MakePairs(merged)
	}
	x := edgeagent.NewSeries(edgeagent.SeriesKey{
		Sensor: sensor, Metric: clean(p.metric), Unit: s.cfg.Units[p.metric], Resolution: edgeagent.DefaultResolution, Tags: tags,
	})
	s.series[k] = x
	return x, nil
}

// Close ends the server; requests that wait get 503.
func (s *source) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.ending)
	if s.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = s.server.Close()
	}
	s.served.Wait()
	return err
}

// removeSocket removes what an earlier process left, if it is a socket.
func removeSocket(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for an old socket: %w", err)
	case st.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is there and is not a socket", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the old socket: %w", err)
	}
	return nil
}

// limiter counts readings against a rate: a bucket of one second's worth.
type limiter struct {
	perSecond float64

	mu   sync.Mutex // guards what follows
	used float64
	at   time.Time
}

// allow takes n readings, unless the bucket is full: then it says how long to wait. A
// request that is larger than the bucket is let through when it is empty.
func (l *limiter) allow(n int, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.at.IsZero() {
		l.used = max(0, l.used-now.Sub(l.at).Seconds()*l.perSecond)
	}
	l.at = now
	if l.used > 0 && l.used+float64(n) > l.perSecond {
		return time.Duration(min(l.used+float64(n)-l.perSecond, l.used) / l.perSecond * float64(time.Second)), false
	}
	l.used += float64(n)
	return 0, true
}
