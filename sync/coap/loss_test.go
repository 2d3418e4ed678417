package coap

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent/internal/faultnet"
)

// TestF10Matrix: every size through every kind of bad network, up and down.
func TestF10Matrix(t *testing.T) {
	for _, size := range []int{0, 1, 1024, 1025, 64 << 10, 256 << 10} {
		for _, loss := range []float64{0, 0.05, 0.1, 0.2} {
			for _, faults := range []faultnet.Faults{
				{},
				{Duplicate: 0.05},
				{Reorder: 0.1, Jitter: 30 * time.Millisecond},
				{Duplicate: 0.2, Reorder: 0.2, Latency: 300 * time.Millisecond, Jitter: time.Second},
			} {
				faults.Drop = loss
				t.Run(fmt.Sprintf("%d bytes, loss %v, duplicates %v, reorder %v, jitter %v", size, loss, faults.Duplicate, faults.Reorder, faults.Jitter), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { upAndDown(t, size, faults) })
				})
			}
		}
	}
}

func upAndDown(t *testing.T, size int, faults faultnet.Faults) {
	p := faultnet.NewPackets(uint64(size) + uint64(100*faults.Drop))
	p.Set(faultnet.Up, faults)
	p.Set(faultnet.Down, faults)
	f := newFarEnd()
	body := pattern(size)
	f.put = body
	overPackets(t, p, f, func(c *conn) {
		r, _ := post(t, c, body)
		if r.code != codeChanged {
			t.Errorf("answer %s", r.Code)
		}
		f.mustHold(t, body)
		if r := get(t, c, nil); !bytes.Equal(r.Body, body) {
			t.Errorf("fetched %d bytes of %d, or others", len(r.Body), size)
		}
	})
}

// TestF10SixtyFourKiB is the figure: 64 KiB at a loss of 10 % each way, 100 transfers
// to 100 servers.
func TestF10SixtyFourKiB(t *testing.T) {
	var took []time.Duration
	body := pattern(64 << 10)
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			p := faultnet.NewPackets(seed)
			p.Set(faultnet.Up, faultnet.Faults{Drop: 0.1})
			p.Set(faultnet.Down, faultnet.Faults{Drop: 0.1})
			f := newFarEnd()
			overPackets(t, p, f, func(c *conn) {
				_, d := post(t, c, body)
				took = append(took, d)
				f.mustHold(t, body)
			})
		})
	}
	slices.Sort(took)
	t.Logf("virtual time: median %v, 90 %% %v, longest %v", took[50], took[90], took[99])
	if took[50] > 20*time.Second {
		t.Errorf("median %v, want 20 s at most", took[50])
	}
}
