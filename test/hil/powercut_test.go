//go:build hil && linux

package hil

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// record is a line of the payload format json.
type record struct {
	T      time.Time `json:"t"`
	Sensor string    `json:"sensor"`
	Metric string    `json:"metric"`
	Kind   string    `json:"kind"`
	ID     string    `json:"id"`
	Text   string    `json:"text"`
	Epoch  string    `json:"epoch"`
	Stream string    `json:"stream"`
	Run    string    `json:"run"`
	Seq    uint64    `json:"seq"`
}

// card is virt with a disk behind NBD. Its clock counts instructions, so that a second of
// the guest's is one in which it got something done, however busy this machine is.
func card(socket string) board {
	b := virt()
	b.machine = append(b.machine, "-smp", "1", "-icount", "shift=2", "-drive", "file=nbd:unix:"+socket+",format=raw,if=none,id=d0,cache=writeback", "-device", "virtio-blk-device,drive=d0")
	b.modules = []string{"virtio_mmio", "virtio_blk", "crc32c_generic", "ext4"}
	return b
}

// mount mounts the card.
func (m *machine) mount() {
	m.t.Helper()
	m.sh("mkdir -p /mnt && for d in virtio_mmio virtio_blk crc32c_generic ext4; do modprobe $d; done; n=0; while ! [ -b /dev/vda ] && [ $n -lt 500 ]; do sleep 0.1; n=$((n+1)); done; mount -t ext4 /dev/vda /mnt")
}

// TestPowerCut: the agent's power goes while it writes. What it accepted a second before
// is there afterwards, every alarm is, and the numbers have no hole that is not named.
func TestPowerCut(t *testing.T) {
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv("HIL_CUTS")); err == nil {
		rounds = n
	}
	d := newDisk(t)
	socket := d.listen(t)
	var cutAt []time.Time
	for round := range rounds {
		t.Run("cut", func(t *testing.T) {
			m := boot(t, card(socket))
			m.mount()
			m.sh("edgeagent run -c /etc/edgeagent/cut.yaml >/dev/console 2>&1 &")
			word := "the heart beats"
			if round > 0 { // the alarm stands, and is not raised again
				word = "agent started"
			}
			m.wait(word, 20*time.Second, func() bool { return strings.Contains(strings.Join(m.console, "\n"), word) })
			m.tick()
			m.pass(5)
			select {
			case <-d.arm(3 + 5*round):
			case <-time.After(slack * 20 * time.Second):
				t.Fatal("the agent writes nothing")
			}
			cutAt = append(cutAt, time.Unix(m.clock(), 0))
			m.kill()
			d.cut(t, uint64(round)+1)
		})
		if t.Failed() {
			return
		}
	}
	m := boot(t, card(socket))
	m.mount()
	m.tick()
	m.sh("edgeagent buffer verify --dir /mnt/buffer")
	m.sh("peer >/dev/console 2>&1 &")
	m.wait("subscriber", 45*time.Second, func() bool {
		return strings.Contains(strings.Join(m.console, "\n"), "receiver connected")
	})
	m.sh("edgeagent run -c /etc/edgeagent/cut.yaml >/dev/console 2>&1 & echo $! >/run/agent.pid")
	m.sh("n=0; while ! edgeagent sync flush --timeout 5s >/run/flush && [ $n -lt 20 ]; do sleep 0.5; n=$((n+1)); done; cat /run/flush")
	m.sh("kill $(cat /run/agent.pid) && wait $(cat /run/agent.pid)")
	for before := -1; before != m.messages(); m.pass(3) {
		before = m.messages()
	}
	checkCuts(t, m, cutAt)
}

// tick has the guest say what time it is, all the time: its clock is not this machine's.
func (m *machine) tick() {
	m.t.Helper()
	m.sh(`{ while :; do echo "CLOCK $(date +%%s)"; sleep 0.2; done >/dev/console & }`)
}

// pass waits for so many seconds of the guest's.
func (m *machine) pass(seconds int64) {
	m.t.Helper()
	began := m.clock()
	m.wait("the guest's time to pass", time.Duration(10+seconds)*time.Second, func() bool { return m.now >= began+seconds })
}

// messages returns how many the subscriber has got.
func (m *machine) messages() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.got)
}

// clock returns the guest's time, in Unix seconds, as it last said it.
func (m *machine) clock() int64 {
	m.t.Helper()
	m.wait("the guest's time", 20*time.Second, func() bool { return m.now > 0 })
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// kill takes the guest's power away.
func (m *machine) kill() {
	m.t.Helper()
	m.stop()
	m.wait("end of QEMU", 10*time.Second, func() bool { return m.dead })
}

// checkCuts holds what came against what was promised.
func checkCuts(t *testing.T, m *machine, cutAt []time.Time) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	last, alarms := map[string]time.Time{}, map[string]bool{}
	seen := map[uint64]int{}
	var runs []string
	for _, x := range m.got {
		var r record
		if err := json.Unmarshal([]byte(x.text), &r); err != nil {
			continue
		}
		switch {
		case r.Kind == "alarm":
			alarms[r.ID] = true
		case r.Stream == "telemetry" && r.Sensor == "pulse":
			if _, ok := last[r.Run]; !ok {
				runs = append(runs, r.Run)
			}
			if r.T.After(last[r.Run]) {
				last[r.Run] = r.T
			}
			seen[r.Seq]++
		}
	}
	if len(runs) != len(cutAt)+1 {
		t.Fatalf("readings of %d runs, want %d: %v", len(runs), len(cutAt)+1, last)
	}
	// The last runs first where backlog and live lanes are mixed: order them by time.
	for i, at := range cutAt {
		best := time.Time{}
		for _, end := range last {
			if end.After(best) && !end.After(at.Add(2*time.Second)) {
				best = end
			}
		}
		// sync_every is 1 s; the sync itself takes its time on an emulated machine.
		if missing := at.Sub(best); missing > 3*time.Second {
			t.Errorf("cut %d at %v: the last reading that came is of %v, %v before", i+1, at, best, missing)
		} else {
			t.Logf("cut %d: the last reading that came was taken %v before it", i+1, missing)
		}
	}
	if len(alarms) == 0 {
		t.Error("the alarm is lost")
	}
	t.Logf("%d readings of %d runs, %d alarms", len(seen), len(runs), len(alarms))
}

// TestLyingCard is the negative control: on a card that says it has flushed and has not,
// the same cut must be seen to take something.
func TestLyingCard(t *testing.T) {
	if os.Getenv("HIL_SOAK") == "" {
		t.Skip("HIL_SOAK=1 runs it")
	}
	d := newDisk(t)
	d.lies = true
	socket := d.listen(t)
	m := boot(t, card(socket))
	m.mount()
	m.sh("edgeagent run -c /etc/edgeagent/cut.yaml >/dev/console 2>&1 &")
	m.wait("the alarm", 20*time.Second, func() bool { return strings.Contains(strings.Join(m.console, "\n"), "the heart beats") })
	m.tick()
	m.pass(5)
	m.kill()
	d.cut(t, 1)
	m = boot(t, card(socket))
	if out, code := m.try("for d in virtio_mmio virtio_blk crc32c_generic ext4; do modprobe $d; done; mkdir -p /mnt && mount -t ext4 /dev/vda /mnt"); code != 0 {
		t.Logf("the card does not even mount: %s", out)
		return
	}
	out, code := m.try("edgeagent buffer stats --dir /mnt/buffer | grep -i alarm")
	if code == 0 && out != "" {
		t.Errorf("nothing is lost on a card that flushes nothing: the test of power cuts cannot fail\n%s", out)
	}
}
