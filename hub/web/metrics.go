package web

import (
	"bytes"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
)

// counters of the server itself.
type counters struct{ requests, rejected, denied atomic.Uint64 }

// family is one family of /metrics. The table of them is the reference page too.
type family struct {
	name, kind, help string
	labels           []string
	values           func(p *page, emit func(v float64, labels ...string))
}

// page is what one answer is made of.
type page struct {
	status  Status
	devices []Device
	server  *Server
}

func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	devices, err := s.devices(r.Context())
	if err != nil {
		s.fail(w, err)
		return
	}
	p := &page{s.status(r.Context()), devices, s}
	var b bytes.Buffer
	for _, f := range families() {
		f.write(&b, p)
	}
	metrics.WriteProcessMetrics(&b)
	metrics.WriteFDMetrics(&b)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

// write appends the family; one without values is left out.
func (f family) write(b *bytes.Buffer, p *page) {
	first := true
	f.values(p, func(v float64, labels ...string) {
		if first {
			first = false
			b.WriteString("# HELP " + f.name + " " + f.help + "\n# TYPE " + f.name + " " + f.kind + "\n")
		}
		name := f.name + labelSet(f.labels, labels)
		if v >= 0 && v < 1<<53 && v == float64(uint64(v)) {
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

func families() []family {
	device := []string{"tenant", "device"}
	return []family{
		{
			"edgehub_info", "gauge", "always 1; the labels say which hub this is",
			[]string{"name", "version", "sink"},
			func(p *page, emit func(float64, ...string)) {
				emit(1, p.status.Name, p.status.Version, p.status.Sink.Name)
			},
		},
		one("edgehub_health_level", "gauge", "0 ok, 1 degraded, 2 failed", func(s *Status) float64 { return float64(s.Health) }),
		one("edgehub_uptime_seconds", "gauge", "since the start", func(s *Status) float64 { return s.UptimeS }),
		one("edgehub_devices", "gauge", "devices known", func(s *Status) float64 { return float64(s.Devices) }),
		one("edgehub_devices_silent", "gauge", "devices not heard for two minutes", func(s *Status) float64 { return float64(s.Silent) }),
		one("edgehub_messages_total", "counter", "messages received", func(s *Status) float64 { return float64(s.Messages) }),
		one("edgehub_message_bytes_total", "counter", "bytes of their payloads", func(s *Status) float64 { return float64(s.Bytes) }),
		one("edgehub_records_total", "counter", "records stored since the start", func(s *Status) float64 { return float64(s.Records) }),
		one("edgehub_records_resent", "gauge", "records that came again and were left out; of those that no commit has followed yet, each worker knows its own", func(s *Status) float64 { return float64(s.Resent) }),
		one("edgehub_records_missing", "gauge", "records that are not held and that no device has named as lost", func(s *Status) float64 { return float64(s.Missing) }),
		one("edgehub_records_lost", "gauge", "records that devices cannot deliver any more, at most", func(s *Status) float64 { return float64(s.Lost) }),
		one("edgehub_bad_topics_total", "counter", "messages whose topic names no device", func(s *Status) float64 { return float64(s.BadTopics) }),
		one("edgehub_refused_total", "counter", "messages and blocks over a bound", func(s *Status) float64 { return float64(s.Refused) }),
		one("edgehub_marks_total", "counter", "reports of devices about themselves", func(s *Status) float64 { return float64(s.Marks) }),
		one("edgehub_queue", "gauge", "messages that wait for the next commit", func(s *Status) float64 { return float64(s.Queued) }),
		one("edgehub_acks_total", "counter", "end-to-end acks sent", func(s *Status) float64 { return float64(s.Acks) }),
		one("edgehub_ack_errors_total", "counter", "end-to-end acks that could not be sent and were sent later", func(s *Status) float64 { return float64(s.AckErrors) }),
		one("edgehub_replays_total", "counter", "requests for what is missing", func(s *Status) float64 { return float64(s.Replays) }),
		one("edgehub_sink_errors_total", "counter", "commits that failed and were tried again", func(s *Status) float64 { return float64(s.Sink.Errors) }),
		one("edgehub_sink_failing", "gauge", "1 while the last commit failed", func(s *Status) float64 { return oneIf(s.Sink.Error != "") }),
		{
			"edgehub_quarantined_total", "counter", "blocks put into quarantine",
			[]string{"cause"},
			func(p *page, emit func(float64, ...string)) {
				for _, cause := range []string{"series", "poison", "conflict", "format"} {
					emit(float64(p.status.Quarantined[cause]), cause)
				}
			},
		},
		one("edgehub_quarantine_bytes", "gauge", "bytes in quarantine", func(s *Status) float64 { return float64(s.QuarantineBytes) }),
		one("edgehub_quarantine_dropped_total", "counter", "blocks in quarantine that gave way to newer ones", func(s *Status) float64 { return float64(s.QuarantineDropped) }),
		perInput("edgehub_input_connected", "gauge", "1 while the input has its connection", func(i Input) float64 { return oneIf(i.Connected) }),
		perInput("edgehub_input_delivered_total", "counter", "messages taken from the input", func(i Input) float64 { return float64(i.Delivered) }),
		perInput("edgehub_input_dropped_total", "counter", "messages that came while the queue was full; they come again", func(i Input) float64 { return float64(i.Dropped) }),
		perInput("edgehub_input_queue", "gauge", "messages queued", func(i Input) float64 { return float64(i.Depth) }),
		perDevice("edgehub_device_last_seen_timestamp_seconds", device, "when the device was heard last", func(d Device) (float64, bool) {
			return float64(d.Seen.UnixMilli()) / 1e3, !d.Seen.IsZero()
		}),
		perDevice("edgehub_device_records", device, "records held of the device", func(d Device) (float64, bool) { return float64(d.Records), true }),
		perDevice("edgehub_device_missing", device, "records that are not held and not named as lost", func(d Device) (float64, bool) { return float64(d.Missing), true }),
		perDevice("edgehub_device_lost", device, "records that the device cannot deliver any more, at most", func(d Device) (float64, bool) { return float64(d.Lost), true }),
		perDevice("edgehub_device_complete", device, "1 while everything that the device has is held or named", func(d Device) (float64, bool) { return oneIf(d.Complete), true }),
		perDevice("edgehub_device_lag_seconds", device, "from the newest reading to now", func(d Device) (float64, bool) {
			if d.LagS == nil {
				return 0, false
			}
			return *d.LagS, true
		}),
		server("edgehub_http_requests_total", "requests for the page and the API", func(c *counters) uint64 { return c.requests.Load() }),
		server("edgehub_http_rejected_total", "requests refused because too many were in work", func(c *counters) uint64 { return c.rejected.Load() }),
		server("edgehub_http_denied_total", "requests without the token", func(c *counters) uint64 { return c.denied.Load() }),
	}
}

// one is a family with a single value and no labels.
func one(name, kind, help string, value func(*Status) float64) family {
	return family{name, kind, help, nil, func(p *page, emit func(float64, ...string)) { emit(value(&p.status)) }}
}

func server(name, help string, value func(*counters) uint64) family {
	return family{name, "counter", help, nil, func(p *page, emit func(float64, ...string)) { emit(float64(value(&p.server.count))) }}
}

func perInput(name, kind, help string, value func(Input) float64) family {
	return family{name, kind, help, []string{"input"}, func(p *page, emit func(float64, ...string)) {
		for _, i := range p.status.Inputs {
			emit(value(i), i.Name)
		}
	}}
}

func perDevice(name string, labels []string, help string, value func(Device) (float64, bool)) family {
	return family{name, "gauge", help, labels, func(p *page, emit func(float64, ...string)) {
		for _, d := range p.devices {
			if v, ok := value(d); ok {
				emit(v, d.Tenant, d.Device)
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
