package hub

import (
	"cmp"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
)

func TestBySeries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(rapid.Uint32Range(0, 9), rapid.Uint32())
		ids := rapid.SliceOfN(id, 0, 50).Draw(t, "ids")
		var rows []Row
		want := []int32{7}
		for i, id := range ids {
			rows = append(rows, Row{ID: id})
			want = append(want, int32(i))
		}
		slices.SortStableFunc(want[1:], func(a, b int32) int { return cmp.Compare(ids[a], ids[b]) })
		if diff := gocmp.Diff(want, BySeries([]int32{7}, rows)); diff != "" {
			t.Fatalf("order (-want +got):\n%s", diff)
		}
	})
}

func TestCutID(t *testing.T) {
	c := Cut{Tenant: "acme", Device: "gw/7", Epoch: 0x9f02, Stream: telemetry, Ranges: []edgeagent.Range{rng(1, 4), rng(9, 9)}}
	if got, want := c.ID(), "acme/gw/7/0000000000009f02/telemetry/1-4,9-9"; got != want {
		t.Errorf("id %s, want %s", got, want)
	}
}
