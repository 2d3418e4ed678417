package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Network is the configuration of the driver network.
type Network struct {
	// Interface is a name ("eth0"). Without it all interfaces are read but lo and
	// the virtual ends of containers (veth…), whose names change with each start;
	// the metrics then begin with the interface's name.
	Interface string `yaml:"interface"`
}

// Validate accepts any interface: it may appear later.
func (c *Network) Validate() error { return nil }

// maxInterfaces bounds the series that a machine can make with interfaces that
// come and go.
const maxInterfaces = 64

// counters are the columns of /proc/net/dev that are read.
var counters = [...]struct {
	column       int
	metric, unit string
}{
	{0, "rx_bytes", "By"},
	{1, "rx_packets", "1"},
	{2, "rx_errors", "1"},
	{8, "tx_bytes", "By"},
	{9, "tx_packets", "1"},
	{10, "tx_errors", "1"},
}

// Open reads /proc/net/dev once, to see that the interface is there.
func (c *Network) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	s := &network{
		env: env, only: c.Interface, file: attribute{path: under(env, "proc/net/dev")},
		buf: make([]byte, 64<<10), known: map[string]*netSeries{},
	}
	b, err := s.file.read(s.buf)
	if err != nil {
		return nil, fmt.Errorf("read network: %w", err)
	}
	if names := interfaces(b); c.Interface != "" && !slices.Contains(names, c.Interface) {
		s.file.close()
		return nil, edgeagent.WithHint(fmt.Errorf("no network interface %q", c.Interface), found("interfaces", names)+" (key interface)")
	}
	return s, nil
}

// interfaces lists the names in /proc/net/dev.
func interfaces(b []byte) []string {
	var names []string
	for line := range bytes.Lines(b) {
		if name, _, ok := bytes.Cut(line, []byte(":")); ok {
			names = append(names, string(bytes.TrimSpace(name)))
		}
	}
	return names
}

type netSeries [len(counters)]edgeagent.Series

type network struct {
	env    sensors.Env
	only   string
	file   attribute
	buf    []byte
	known  map[string]*netSeries
	closed bool
}

// Sample reads /proc/net/dev.
func (s *network) Sample(_ context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.closed {
		return dst, errClosed
	}
	b, err := s.file.read(s.buf)
	if err != nil {
		return dst, fmt.Errorf("read network: %w", err)
	}
	seen := false
	var failed error
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n"))
		name, columns, ok := bytes.Cut(line, []byte(":"))
		if name = bytes.TrimSpace(name); !ok || !s.wants(name) {
			continue
		}
		seen = true
		if dst, err = s.append(dst, name, columns); err != nil && failed == nil {
			failed = fmt.Errorf("read network interface %s: %w", name, err)
		}
	}
	if s.only != "" && !seen {
		failed = fmt.Errorf("network interface %s has gone", s.only)
	}
	return dst, failed
}

func (s *network) wants(name []byte) bool {
	if s.only != "" {
		return string(name) == s.only
	}
	return string(name) != "lo" && !bytes.HasPrefix(name, []byte("veth"))
}

var (
	errColumns    = errors.New("too few columns")
	errInterfaces = fmt.Errorf("more than %d interfaces", maxInterfaces)
)

// append appends the counters of one interface, all or none.
func (s *network) append(dst []edgeagent.Reading, name, columns []byte) ([]edgeagent.Reading, error) {
	series, err := s.series(name)
	if err != nil {
		return dst, err
	}
	at, n, column := s.env.Now(), len(dst), 0
	for i, c := range counters {
		var word []byte
		for ; column <= c.column; column++ {
			columns = bytes.TrimLeft(columns, " \t")
			end := bytes.IndexAny(columns, " \t")
			if end < 0 {
				end = len(columns)
			}
			word, columns = columns[:end], columns[end:]
		}
		if len(word) == 0 {
			return dst[:n], errColumns
		}
		v, err := decimal(word, 0)
		if err != nil {
			return dst[:n], err
		}
		dst = append(dst, edgeagent.Reading{Series: series[i], At: at, Value: v})
	}
	return dst, nil
}

func (s *network) series(name []byte) (*netSeries, error) {
	if known, ok := s.known[string(name)]; ok {
		return known, nil
	}
	if len(s.known) >= maxInterfaces {
		return nil, errInterfaces
	}
	prefix := ""
	if s.only == "" {
		prefix = strings.ReplaceAll(string(name), "/", "_") + "_"
	}
	series := new(netSeries)
	for i, c := range counters {
		series[i] = s.env.NewSeries(prefix+c.metric, c.unit, edgeagent.Counter)
	}
	s.known[string(name)] = series
	return series, nil
}

// Close closes the file.
func (s *network) Close() error {
	s.closed = true
	s.file.close()
	return nil
}
