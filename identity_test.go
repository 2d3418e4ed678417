package edgeagent_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
)

// TestRangesAgainstASet holds Ranges against the obvious model: a set of numbers.
func TestRangesAgainstASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var got edgeagent.Ranges
		model := map[edgeagent.Seq]bool{}
		for range rapid.IntRange(1, 40).Draw(t, "adds") {
			from := edgeagent.Seq(rapid.Uint64Range(1, 60).Draw(t, "from"))
			r := edgeagent.Range{From: from, To: from + edgeagent.Seq(rapid.Uint64Range(0, 15).Draw(t, "len"))}
			fresh := uint64(0)
			for s := r.From; s <= r.To; s++ {
				if !model[s] {
					model[s], fresh = true, fresh+1
				}
			}
			if added := got.Add(r); added != fresh {
				t.Fatalf("Add(%v) = %d new, want %d", r, added, fresh)
			}
		}
		checkCanonical(t, got)
		if got.Count() != uint64(len(model)) {
			t.Fatalf("Count() = %d, want %d", got.Count(), len(model))
		}
		from := edgeagent.Seq(rapid.Uint64Range(1, 80).Draw(t, "window from"))
		window := edgeagent.Range{From: from, To: from + 20}
		missing := edgeagent.Ranges(got.Missing(window))
		for s := window.From; s <= window.To; s++ {
			if got.Contains(s) != model[s] {
				t.Fatalf("Contains(%d) = %v", s, got.Contains(s))
			}
			if missing.Contains(s) == model[s] {
				t.Fatalf("Missing(%v) = %v is wrong about %d", window, missing, s)
			}
		}
	})
}

func checkCanonical(t *rapid.T, rs edgeagent.Ranges) {
	for i, r := range rs {
		if r.Len() == 0 {
			t.Fatalf("empty range in %v", rs)
		}
		if i > 0 && rs[i-1].To+1 >= r.From {
			t.Fatalf("ranges touch or are out of order: %v", rs)
		}
	}
}

func TestRangesEmptyAndZero(t *testing.T) {
	var rs edgeagent.Ranges
	for _, r := range []edgeagent.Range{{}, {From: 0, To: 5}, {From: 5, To: 4}} {
		if n := rs.Add(r); n != 0 || len(rs) != 0 {
			t.Errorf("Add(%v) = %d, set %v", r, n, rs)
		}
	}
	if rs.Contains(0) {
		t.Error("the empty set holds 0")
	}
}

func TestAckRoundTrip(t *testing.T) {
	const text = `{"by":"hub","e":"9f02000000000001","have":{"telemetry":[[1,812],[900,1200]]},"top":{"telemetry":[1200,"9c01f3aa"]},"need":{"series":[57]},"replay":{"telemetry":[[813,899]]},"conflict":null}`
	ack, err := edgeagent.ParseAck([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := edgeagent.Ack{
		By: "hub", Epoch: 0x9f02000000000001,
		Have:   map[edgeagent.Stream]edgeagent.Ranges{edgeagent.StreamTelemetry: {{From: 1, To: 812}, {From: 900, To: 1200}}},
		Top:    map[edgeagent.Stream]edgeagent.Top{edgeagent.StreamTelemetry: {Seq: 1200, Run: 0x9c01f3aa}},
		Need:   edgeagent.Need{Series: []uint32{57}},
		Replay: map[edgeagent.Stream]edgeagent.Ranges{edgeagent.StreamTelemetry: {{From: 813, To: 899}}},
	}
	if d := cmp.Diff(want, ack); d != "" {
		t.Errorf("parsed ack (-want +got):\n%s", d)
	}
	out, err := json.Marshal(ack)
	if err != nil {
		t.Fatal(err)
	}
	if string(out) != text {
		t.Errorf("written ack\n got %s\nwant %s", out, text)
	}
}

func TestParseAckRefuses(t *testing.T) {
	tests := map[string]string{
		"not JSON":        `have`,
		"unknown stream":  `{"by":"hub","e":"01","have":{"data":[[1,2]]}}`,
		"backwards":       `{"by":"hub","e":"01","have":{"alarm":[[5,2]]}}`,
		"from zero":       `{"by":"hub","e":"01","have":{"alarm":[[0,2]]}}`,
		"over 53 bits":    `{"by":"hub","e":"01","have":{"alarm":[[1,9007199254740992]]}}`,
		"three numbers":   `{"by":"hub","e":"01","have":{"alarm":[[1,2,3]]}}`,
		"epoch not hex":   `{"by":"hub","e":"zz"}`,
		"top without run": `{"by":"hub","e":"01","top":{"alarm":[1]}}`,
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			if ack, err := edgeagent.ParseAck([]byte(text)); err == nil {
				t.Errorf("accepted as %+v", ack)
			}
		})
	}
}

func FuzzParseAck(f *testing.F) {
	f.Add([]byte(`{"by":"hub","e":"9f02","have":{"telemetry":[[1,812]]},"top":{"telemetry":[1200,"9c01f3aa"]},"conflict":[{"stream":"alarm","from":1,"to":2,"run":"1"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ack, err := edgeagent.ParseAck(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(ack)
		if err != nil {
			t.Fatalf("accepted ack does not marshal: %v", err)
		}
		again, err := edgeagent.ParseAck(out)
		if err != nil {
			t.Fatalf("written ack does not parse: %v\n%s", err, out)
		}
		if again.Epoch != ack.Epoch || again.By != ack.By {
			t.Fatalf("round trip changed %s", out)
		}
	})
}

func TestIdentityText(t *testing.T) {
	if got := edgeagent.Epoch(0xab).String(); got != "00000000000000ab" {
		t.Errorf("epoch prints as %s", got)
	}
	if got := edgeagent.Run(0xab).String(); got != "000000ab" {
		t.Errorf("run prints as %s", got)
	}
	for _, s := range edgeagent.Streams() {
		back, err := edgeagent.ParseStream(s.String())
		if err != nil || back != s {
			t.Errorf("%v does not survive its name: %v, %v", s, back, err)
		}
	}
	if edgeagent.Stream(0).Valid() || edgeagent.Stream(5).Valid() {
		t.Error("0 or 5 is called a stream")
	}
}
