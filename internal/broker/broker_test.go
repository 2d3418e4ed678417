package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"

	"github.com/edgeagent/edgeagent/internal/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b := broker.New(broker.Options{})
	if err := b.Listen(); err != nil {
		fmt.Println(err)
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Run(ctx) })
	c, err := net.Dial("tcp", b.Addr())
	fmt.Println(err)
	_ = c.Close()
	cancel()
	wg.Wait()

	// Output: <nil>
}

func start(t *testing.T, o broker.Options) (b *broker.Broker, stop func()) {
	t.Helper()
	b = broker.New(o)
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return b, stop
}

// login connects by hand and returns the code of the CONNACK.
func login(t *testing.T, addr, user, password string) (net.Conn, byte) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	pk := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Connect},
		ProtocolVersion: 4,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), Clean: true, Keepalive: 30, ClientIdentifier: "c-" + user,
			UsernameFlag: user != "", Username: []byte(user),
			PasswordFlag: password != "", Password: []byte(password),
		},
	}
	var buf bytes.Buffer
	if err := pk.ConnectEncode(&buf); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(buf.Bytes()); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(c, answer); err != nil {
		t.Fatal(err)
	}
	return c, answer[3]
}

func TestLogins(t *testing.T) {
	users := map[string]string{"gw": "right", "empty": ""}
	tests := []struct {
		name           string
		users          map[string]string
		user, password string
		refuse         bool
		ok             bool
	}{
		{"open to everybody", nil, "", "", false, true},
		{"right password", users, "gw", "right", false, true},
		{"wrong password", users, "gw", "wrong", false, false},
		{"no password", users, "gw", "", false, false},
		{"unknown user", users, "nobody", "", false, false},
		{"no login", users, "", "", false, false},
		{"refused for a test", nil, "", "", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, _ := start(t, broker.Options{Users: tt.users})
			b.RefuseLogins(tt.refuse)
			_, code := login(t, b.Addr(), tt.user, tt.password)
			if (code == 0) != tt.ok {
				t.Errorf("CONNACK code %d, want accepted = %v", code, tt.ok)
			}
			if st := b.Stats(); st.Logins+st.Refused != 1 || (st.Logins == 1) != tt.ok {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestStopEndsEverything(t *testing.T) {
	b, stop := start(t, broker.Options{})
	addr := b.Addr()
	c, code := login(t, addr, "a", "")
	if code != 0 {
		t.Fatalf("CONNACK code %d", code)
	}
	silent, err := net.Dial("tcp", addr) // never says CONNECT
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	stop()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("client can still read")
	}
	if err := b.Listen(); err == nil {
		t.Error("a broker that was stopped listens again")
	}
	// The address is free again.
	start(t, broker.Options{Addr: addr})
}

func TestListenFails(t *testing.T) {
	b, _ := start(t, broker.Options{})
	second := broker.New(broker.Options{Addr: b.Addr()})
	if err := second.Run(t.Context()); err == nil {
		t.Error("two brokers on one address")
	}
}
