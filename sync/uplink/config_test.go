package uplink

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edgeagent/edgeagent"
)

func TestDefaults(t *testing.T) {
	common := Config{
		LiveWindow: time.Minute, Linger: 500 * time.Millisecond, AckTimeout: 20 * time.Second, ConfirmTimeout: 5 * time.Minute,
		MaxInFlight: 64, MaxMessage: 256 << 10,
		Reconnect: ReconnectConfig{Base: time.Second, Cap: 2 * time.Minute, Spread: 5 * time.Second},
		Start:     StartOldest, Compression: NoCompression, NoSubscriber: WaitForSubscriber, Order: OldestFirst, BacklogShare: 10,
	}
	with := func(format string, ack AckLevel, receiver string) Config {
		c := common
		c.Format, c.Ack, c.Receiver = format, ack, receiver
		return c
	}
	for _, tt := range []struct {
		name      string
		give      Config
		want      Config
		different func(*Config)
	}{
		{"nothing", Config{}, with(FormatLine, AckTransport, ""), nil},
		{"a receiver", Config{Receiver: "hub"}, with(FormatBlock, AckEndToEnd, "hub"), nil},
		{"blocks", Config{Format: FormatBlock}, with(FormatBlock, AckEndToEnd, "hub"), nil},
		{"blocks to nobody", Config{Format: FormatBlock, Ack: AckTransport}, with(FormatBlock, AckTransport, ""), nil},
		{"json", Config{Format: FormatJSON}, with(FormatJSON, AckTransport, ""), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.give.WithDefaults(), cmpopts.IgnoreUnexported(edgeagent.Secret{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	quick := Config{Reconnect: ReconnectConfig{Base: 200 * time.Millisecond}}.WithDefaults()
	if quick.Reconnect.Spread != 200*time.Millisecond {
		t.Errorf("spread %v with a base of 200 ms", quick.Reconnect.Spread)
	}
}

func TestValidate(t *testing.T) {
	good := Config{Name: "hub", Links: []LinkConfig{{URL: "mqtt://broker.local:1883"}}}
	if err := good.Validate(); err != nil {
		t.Fatalf("a good configuration: %v", err)
	}
	link := func(l LinkConfig) func(*Config) { return func(c *Config) { c.Links = []LinkConfig{l} } }
	url := func(s string) func(*Config) { return link(LinkConfig{URL: s}) }
	for _, tt := range []struct {
		name   string
		change func(*Config)
		path   string
		text   string
		hint   bool
	}{
		{"no name", func(c *Config) { c.Name = "" }, "name", "missing", false},
		{"no link", func(c *Config) { c.Links = nil }, "links", "no link", false},
		{"nine links", func(c *Config) { c.Links = slices.Repeat(c.Links, 9) }, "links", "at most 8", false},
		{"no url", url(""), "links[0].url", "missing", true},
		{"not a url", url("mqtt://a b"), "links[0].url", "not a URL", true},
		{"a scheme", url("http://host"), "links[0].url", "unknown scheme", true},
		{"no scheme", url("broker.local:1883"), "links[0].url", "unknown scheme", true},
		{"no datagrams at all", link(LinkConfig{URL: "coap://h", NStart: -1}), "links[0].nstart", "1 to 4", false},
		{"many datagrams", link(LinkConfig{URL: "coaps://h", NStart: 5}), "links[0].nstart", "1 to 4", false},
		{"datagrams of a stream", link(LinkConfig{URL: "coap+tcp://h", NStart: 2}), "links[0].nstart", "over datagrams", true},
		{"datagrams of MQTT", link(LinkConfig{URL: "mqtt://h", NStart: 2}), "links[0].nstart", "over datagrams", true},
		{"CoAP with a query", url("coap://host/x?y"), "links[0].url", "more than host", true},
		{"a login over plain CoAP", link(LinkConfig{URL: "coap://h", Username: "u", Password: edgeagent.NewSecret("x")}), "links[0].username", "no login", true},
		{"half a pre-shared key", link(LinkConfig{URL: "coaps://h", Username: "u"}), "links[0].password", "pre-shared key", false},
		{"a pre-shared key and certificates", link(LinkConfig{URL: "coaps://h", Username: "u", Password: edgeagent.NewSecret("x"), TLS: TLSConfig{CA: "ca.pem"}}), "links[0].tls", "not both", true},
		{"DTLS 1.3", link(LinkConfig{URL: "coaps://h", TLS: TLSConfig{MinVersion: "1.3"}}), "links[0].tls.min_version", "DTLS 1.3", true},
		{"compressed over CoAP", func(c *Config) {
			c.Links, c.Compression = append(c.Links, LinkConfig{URL: "coap://h"}), Gzip
		}, "compression", "not told", true},
		{"CoAP through a proxy", link(LinkConfig{URL: "coap+tcp://h", Proxy: ProxyConfig{URL: "http://proxy"}}), "links[0].proxy", "no proxy", true},
		{"CoAP with a client id", link(LinkConfig{URL: "coap://h", ClientID: "x"}), "links[0].client_id", "no client ids", true},
		{"certificates over plain CoAP", link(LinkConfig{URL: "coap://h", TLS: TLSConfig{CA: "ca.pem"}}), "links[0].tls", "is not secured", true},
		{"TLS without a scheme for it", func(c *Config) { c.Links = []LinkConfig{{URL: "mqtt://host", TLS: TLSConfig{CA: "ca.pem"}}} }, "links[0].tls", "is not secured", true},
		{"a certificate without its key", func(c *Config) { c.Links = []LinkConfig{{URL: "mqtts://host", TLS: TLSConfig{Cert: "c.pem"}}} }, "links[0].tls.cert", "belong together", false},
		{"an old TLS version", func(c *Config) { c.Links = []LinkConfig{{URL: "mqtts://host", TLS: TLSConfig{MinVersion: "1.1"}}} }, "links[0].tls.min_version", "unknown TLS version", false},
		{"a pin that is none", func(c *Config) {
			c.Links = []LinkConfig{{URL: "mqtts://host", TLS: TLSConfig{Pins: []string{"sha256/abc"}}}}
		}, "links[0].tls.pins[0]", "44 base64 digits", true},
		{"an empty protocol", func(c *Config) { c.Links = []LinkConfig{{URL: "mqtts://host", TLS: TLSConfig{ALPN: []string{""}}}} }, "links[0].tls.alpn[0]", "1 to 255 bytes", false},
		{"a proxy of another kind", func(c *Config) { c.Links = []LinkConfig{{URL: "mqtt://host", Proxy: ProxyConfig{URL: "ftp://proxy"}}} }, "links[0].proxy.url", "unknown scheme", true},
		{"a proxy with a login in its url", func(c *Config) {
			c.Links = []LinkConfig{{URL: "mqtt://host", Proxy: ProxyConfig{URL: "http://u:p@proxy"}}}
		}, "links[0].proxy.url", "holds a login", true},
		{"a proxy login without a proxy", func(c *Config) { c.Links = []LinkConfig{{URL: "mqtt://host", Proxy: ProxyConfig{Username: "u"}}} }, "links[0].proxy.url", "missing key url", false},
		{"no host", url("mqtt://:1883"), "links[0].url", "host is missing", true},
		{"a port", url("mqtt://host:70000"), "links[0].url", "bad port", false},
		{"a login", url("mqtt://me:secret@host"), "links[0].url", "login", true},
		{"a path", url("mqtt://host/topic"), "links[0].url", "more than host", true},
		{"protocol", link(LinkConfig{URL: "tcp://h", Protocol: "4"}), "links[0].protocol", "unknown protocol", false},
		{"protocol of CoAP", link(LinkConfig{URL: "coap://h", Protocol: "5"}), "links[0].protocol", "are of MQTT", true},
		{"reasons in 3.1.1", func(c *Config) { c.Ack, c.Links = AckReason, []LinkConfig{{URL: "tcp://h", Protocol: "3.1.1"}} }, "links[0].protocol", "no reason codes", true},
		{"expiry in 3.1.1", link(LinkConfig{URL: "tcp://h", Protocol: "3.1.1", MessageExpiry: time.Hour}), "links[0].message_expiry", "no message expiry", true},
		{"expiry of years", link(LinkConfig{URL: "tcp://h", MessageExpiry: 1e6 * time.Hour}), "links[0].message_expiry", "out of range", false},
		{"keep-alive", link(LinkConfig{URL: "tcp://h", KeepAlive: time.Hour}), "links[0].keep_alive", "out of range", false},
		{"a password alone", link(LinkConfig{URL: "tcp://h", Password: edgeagent.NewSecret("x")}), "links[0].password", "username", false},
		{"a format", func(c *Config) { c.Format = "xml" }, "format", "unknown format", false},
		{"a later format", func(c *Config) { c.Format = "sparkplug" }, "format", "not in this release", true},
		{"an ack level", func(c *Config) { c.Ack = "maybe" }, "ack", "unknown ack level", false},
		{"a start", func(c *Config) { c.Start = "later" }, "start", "want oldest or now", false},
		{"a compression", func(c *Config) { c.Format, c.Compression = FormatLine, "zip" }, "compression", "want none, gzip or lz4", false},
		{"compressed blocks", func(c *Config) { c.Format, c.Compression = FormatBlock, Gzip }, "compression", "compressed already", true},
		{"no subscriber", func(c *Config) { c.NoSubscriber = "hold" }, "no_subscriber", "want wait or accept", false},
		{"an order", func(c *Config) { c.Order = "random" }, "order", "want oldest or newest", false},
		{"a share", func(c *Config) { c.BacklogShare = 51 }, "backlog_share", "1 to 50 percent", false},
		{"a small rate of backlog", func(c *Config) { c.BacklogRate = 99 }, "backlog_rate", "at least 100 B", false},
		{"a negative rate of backlog", func(c *Config) { c.BacklogRate = -1 }, "backlog_rate", "at least 100 B", false},
		{"a small rate", func(c *Config) { c.Rate = 99 }, "rate", "at least 100 B", false},
		{"a burst alone", func(c *Config) { c.Burst = 1 << 20 }, "burst", "needs a rate", false},
		{"a small burst", func(c *Config) { c.Rate, c.Burst = 1000, 1000 }, "burst", "at least 16 KiB", false},
		{"a small quota", func(c *Config) { c.Quota.Limit = 1000 }, "quota.limit", "at least 1 MiB", false},
		{"a quota without a limit", func(c *Config) { c.Quota.ResetDay = 5 }, "quota.limit", "at least 1 MiB", false},
		{"a day", func(c *Config) { c.Quota = QuotaConfig{Limit: 1 << 30, ResetDay: 32} }, "quota.reset_day", "1 to 31", false},
		{"a reserve", func(c *Config) { c.Quota = QuotaConfig{Limit: 1 << 30, Reserve: 91} }, "quota.reserve", "1 to 90", false},
		{"a reserve for alarms", func(c *Config) { c.Quota = QuotaConfig{Limit: 1 << 30, Reserve: 10, ReserveAlarms: 11} }, "quota.reserve_alarms", "which is 10", false},
		{"a time zone", func(c *Config) { c.Quota = QuotaConfig{Limit: 1 << 30, Timezone: "Mars/Olympus"} }, "quota.timezone", "unknown time zone", true},
		{"a time of day", func(c *Config) { c.Connect.Times = []string{"25:00-26:00"} }, "connect.times[0]", "bad time of day", true},
		{"a time of no length", func(c *Config) { c.Connect.Times = []string{"10:00-10:00"} }, "connect.times[0]", "bad time of day", true},
		{"days", func(c *Config) { c.Connect.Times = []string{"always 10:00-11:00"} }, "connect.times[0]", "unknown days", true},
		{"alarms", func(c *Config) { c.Connect = ConnectConfig{Times: []string{"10:00-11:00"}, Alarms: "ring"} }, "connect.alarms", "want open or wait", false},
		{"alarms without times", func(c *Config) { c.Connect.Alarms = AlarmsWait }, "connect.times", "missing key", false},
		{"text end to end", func(c *Config) { c.Format, c.Ack = FormatLine, AckEndToEnd }, "ack", "end to end", true},
		{"text to a receiver", func(c *Config) { c.Format, c.Receiver = FormatJSON, "hub" }, "receiver", "reads blocks", true},
		{"live window", func(c *Config) { c.LiveWindow = time.Millisecond }, "live_window", "out of range", false},
		{"negative", func(c *Config) { c.LiveWindow = -time.Second }, "live_window", "out of range", false},
		{"linger", func(c *Config) { c.Linger = time.Minute }, "linger", "out of range", false},
		{"linger over live window", func(c *Config) { c.LiveWindow, c.Linger = time.Second, 2*time.Second }, "linger", "out of range", false},
		{"ack timeout", func(c *Config) { c.AckTimeout = time.Millisecond }, "ack_timeout", "out of range", false},
		{"confirm timeout", func(c *Config) { c.ConfirmTimeout = 24 * time.Hour }, "confirm_timeout", "out of range", false},
		{"window", func(c *Config) { c.MaxInFlight = 65 }, "max_in_flight", "1 to 64", false},
		{"small message", func(c *Config) { c.MaxMessage = 100 }, "max_message", "8KiB to 256KiB", false},
		{"large message", func(c *Config) { c.MaxMessage = 1 << 20 }, "max_message", "8KiB to 256KiB", false},
		{"base", func(c *Config) { c.Reconnect.Base = time.Nanosecond }, "reconnect.base", "out of range", false},
		{"cap under base", func(c *Config) { c.Reconnect = ReconnectConfig{Base: time.Minute, Cap: time.Second} }, "reconnect.cap", "out of range", false},
		{"spread", func(c *Config) { c.Reconnect.Spread = -1 }, "reconnect.spread", "out of range", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := good
			tt.change(&c)
			err := c.Validate()
			if err == nil {
				t.Fatal("no error")
			}
			f, ok := errors.AsType[*edgeagent.FieldError](err)
			if !ok || f.Path != tt.path || !strings.Contains(f.Err.Error(), tt.text) {
				t.Errorf("error %v, want %s: … %s …", err, tt.path, tt.text)
			}
			if _, hinted := errors.AsType[edgeagent.Hinter](err); hinted != tt.hint {
				t.Errorf("hint: %v, want %v", hinted, tt.hint)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells a password: %v", err)
			}
		})
	}
}

func TestValidateReportsEverything(t *testing.T) {
	err := Config{Format: "xml", MaxInFlight: -1}.Validate()
	for _, key := range []string{"name", "links", "format", "max_in_flight"} {
		if !strings.Contains(err.Error(), key+":") {
			t.Errorf("%s is not reported in %v", key, err)
		}
	}
}

// TestCoAPDefaults: to a server that is not ours the readings go as SenML.
func TestCoAPDefaults(t *testing.T) {
	for _, tt := range []struct {
		name, first, receiver string
		format                string
		timeout               time.Duration
	}{
		{"a server", "coap://host", "", FormatSenMLCBOR, 2 * time.Minute},
		{"a hub", "coaps+tcp://host", "hub", FormatBlock, 2 * time.Minute},
		{"a broker first", "mqtt://host", "", FormatLine, 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Name: "x", Receiver: tt.receiver, Links: []LinkConfig{{URL: tt.first}, {URL: "coap://other"}}}
			if err := c.Validate(); err != nil {
				t.Error(err)
			}
			if d := c.WithDefaults(); d.Format != tt.format || d.AckTimeout != tt.timeout {
				t.Errorf("format %s, ack_timeout %v; want %s, %v", d.Format, d.AckTimeout, tt.format, tt.timeout)
			}
		})
	}
}
