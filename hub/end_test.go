package hub_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ hub.Input = (*mqtt.Receiver)(nil)

// scene is a broker, and a hub that listens to it over a link that can be cut.
type scene struct {
	t      testing.TB
	broker *broker.Broker
	link   *faultnet.Switch
	input  *mqtt.Receiver
	hub    *hub.Hub
	memory *hub.Memory
	wg     sync.WaitGroup
	ctx    context.Context
}

func newScene(t testing.TB) *scene {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &scene{t: t, broker: broker.New(broker.Options{}), link: faultnet.NewSwitch(nil), ctx: ctx}
	if err := s.broker.Listen(); err != nil {
		t.Fatal(err)
	}
	s.memory = hub.NewMemory(hub.MemoryOptions{})
	var err error
	s.hub, err = hub.New(hub.Options{Sink: s.memory, AckEvery: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s.input, err = mqtt.NewReceiver(mqtt.ReceiverConfig{URL: s.broker.URL(), Dial: s.link.DialContext})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); s.wg.Wait() })
	s.background(s.broker.Run)
	s.background(func(ctx context.Context) error { return s.hub.Run(ctx, s.input) })
	s.until("the hub's connection", func() bool { return s.input.Stats().Connected })
	return s
}

func (s *scene) background(f func(context.Context) error) {
	s.wg.Go(func() {
		if err := f(s.ctx); err != nil && s.ctx.Err() == nil {
			s.t.Errorf("in the background: %v", err)
		}
	})
}

func (s *scene) until(what string, done func() bool) {
	s.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			s.t.Fatalf("waited in vain for %s: %+v", what, s.hub.Stats())
		}
	}
}

// device is a tiny agent: it sends blocks of ten readings and listens to acks.
type device struct {
	mu   sync.Mutex
	have edgeagent.Ranges
}

func (d *device) Up(uplink.Caps)       {}
func (d *device) Result(uplink.Result) {}
func (d *device) Ack(b []byte) {
	ack, err := edgeagent.ParseAck(b)
	if err != nil {
		panic(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range ack.Have[edgeagent.StreamTelemetry] {
		d.have.Add(r)
	}
}

func (d *device) confirmed() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.have.Count()
}

const perBlock = 10

// send sends the names and blocks messages, each overlapping the one before by
// half.
func (d *device) send(ctx context.Context, s uplink.Session, name string, messages int) {
	var enc block.Encoder
	key := edgeagent.SeriesKey{Sensor: name, Metric: "temperature", Unit: "Cel", Resolution: edgeagent.DefaultResolution}
	names, err := enc.Series(nil, name, 1, []block.SeriesEntry{{ID: 1, Key: key}})
	if err != nil {
		panic(err)
	}
	for i := range messages {
		first := edgeagent.Seq(i*perBlock/2 + 1)
		rows := make([]block.Row, perBlock)
		for j := range rows {
			rows[j] = block.Row{Series: 1, Time: int64(first) * 1e9, Value: 21.5}
		}
		id := block.ID{Stream: edgeagent.StreamTelemetry, Epoch: 1, First: first, Run: 1, Resolution: edgeagent.DefaultResolution}
		payload, err := enc.Readings(nil, id, rows)
		if err != nil {
			panic(err)
		}
		if i == 0 {
			payload = append(names, payload...)
		}
		if s.Send(ctx, uplink.Message{ID: uint64(i + 1), Lane: uplink.LaneLive, Payload: payload}) != nil {
			return
		}
	}
}

// Three devices send through a broker while the hub's link is cut and restored:
// every reading is stored once, and every device hears that all of its own are
// held.
func TestEndToEnd(t *testing.T) {
	s := newScene(t)
	const messages = 400
	const want = (messages + 1) * perBlock / 2
	devices := map[string]*device{"gw1": {}, "gw2": {}, "gw3": {}}
	for name, d := range devices {
		tr, err := mqtt.New(uplink.LinkConfig{URL: s.broker.URL()}, mqtt.Options{Tenant: "acme", Device: name, Acks: true})
		if err != nil {
			t.Fatal(err)
		}
		s.background(func(ctx context.Context) error {
			return tr.Session(ctx, d, func(ctx context.Context, up uplink.Session) { d.send(ctx, up, name, messages) })
		})
	}
	s.until("some readings", func() bool { return s.memory.Count() > want/4 })
	s.link.Cut()
	s.until("the loss to be noticed", func() bool { return !s.input.Stats().Connected })
	s.link.Restore()
	s.until("all readings", func() bool { return s.memory.Count() == 3*want })
	for name, d := range devices {
		s.until("the ack of "+name, func() bool { return d.confirmed() == want })
	}
	if n := s.memory.Duplicates(); n != 0 {
		t.Errorf("%d readings stored twice", n)
	}
	if gaps := s.hub.Gaps(); len(gaps) != 0 {
		t.Errorf("gaps %v", gaps)
	}
	s.until("all acknowledgements at the broker", func() bool { return s.broker.Stats().Waiting == 0 })
}

func ExampleHub() {
	memory := hub.NewMemory(hub.MemoryOptions{Keep: 1})
	h, err := hub.New(hub.Options{Sink: memory})
	if err != nil {
		fmt.Println(err)
		return
	}
	var enc block.Encoder
	id := block.ID{Stream: edgeagent.StreamAlarm, Epoch: 0x9f02, First: 1, Run: 7}
	blk, err := enc.Events(nil, id, []edgeagent.Event{{Kind: edgeagent.KindAlarm, ID: "overheating", N: 1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	in := &once{hub.Delivery{Topic: "ea/v1/acme/gw1/d/alarm", Payload: blk, Ack: func() {}}, cancel}
	if err := h.Run(ctx, in); err != nil {
		fmt.Println(err)
	}
	fmt.Println(memory.Count(), memory.Last()[0].Event.ID)
	// Output:
	// ea/v1/acme/gw1/ack {"by":"hub","e":"0000000000009f02","have":{"alarm":[[1,1]]},"top":{"alarm":[1,"00000007"]},"conflict":null}
	// 1 overheating
}

// once is an input with one message; it prints the ack and stops.
type once struct {
	message hub.Delivery
	stop    func()
}

func (o *once) Run(ctx context.Context, handle func(hub.Delivery)) error {
	handle(o.message)
	<-ctx.Done()
	return nil
}

func (o *once) Publish(_ context.Context, topic string, payload []byte) error {
	fmt.Println(topic, string(payload))
	o.stop()
	return nil
}
