//go:build system

package block

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// TestDecodersOnRandomData holds the decoders in docs/decoders against ours on
// blocks that the vectors do not foresee: every maker of values, times and
// qualities, alone and mixed, and each kind of block, all in one message.
func TestDecodersOnRandomData(t *testing.T) {
	message := randomMessage(t)
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, message, 0o600); err != nil {
		t.Fatal(err)
	}
	var want []any
	for rest := message; len(rest) > 0; {
		var blk []byte
		var err error
		if blk, rest, err = Next(rest); err != nil {
			t.Fatal(err)
		}
		want = append(want, throughJSON(t, printed(t, blk)))
	}
	dir := filepath.Join("..", "..", "docs", "decoders")
	for _, decoder := range [][]string{{"python3", filepath.Join(dir, "decode_block.py")}, {"node", filepath.Join(dir, "decode-block.js")}} {
		t.Run(decoder[0], func(t *testing.T) {
			cmd := exec.Command(decoder[0], decoder[1], file)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
			if len(lines) != len(want) {
				t.Fatalf("%d blocks, want %d", len(lines), len(want))
			}
			for i, line := range lines {
				var got any
				if err := json.Unmarshal(line, &got); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want[i], got); diff != "" {
					t.Fatalf("block %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
	t.Logf("%d blocks, %d bytes", len(want), len(message))
}

func randomMessage(t *testing.T) []byte {
	t.Helper()
	var e Encoder
	var message []byte
	add := func(b []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		message = b
	}
	r := rand.New(rand.NewPCG(21, 22))
	for k, vm := range valueMakers {
		for _, tm := range timeMakers {
			rows := make([]Row, 1+r.IntN(500))
			series := 1 + r.IntN(12)
			for i := range rows {
				s, value := i%series, vm.make
				switch k % 3 {
				case 1: // in any order
					s = r.IntN(series)
				case 2: // each series its own values
					value = valueMakers[(k+s)%len(valueMakers)].make
				}
				q := edgeagent.Quality(max(0, r.IntN(50)-46))
				rows[i] = Row{uint32(1 + s*s*1000), tm.make(r, i/series) * 1e6, value(r, i), q}
			}
			add(e.Readings(message, telemetry, rows))
		}
		for _, folded := range []bool{true, false} {
			add(e.Rollup(message, rollupID, fromMinute, makeRollup(r, 1+r.IntN(250), 1+r.IntN(5), 1e6, folded, vm.make)))
		}
	}
	sets := readSet(t, "gateway")
	add(e.Readings(message, telemetry, sets[:MaxRecords]))
	add(e.Rollup(message, rollupID, fromMinute, foldMinutes(sets)))
	add(e.Events(message, ID{Stream: edgeagent.StreamAlarm, Epoch: 2, First: 9, Run: 3}, someEvents()))
	add(e.Series(message, "gw-7", 0xffee000000000001, someSeries()))
	add(e.Marks(message, someMarks()))
	return message
}
