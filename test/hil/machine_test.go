//go:build hil && linux

package hil

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// slack is by how much everything may take longer than on a quiet machine: QEMU without
// KVM is slow, and the machine may be busy. Only a test that fails waits so long.
const slack = 10

// board is an emulated machine.
type board struct {
	name    string
	qemu    string   // program
	machine []string // its arguments
	arch    string   // of the program, as go build wants it
	arm     string   // GOARM
	kernel  string   // directory of the unpacked package
	busybox string
	dtb     string // file name; "" if the machine makes its own
	append  string // of the kernel's command line
	modules []string
}

// machine is a running guest, as one test sees it.
type machine struct {
	t *testing.T
	*guest
}

// in returns the machine for a subtest.
func (m *machine) in(t *testing.T) *machine { return &machine{t, m.guest} }

// guest is a running guest.
type guest struct {
	qmp   *control
	qtest net.Conn
	qread *bufio.Reader
	stdin io.Writer
	stop  func() // kills QEMU

	mu      sync.Mutex // guards what follows
	changed chan struct{}
	console []string // all lines
	answers []string // OUT and RC, not yet taken
	got     []message
	since   int   // messages before the last change of the hardware, which say nothing of it
	now     int64 // Unix seconds of the guest's clock, where it says them
	dead    bool
}

// message is a line that the subscriber got.
type message struct {
	topic, text string
	at          time.Time // on the host
}

// work returns the directory with QEMU and the kernels.
func work(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("HIL_DIR")
	if dir == "" {
		t.Fatal("HIL_DIR names no directory with QEMU and kernels: run it through make test-hil")
	}
	return dir
}

// build makes a program of this module for the board and returns its bytes.
func build(t *testing.T, b board, pkg string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	// The flags of the program as it is shipped.
	args := append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", out}, strings.Fields(os.Getenv("HIL_BUILD"))...)
	cmd := exec.Command("go", append(args, "github.com/edgeagent/edgeagent/"+pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+b.arch, "GOARM="+b.arm)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s for %s%s: %v\n%s", pkg, b.arch, b.arm, err, text)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// boot starts the board with the program, the configurations of testdata and the
// board's modules, and waits for its shell.
func boot(t *testing.T, b board) *machine {
	t.Helper()
	dir, tmp := work(t), t.TempDir()
	disk := newInitrd()
	disk.add("init", 0o755, []byte(initScript))
	for _, name := range []string{"proc", "sys", "dev", "tmp", "run", "root", "var/lib", "etc/edgeagent"} {
		disk.dir(name)
	}
	busybox, err := os.ReadFile(filepath.Join(dir, b.busybox, "bin/busybox"))
	if err != nil {
		t.Fatal(err)
	}
	disk.add("bin/busybox", 0o755, busybox)
	disk.add("bin/edgeagent", 0o755, build(t, b, "cmd/edgeagent"))
	disk.add("bin/peer", 0o755, build(t, b, "test/hil/peer"))
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("configurations: %v, %v", files, err)
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		disk.add("etc/edgeagent/"+filepath.Base(f), 0o644, content)
	}
	kernel := filepath.Join(dir, b.kernel)
	disk.addModules(t, findModules(t, kernel), b.modules)
	disk.write(t, filepath.Join(tmp, "initrd.gz"))
	return start(t, b, dir, tmp)
}

// one returns the only file that matches.
func one(t *testing.T, pattern ...string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(pattern...))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %v, %v", filepath.Join(pattern...), files, err)
	}
	return files[0]
}

func start(t *testing.T, b board, dir, tmp string) *machine {
	t.Helper()
	// Unix socket paths are short; directories of tests are not.
	sockets, err := os.MkdirTemp("", "hil")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	qmp, qtest := filepath.Join(sockets, "qmp"), filepath.Join(sockets, "qtest")
	qemu := filepath.Join(dir, "qemu")
	args := append([]string{
		"-L", filepath.Join(qemu, "usr/share/qemu"), "-display", "none", "-monitor", "none",
		"-qmp", "unix:" + qmp + ",server=on,wait=off", "-qtest", "unix:" + qtest + ",server=on,wait=off", "-qtest-log", "/dev/null",
		"-kernel", one(t, dir, b.kernel, "boot/vmlinuz-*"), "-initrd", filepath.Join(tmp, "initrd.gz"),
		"-append", b.append + " loglevel=3 rdinit=/init panic=-1",
	}, b.machine...)
	if b.dtb != "" {
		args = append(args, "-dtb", find(t, filepath.Join(dir, b.kernel, "usr/lib"), b.dtb))
	}
	cmd := exec.Command(filepath.Join(qemu, "usr/bin", b.qemu), args...)
	libs := filepath.Join(qemu, "usr/lib/x86_64-linux-gnu") + ":" + filepath.Join(qemu, "lib/x86_64-linux-gnu")
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libs)
	cmd.Stderr = os.Stderr
	m := &machine{t, &guest{changed: make(chan struct{})}}
	if m.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.stop = func() { _ = cmd.Process.Kill() } // it may have ended
	read := make(chan struct{})
	go func() { defer close(read); m.read(out) }()
	t.Cleanup(func() {
		m.stop()
		<-read
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("console of %s:\n%s", b.name, strings.Join(m.tail(80), "\n"))
		}
	})
	m.qmp = &control{conn: dial(t, qmp)}
	m.qmp.reader = bufio.NewReader(m.qmp.conn)
	m.command("qmp_capabilities", nil)
	m.qtest = dial(t, qtest)
	m.qread = bufio.NewReader(m.qtest)
	m.wait("the guest's shell", 60*time.Second, func() bool {
		return strings.Contains(strings.Join(m.console, "\n"), "HIL READY")
	})
	t.Logf("%s is up after %v", b.name, time.Since(began).Round(100*time.Millisecond))
	return m
}

func find(t *testing.T, dir, name string) string {
	t.Helper()
	out, err := exec.Command("find", dir, "-name", name).Output()
	if files := strings.Fields(string(out)); err == nil && len(files) == 1 {
		return files[0]
	}
	t.Fatalf("%s in %s: %s, %v", name, dir, out, err)
	return ""
}

func dial(t *testing.T, socket string) net.Conn {
	t.Helper()
	for until := time.Now().Add(slack * 10 * time.Second); time.Now().Before(until); pause(50 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
	}
	t.Fatalf("QEMU does not listen on %s", socket)
	return nil
}

// pause is real time: the guest has no other.
func pause(d time.Duration) { <-time.After(d) }

// read sorts the console's lines.
func (m *guest) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		m.mu.Lock()
		m.console = append(m.console, line)
		switch {
		case strings.HasPrefix(line, "MQTT "):
			topic, text, _ := strings.Cut(line[len("MQTT "):], " ")
			m.got = append(m.got, message{topic, text, time.Now()})
		case strings.HasPrefix(line, "CLOCK "):
			if now, err := strconv.ParseInt(line[len("CLOCK "):], 10, 64); err == nil {
				m.now = now
			}
		case strings.HasPrefix(line, "OUT "), strings.HasPrefix(line, "RC "):
			m.answers = append(m.answers, line)
		}
		m.wake()
		m.mu.Unlock()
	}
	m.mu.Lock()
	m.dead = true
	m.wake()
	m.mu.Unlock()
}

// wake is called with mu held.
func (m *guest) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *guest) tail(n int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.console[max(0, len(m.console)-n):]
}

// wait waits until ready, which is called with mu held, says so.
func (m *machine) wait(what string, limit time.Duration, ready func() bool) {
	m.t.Helper()
	timeout := time.After(slack * limit)
	for {
		m.mu.Lock()
		ok, dead, changed := ready(), m.dead, m.changed
		m.mu.Unlock()
		switch {
		case ok:
			return
		case dead:
			m.t.Fatalf("the guest ended while it was waited for %s", what)
		}
		select {
		case <-changed:
		case <-timeout:
			m.t.Fatalf("no %s within %v", what, slack*limit)
		}
	}
}

// try runs a line in the guest's shell and returns its output and exit code.
func (m *machine) try(format string, args ...any) (out string, code int) {
	m.t.Helper()
	line := fmt.Sprintf(format, args...)
	if len(line) > 1000 || strings.Contains(line, "\n") {
		m.t.Fatalf("not a line for a console: %q", line)
	}
	m.mu.Lock()
	m.answers = nil
	m.mu.Unlock()
	fmt.Fprintln(m.stdin, line)
	m.wait("end of "+line, 60*time.Second, func() bool {
		n := len(m.answers)
		return n > 0 && strings.HasPrefix(m.answers[n-1], "RC ")
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	var text []string
	for _, a := range m.answers {
		if rest, ok := strings.CutPrefix(a, "OUT "); ok {
			text = append(text, rest)
		} else if code, _ = strconv.Atoi(strings.TrimPrefix(a, "RC ")); code != 0 {
			break
		}
	}
	return strings.Join(text, "\n"), code
}

// sh runs a line in the guest's shell, which must end well, and returns its output.
func (m *machine) sh(format string, args ...any) string {
	m.t.Helper()
	out, code := m.try(format, args...)
	if code != 0 {
		m.t.Fatalf("%s: exit %d\n%s", fmt.Sprintf(format, args...), code, out)
	}
	return out
}

// control is a connection to QEMU's control protocol.
type control struct {
	conn   net.Conn
	reader *bufio.Reader
}

// command does one QMP command and returns what it answered.
func (m *machine) command(name string, arguments map[string]any) json.RawMessage {
	m.t.Helper()
	request := map[string]any{"execute": name}
	if arguments != nil {
		request["arguments"] = arguments
	}
	b, err := json.Marshal(request)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.qmp.conn.Write(append(b, '\n')); err != nil {
		m.t.Fatal(err)
	}
	for {
		line, err := m.qmp.reader.ReadBytes('\n')
		if err != nil {
			m.t.Fatalf("QMP %s: %v", name, err)
		}
		var answer struct {
			Return json.RawMessage `json:"return"`
			Error  json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			m.t.Fatalf("QMP %s: %v", line, err)
		}
		switch {
		case answer.Error != nil:
			m.t.Fatalf("QMP %s: %s", name, answer.Error)
		case answer.Return != nil:
			return answer.Return
		}
	}
}

// hasChanged forgets what came before the hardware was changed.
func (m *machine) hasChanged() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since = len(m.got)
}

// bench has "edgeagent sim bus" do a command.
func (m *machine) bench(format string, args ...any) {
	m.t.Helper()
	m.sh("echo %s >&3", fmt.Sprintf(format, args...))
	m.hasChanged()
}

// celsius sets the temperature of a thermometer of QEMU's.
func (m *machine) celsius(id string, v float64) {
	m.t.Helper()
	m.command("qom-set", map[string]any{
		"path": "/machine/peripheral/" + id, "property": "temperature", "value": int(math.Round(v * 1000)),
	})
	m.hasChanged()
}

// line drives an input of the PL061.
func (m *machine) line(n int, level bool) {
	m.t.Helper()
	var devices []struct{ Name, Type string }
	if err := json.Unmarshal(m.command("qom-list", map[string]any{"path": "/machine/unattached"}), &devices); err != nil {
		m.t.Fatal(err)
	}
	for _, d := range devices {
		if d.Type != "child<pl061>" {
			continue
		}
		value := 0
		if level {
			value = 1
		}
		fmt.Fprintf(m.qtest, "set_irq_in /machine/unattached/%s unnamed-gpio-in %d %d\n", d.Name, n, value)
		if answer, err := m.qread.ReadString('\n'); err != nil || !strings.HasPrefix(answer, "OK") {
			m.t.Fatalf("qtest: %q, %v", answer, err)
		}
		m.hasChanged()
		return
	}
	m.t.Fatal("the machine has no PL061")
}

// output waits for the level of an output, as the kernel has it: "hi" or "lo".
func (m *machine) output(consumer, want string) {
	m.t.Helper()
	last := ""
	for until := time.Now().Add(slack * 10 * time.Second); time.Now().Before(until); pause(250 * time.Millisecond) {
		last = m.sh("cat /sys/kernel/debug/gpio")
		for line := range strings.Lines(last) {
			if _, rest, ok := strings.Cut(line, "out "); ok && strings.Contains(line, consumer) && strings.HasPrefix(rest, want) {
				return
			}
		}
	}
	m.t.Fatalf("no output of %s is %s:\n%s", consumer, want, last)
}

// agent starts the agent on a configuration of testdata, and the broker if there is
// none. It returns what stops it.
func (m *machine) agent(config string) (stop func()) {
	m.t.Helper()
	m.sh(`pidof peer >/dev/null || { peer >/dev/console 2>&1 & }`)
	// What is sent to a broker before anybody has subscribed is gone.
	m.wait("subscriber", 45*time.Second, func() bool {
		return strings.Contains(strings.Join(m.console, "\n"), "receiver connected")
	})
	m.sh(`edgeagent config check /etc/edgeagent/%s`, config)
	m.hasChanged()
	m.sh(`edgeagent run -c /etc/edgeagent/%s >/dev/console 2>&1 & echo $! >/run/agent.pid`, config)
	return func() {
		m.t.Helper()
		m.sh(`kill $(cat /run/agent.pid) && wait $(cat /run/agent.pid)`)
	}
}

// point is a reading or an alarm as the line protocol has it.
type point struct {
	fields  map[string]string
	sensor  string
	quality string
}

var field = regexp.MustCompile(`([a-z0-9_]+)=("(?:[^"\\]|\\.)*"|[^,]+)`)

func parse(line string) (point, bool) {
	head, rest, ok := strings.Cut(line, " ")
	i := strings.LastIndexByte(rest, ' ')
	if !ok || i < 0 {
		return point{}, false
	}
	sensor, _, _ := strings.Cut(head, ",")
	p := point{fields: map[string]string{}, sensor: sensor}
	for _, f := range field.FindAllStringSubmatch(rest[:i], -1) {
		p.fields[f[1]] = strings.Trim(f[2], `"`)
	}
	p.quality = p.fields["quality"]
	return p, true
}

// reads waits until the subscriber has got a good reading of a series, within near of
// want, since the hardware was changed last.
func (m *machine) reads(series string, want, near float64) {
	m.t.Helper()
	m.reading(fmt.Sprintf("%s = %v", series, want), series, func(v float64, quality string) bool {
		return quality == "" && math.Abs(v-want) <= near
	})
}

// quality waits for a reading of a quality that is not good.
func (m *machine) quality(series, want string) {
	m.t.Helper()
	m.reading(series+" "+want, series, func(_ float64, quality string) bool { return quality == want })
}

func (m *machine) reading(what, series string, ok func(v float64, quality string) bool) {
	m.t.Helper()
	sensor, metric, _ := strings.Cut(series, "/")
	m.mu.Lock()
	seen := m.since
	m.mu.Unlock()
	last := "nothing"
	defer func() {
		if m.t.Failed() {
			m.t.Logf("wanted %s; the last was %s", what, last)
		}
	}()
	m.wait(what, 15*time.Second, func() bool {
		for ; seen < len(m.got); seen++ {
			p, known := parse(m.got[seen].text)
			if !known || p.sensor != sensor || p.fields[metric] == "" {
				continue
			}
			last = m.got[seen].text
			v, err := strconv.ParseFloat(p.fields[metric], 64)
			if err == nil && ok(v, p.quality) {
				return true
			}
		}
		return false
	})
}

// event waits for a line about an event that contains all of words, among all that came.
func (m *machine) event(words ...string) {
	m.t.Helper()
	m.wait("event with "+strings.Join(words, ", "), 30*time.Second, func() bool {
		for _, x := range m.got {
			all := strings.HasPrefix(x.text, "edge_event,")
			for _, w := range words {
				all = all && strings.Contains(x.text, w)
			}
			if all {
				return true
			}
		}
		return false
	})
}
