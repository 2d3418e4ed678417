//go:build system

package system

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// mosquitto is a real broker on a loopback port, with persistence on and no limit on
// queued messages, that can be stopped, killed and started again.
type mosquitto struct {
	t    testing.TB
	dir  string
	port int
	cmd  *exec.Cmd
}

// newMosquitto starts a broker; extra lines go to its configuration.
func newMosquitto(t testing.TB, extra ...string) *mosquitto {
	t.Helper()
	m := &mosquitto{t: t, dir: t.TempDir(), port: freePort(t)}
	conf := fmt.Sprintf("listener %d 127.0.0.1\npersistence true\npersistence_location %s/\nmax_queued_messages 0\nlog_dest file %s\n"+
		"log_type error\nlog_type warning\nlog_type notice\nlog_type information\nlog_type subscribe\n",
		m.port, m.dir, filepath.Join(m.dir, "log"))
	anonymous := "allow_anonymous true\n"
	for _, line := range extra {
		if strings.HasPrefix(line, "allow_anonymous") {
			anonymous = ""
		}
	}
	if len(extra) > 0 {
		conf += strings.Join(extra, "\n") + "\n"
	}
	// As root, mosquitto changes to a user of its own, who could not write here.
	if os.Getuid() == 0 {
		conf += "user root\n"
	}
	if err := os.WriteFile(filepath.Join(m.dir, "conf"), []byte(conf+anonymous), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(func() {
		if m.cmd != nil {
			m.stop()
		}
	})
	return m
}

func (m *mosquitto) url() string { return fmt.Sprintf("mqtt://127.0.0.1:%d", m.port) }

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command(mosquittoPath(m.t), "-c", filepath.Join(m.dir, "conf"))
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	waitFor(m.t, 10*time.Second, "mosquitto to listen", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// stop ends the broker in order: it saves its queues.
func (m *mosquitto) stop() {
	m.t.Helper()
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		m.t.Error(err)
	}
	_ = m.cmd.Wait()
	m.cmd = nil
}

// kill is kill -9: what the broker has acknowledged and not delivered is gone.
func (m *mosquitto) kill() {
	m.t.Helper()
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
	m.cmd = nil
}

func (m *mosquitto) signal(sig os.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(sig); err != nil {
		m.t.Error(err)
	}
}

func (m *mosquitto) restart(down time.Duration) {
	m.t.Helper()
	m.stop()
	pause(down)
	m.start()
}

func mosquittoPath(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto"} {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	t.Fatal("mosquitto is not installed: apt-get install mosquitto mosquitto-clients")
	return ""
}

// subscriber is mosquitto_sub with a persistent QoS 1 session. Its lines are
// collected as they come.
type subscriber struct {
	cmd *exec.Cmd
	wg  sync.WaitGroup

	mu    sync.Mutex
	lines []string
}

func (m *mosquitto) subscribe(topic string) *subscriber {
	m.t.Helper()
	return m.subscribeWith(topic)
}

func (m *mosquitto) subscribeWith(topic string, more ...string) *subscriber {
	m.t.Helper()
	s := &subscriber{cmd: exec.Command("mosquitto_sub", append([]string{
		"-h", "127.0.0.1", "-p", strconv.Itoa(m.port),
		"-c", "-i", "counter", "-q", "1", "-t", topic,
	}, more...)...)}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	s.wg.Go(func() {
		sc := bufio.NewScanner(out)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			s.mu.Lock()
			s.lines = append(s.lines, sc.Text())
			s.mu.Unlock()
		}
	})
	m.t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		s.wg.Wait()
		_ = s.cmd.Wait()
	})
	m.subscribed("counter", topic)
	return s
}

// subscribed waits for a client's subscription: what is published before it stands, that
// client may never see.
func (m *mosquitto) subscribed(client, topic string) {
	m.t.Helper()
	waitFor(m.t, 10*time.Second, "the subscription", func() bool {
		log, _ := os.ReadFile(filepath.Join(m.dir, "log"))
		return containsLine(log, ": "+client+" 1 "+topic+"\n")
	})
}

// all returns the lines received so far.
func (s *subscriber) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

// has reports whether a line has come.
func (s *subscriber) has(line string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.lines, line)
}

func (s *subscriber) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lines)
}

// lastPort is the port that was given out last; runs of the tests begin anywhere.
var lastPort atomic.Int64

// freePort returns a port that nobody listens to and that no other test gets. It is below
// those that the kernel gives to outgoing connections: a server that a test restarts would
// find its port taken by one of them some day.
func freePort(t testing.TB) int {
	t.Helper()
	const first, count = 12_000, 18_000
	lastPort.CompareAndSwap(0, 1+rand.Int64N(count))
	for range count {
		port := first + int(lastPort.Add(1)%count)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}
