package api

import (
	"bytes"
	"math"
	"net/http"
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgeagent/edgeagent"
)

// metric is one family of /metrics. The table of them is the reference page too.
type metric struct {
	name   string
	kind   string // "gauge" or "counter"
	help   string
	labels []string
	values func(s *Status, emit emitFunc)
}

// emitFunc takes one value and the values of its labels, in the order of
// metric.labels.
type emitFunc func(v float64, labels ...string)

// serveMetrics writes the families in the order of their table, then what the
// process and Go's runtime say of themselves.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	status := s.status(r)
	var b bytes.Buffer
	for _, m := range statusMetrics() {
		m.write(&b, &status)
	}
	for _, m := range s.ownMetrics() {
		m.write(&b, &status)
	}
	metrics.WriteProcessMetrics(&b)
	metrics.WriteFDMetrics(&b)
	if s.opts.Metrics != nil {
		s.opts.Metrics(&b)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

// write appends the family; one without values is left out. Prometheus refuses a
// page on which a series stands twice, so the first of two wins.
func (m metric) write(b *bytes.Buffer, s *Status) {
	seen := map[string]bool{}
	m.values(s, func(v float64, labels ...string) {
		name := m.name + labelSet(m.labels, labels)
		if seen[name] {
			return
		}
		if len(seen) == 0 {
			b.WriteString("# HELP " + m.name + " " + m.help + "\n# TYPE " + m.name + " " + m.kind + "\n")
		}
		seen[name] = true
		if v >= 0 && v < 1<<53 && v == math.Trunc(v) {
			metrics.WriteGaugeUint64(b, name, uint64(v)) // 67108864, not 6.7108864e+07
		} else {
			metrics.WriteGaugeFloat64(b, name, v)
		}
	})
}

// labelEscaper: the three escapes of the text format.
var labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func labelSet(names, values []string) string {
	if len(names) == 0 {
		return ""
	}
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = n + `="` + labelEscaper.Replace(strings.ToValidUTF8(values[i], "\uFFFD")) + `"`
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func (s *Server) ownMetrics() []metric {
	return []metric{
		one("edgeagent_api_requests_total", "counter", "requests to the local API", func(*Status) float64 { return float64(s.requests.Load()) }),
		one("edgeagent_api_rejected_total", "counter", "requests refused because too many were in work", func(*Status) float64 { return float64(s.rejected.Load()) }),
		one("edgeagent_api_requests_in_work", "gauge", "requests in work now, this one included", func(*Status) float64 { return float64(len(s.slots)) }),
	}
}

// one is a family with a single value and no labels.
func one(name, kind, help string, value func(*Status) float64) metric {
	return metric{name, kind, help, nil, func(s *Status, emit emitFunc) { emit(value(s)) }}
}

// present is a family that is left out while its value is unknown.
func present(name, kind, help string, value func(*Status) (float64, bool)) metric {
	return metric{name, kind, help, nil, func(s *Status, emit emitFunc) {
		if v, ok := value(s); ok {
			emit(v)
		}
	}}
}

func perSensor(name, kind, help string, value func(Sensor) float64) metric {
	return metric{name, kind, help, []string{"sensor"}, func(s *Status, emit emitFunc) {
		for _, x := range s.Sensors {
			emit(value(x), x.Name)
		}
	}}
}

func perUplink(name, kind, help string, value func(Uplink) float64) metric {
	return metric{name, kind, help, []string{"destination"}, func(s *Status, emit emitFunc) {
		for _, u := range s.Uplinks {
			emit(value(u), u.Name)
		}
	}}
}

func perStream(name, kind, help string, value func(Stream) float64) metric {
	return metric{name, kind, help, []string{"stream"}, func(s *Status, emit emitFunc) {
		for _, id := range edgeagent.Streams() {
			if x, ok := s.Buffer.Streams[id]; ok {
				emit(value(x), id.String())
			}
		}
	}}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unix returns t as seconds since 1970.
func unix(t Time) float64 { return float64(t.UnixMilli()) / 1e3 }
