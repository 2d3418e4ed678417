package mqttin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/sensortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const noon = 1_767_268_800_000_000_000 // 2026-01-01T12:00:00Z

func decode(t *testing.T, d *decoder, m message) (string, error) {
	t.Helper()
	m.at.Wall = noon
	rs, err := d.decode(nil, m)
	var out []string
	for _, r := range rs {
		s := fmt.Sprintf("%s=%v", r.Series, r.Value)
		if r.Quality != edgeagent.Good {
			s += "!" + r.Quality.String()
		}
		if r.Recorded {
			s += "@" + time.Unix(0, r.At.Wall).UTC().Format("15:04:05")
		}
		out = append(out, s)
	}
	return strings.Join(out, " "), err
}

func newDecoder(topics ...Topic) *decoder {
	return &decoder{env: sensortest.Env("home"), topics: topics, max: 1000, series: map[name]edgeagent.Series{}}
}

func TestDecode(t *testing.T) {
	zigbee := Topic{Filter: "zigbee2mqtt/+"}
	for _, tt := range []struct {
		name    string
		topic   Topic
		message message
		want    string
		err     string
	}{
		{
			"Zigbee2MQTT", zigbee,
			message{topic: "zigbee2mqtt/kitchen", payload: []byte(`{"temperature":21.5,"contact":false,"state":"ON","model":"X1"}`)},
			"home/kitchen/temperature=21.5 home/kitchen/contact=0 home/kitchen/state=1", "",
		},
		{
			"Tasmota",
			Topic{Filter: "tele/+/SENSOR", Time: "Time", Metrics: []Metric{{Path: "ENERGY.Power", Name: "power", Unit: "W"}, {Path: "ENERGY.Total"}}},
			message{topic: "tele/plug/SENSOR", payload: []byte(`{"ENERGY":{"Power":12,"Total":3.5,"Today":1},"Time":"2026-01-01T11:00:00Z"}`)},
			"home/plug/power=12@11:00:00 home/plug/ENERGY_Total=3.5@11:00:00", "",
		},
		{"Shelly", Topic{Filter: "shellies/+/relay/+/power", Format: "value", Sensor: "{2}/{4}"}, message{topic: "shellies/shed/relay/0/power", payload: []byte("61.2")}, "home/shed/0/power=61.2", ""},
		{"a state", Topic{Filter: "stat/+/POWER", Format: "value", Metric: "on"}, message{topic: "stat/plug/POWER", payload: []byte("OFF")}, "home/plug/on=0", ""},
		{"states of one's own", Topic{Filter: "door", States: map[string]float64{"open": 2}}, message{topic: "door", payload: []byte(`{"a":"open","b":"ON"}`)}, "home/a=2", ""},
		{"a number in JSON", Topic{Filter: "n/#"}, message{topic: "n/a/b", payload: []byte(`5`)}, "home/a/b/value=5", ""},
		{"retained is stale", zigbee, message{topic: "zigbee2mqtt/a", payload: []byte(`{"t":1}`), retained: true}, "home/a/t=1!stale", ""},
		{"retained is skipped", Topic{Filter: "+", Retained: "skip"}, message{topic: "a", payload: []byte(`{"t":1}`), retained: true}, "", ""},
		{"retained is fresh", Topic{Filter: "+", Retained: "fresh"}, message{topic: "a", payload: []byte(`{"t":1}`), retained: true}, "home/a/t=1", ""},
		{"a time of 1970 is not used", Topic{Filter: "a", Time: "ts"}, message{topic: "a", payload: []byte(`{"ts":12,"t":1}`)}, "home/t=1", ""},
		{"milliseconds", Topic{Filter: "a", Time: "ts"}, message{topic: "a", payload: []byte(`{"t":1,"ts":1767268799000}`)}, "home/t=1@11:59:59", ""},
		{"tomorrow is not used", Topic{Filter: "a", Time: "ts"}, message{topic: "a", payload: []byte(`{"t":1,"ts":1768268799}`)}, "home/t=1", ""},
		{"hostile levels", zigbee, message{topic: "zigbee2mqtt/a b*\x01\"ü" + strings.Repeat("x", 100), payload: []byte(`{"a/b c":1}`)}, "home/a_b___ü" + strings.Repeat("x", 56) + "/a_b_c=1", ""},
		{"an empty level", zigbee, message{topic: "zigbee2mqtt/", payload: []byte(`1`)}, "home/_/value=1", ""},
		{"not JSON", zigbee, message{topic: "zigbee2mqtt/a", payload: []byte(`{"t":1,x`)}, "home/a/t=1", `topic "zigbee2mqtt/a": not JSON`},
		{"neither", Topic{Filter: "a", Format: "value"}, message{topic: "a", payload: []byte("warm")}, "", "neither a number nor a state"},
		{"another topic", zigbee, message{topic: "zigbee2mqtt/bridge/state", payload: []byte(`1`)}, "", "no filter"},
		{"the broker's own", Topic{Filter: "#"}, message{topic: "$SYS/load", payload: []byte(`1`)}, "", "no filter"},
		{"a level that is not there", Topic{Filter: "a/#", Sensor: "{3}"}, message{topic: "a/b", payload: []byte(`1`)}, "", "no level {3}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.topic.validate(); err != nil {
				t.Fatal(err)
			}
			got, err := decode(t, newDecoder(tt.topic), tt.message)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %q, %v\nwant %q", got, err, tt.want)
			}
		})
	}
}

// The first filter that matches decides.
func TestOrderOfFilters(t *testing.T) {
	d := newDecoder(Topic{Filter: "a/b", Sensor: "first"}, Topic{Filter: "a/+"})
	if got, _ := decode(t, d, message{topic: "a/b", payload: []byte("1")}); got != "home/first/value=1" {
		t.Error(got)
	}
	if got, _ := decode(t, d, message{topic: "a/c", payload: []byte("1")}); got != "home/c/value=1" {
		t.Error(got)
	}
}

func TestSeriesAreBounded(t *testing.T) {
	d := newDecoder(Topic{Filter: "+"})
	d.max = 10
	for i := range 100 {
		_, _ = decode(t, d, message{topic: fmt.Sprint("t", i), payload: []byte("1")})
	}
	if len(d.series) != 10 || d.refused != 90 {
		t.Errorf("%d series, %d refused", len(d.series), d.refused)
	}
	if got, _ := decode(t, d, message{topic: "t3", payload: []byte("2")}); got != "home/t3/value=2" {
		t.Errorf("a known series gives %q", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("zigbee2mqtt/kitchen", []byte(`{"t":1,"u":{"v":[true,"ON"]},"time":"2026-01-01T00:00:00"}`), "zigbee2mqtt/+", "{2}")
	f.Add("a/b/c", []byte("12"), "a/#", "")
	f.Fuzz(func(t *testing.T, topic string, b []byte, filter, sensor string) {
		x := Topic{Filter: filter, Sensor: sensor, Time: "time"}
		if x.validate() != nil {
			return
		}
		rs, _ := newDecoder(x).decode(nil, message{topic: topic, payload: b})
		for _, r := range rs {
			k := r.Series.Key()
			if !strings.HasPrefix(k.Sensor, "home") || k.Metric == "" || strings.ContainsAny(k.Metric, "/ *") || strings.ContainsAny(k.Sensor, "\x00\"#") {
				t.Errorf("%q %q gives %q %q", topic, b, k.Sensor, k.Metric)
			}
		}
	})
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		change     func(*Config)
	}{
		{"least", "", func(*Config) {}},
		{"no topics", "topics: 0 filters", func(c *Config) { c.Topics = nil }},
		{"TLS", `url: "mqtts://h" is not the address`, func(c *Config) { c.URL = "mqtts://h" }},
		{"password in the URL", "is not the address", func(c *Config) { c.URL = "mqtt://u:p@h" }},
		{"filter", `topics[0].filter: "a/#/b"`, func(c *Config) { c.Topics[0].Filter = "a/#/b" }},
		{"half a level", `topics[0].filter: "a+"`, func(c *Config) { c.Topics[0].Filter = "a+" }},
		{"twice", `topics[1].filter: "a" is there twice`, func(c *Config) { c.Topics = append(c.Topics, c.Topics[0]) }},
		{"level", "topics[0].sensor: the topic has no level {2}", func(c *Config) { c.Topics[0].Sensor = "{2}" }},
		{"template", `topics[0].sensor: "{x}": want {1}`, func(c *Config) { c.Topics[0].Sensor = "a{x}" }},
		{"quote in a template", `topics[0].sensor: "\"a{1}" is not a name`, func(c *Config) { c.Topics[0].Sensor = `"a{1}` }},
		{"an empty part", `topics[0].sensor: "a//{1}" is not a name`, func(c *Config) { c.Topics[0].Sensor = "a//{1}" }},
		{"metric of JSON", `topics[0].metric: names the value`, func(c *Config) { c.Topics[0].Metric = "x" }},
		{"retained", `topics[0].retained: "keep" is not possible`, func(c *Config) { c.Topics[0].Retained = "keep" }},
		{"kind", `topics[0].metrics[0].kind: unknown kind "x"`, func(c *Config) { c.Topics[0].Metrics = []Metric{{Path: "a", Kind: "x"}} }},
		{"username", "username: missing", func(c *Config) { c.Password = edgeagent.NewSecret("x") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Default()
			c.Topics = []Topic{{Filter: "a"}}
			tt.change(c)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// fakeSource is a source whose broker is the test.
func fakeSource(env sensors.Env) *source {
	c := Default()
	c.Topics = []Topic{{Filter: "+"}}
	s := newSource(env, c, "")
	s.dial = func(context.Context) (*link, error) { return &link{make(chan error, 1), func() {}}, nil }
	return s
}

func TestConformance(t *testing.T) {
	sensortest.Run(t, func(t *testing.T, env sensors.Env) sensors.Source {
		s := fakeSource(env)
		for range 10 {
			s.queue.put(message{topic: "a", payload: []byte("1"), at: env.Now()})
		}
		return s
	})
}

func TestQueueIsBounded(t *testing.T) {
	s := fakeSource(sensortest.Env("home"))
	for i := range maxWaiting + 10 {
		s.queue.put(message{topic: "a", payload: []byte(strconv.Itoa(i))})
	}
	s.queue.put(message{topic: "a", payload: make([]byte, maxMessage+1)})
	rs, err := s.Sample(t.Context(), nil)
	if len(rs) != batch || rs[0].Value != 10 || err == nil || !strings.Contains(err.Error(), "11 messages dropped") {
		t.Errorf("%d readings from %v on, %v", len(rs), rs[0].Value, err)
	}
	for range maxWaiting/batch - 1 {
		if rs, err = s.Sample(t.Context(), rs[:0]); err != nil || len(rs) != batch {
			t.Errorf("%d readings, %v", len(rs), err)
		}
	}
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fakeSource(sensortest.Env("home"))
		dial, dials := s.dial, 0
		s.dial = func(context.Context) (*link, error) { dials++; return nil, errors.New("refused") }
		for begun := time.Now(); time.Since(begun) < 10*time.Minute; {
			if _, err := s.Sample(t.Context(), nil); err == nil {
				t.Fatal("no error")
			}
			time.Sleep(s.Next())
		}
		if dials < 10 || dials > 20 {
			t.Errorf("%d dials in 10 minutes", dials)
		}
		s.dial = dial
		if _, err := s.Sample(t.Context(), nil); err != nil || s.Next() != 0 {
			t.Errorf("%v, next %s", err, s.Next())
		}
		s.link.lost <- errors.New("gone")
		if _, err := s.Sample(t.Context(), nil); err == nil || s.link != nil {
			t.Errorf("a lost connection: %v", err)
		}
	})
}

// TestBroker: over a real broker, which goes away and comes back.
func TestBroker(t *testing.T) {
	start := func(addr string) (*broker.Broker, func()) {
		b := broker.New(broker.Options{Addr: addr, Users: map[string]string{"agent": "secret", "device": "x"}})
		if err := b.Listen(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = b.Run(ctx) })
		return b, func() { cancel(); wg.Wait() }
	}
	b, stop := start("127.0.0.1:0")
	publish := func(topic, text string, retained bool) {
		t.Helper()
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.Addr()).SetUsername("device").SetPassword("x").SetAutoReconnect(false))
		for _, step := range []func() mqtt.Token{c.Connect, func() mqtt.Token { return c.Publish(topic, 1, retained, text) }} {
			if token := step(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
				t.Fatal(token.Error())
			}
		}
		c.Disconnect(100)
	}
	publish("zigbee2mqtt/hall", `{"temperature":19}`, true)
	c := Default()
	c.URL, c.Username, c.Password, c.Topics = b.URL(), "agent", edgeagent.NewSecret("secret"), []Topic{{Filter: "zigbee2mqtt/+"}}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := c.Open(t.Context(), sensortest.Env("home"))
	if err != nil {
		t.Fatal(err)
	}
	// await samples until somebody says what is wanted: a busy machine may miss the
	// deadline of a connection, which is then made anew.
	await := func(what, want string) {
		t.Helper()
		got := "nothing"
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			rs, err := s.Sample(t.Context(), nil)
			for _, r := range rs {
				got = fmt.Sprint(r.Series, "=", r.Value, " ", r.Quality)
			}
			if err != nil {
				got = err.Error()
			}
			if strings.Contains(got, want) {
				return
			}
		}
		t.Fatalf("%s: %s, want %s", what, got, want)
	}
	await("retained", "home/hall/temperature=19 stale")
	publish("zigbee2mqtt/hall", `{"temperature":20}`, false)
	await("fresh", "home/hall/temperature=20 good")
	addr := b.Addr()
	stop()
	await("the broker went", "connection lost")
	await("the broker is away", "connect to mqtt://")
	b, stop = start(addr)
	defer stop()
	publish("zigbee2mqtt/hall", `{"temperature":21}`, true) // retained: it may come before we do
	await("the broker is back", "home/hall/temperature=21 ")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	c.Password = edgeagent.NewSecret("wrong")
	if s, err = c.Open(t.Context(), sensortest.Env("home")); err != nil {
		t.Fatal(err)
	}
	await("a wrong password", "connect to mqtt://")
	s.Close()
}

// TestLimited: what is short enough passes as it is, whatever the cuts, and a length
// that is too much ends the connection before anything is kept.
func TestLimited(t *testing.T) {
	var wire []byte
	for _, n := range []int{0, 1, 127, 128, 20_000} {
		wire = append(wire, 0x30)
		for left := n; ; {
			x := byte(left & 0x7f)
			if left >>= 7; left > 0 {
				x |= 0x80
			}
			wire = append(wire, x)
			if left == 0 {
				break
			}
		}
		wire = append(wire, make([]byte, n)...)
	}
	for _, cut := range []int{1, 2, 3, 1000, 1 << 20} {
		l := &limited{in: bufio.NewReader(strings.NewReader(string(wire))), shift: -1}
		var got []byte
		buf := make([]byte, cut)
		for {
			n, err := l.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("cut %d: %v", cut, err)
				}
				break
			}
		}
		if diff := cmp.Diff(len(wire), len(got)); diff != "" {
			t.Errorf("cut %d: %s", cut, diff)
		}
	}
	l := &limited{in: bufio.NewReader(strings.NewReader("\x30\xff\xff\xff\x7f" + "x")), shift: -1}
	if n, err := l.Read(make([]byte, 100)); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("256 MiB: %d, %v", n, err)
	}
	var _ net.Conn = l
}
