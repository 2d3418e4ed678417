package buffer

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// What is read for its records alone is the same as what is read as blocks.
func TestDecodedIsWhatBlocksHold(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		t.Run(map[bool]string{true: "from segments", false: "from memory"}[sealed], func(t *testing.T) {
			b := open(t, t.TempDir(), options())
			register(t, b, "cloud")
			for i := range 30 {
				mustAppend(t, b, 300*i, 300)
			}
			if sealed {
				flush(t, b)
			}
			if err := b.Ack(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{{From: 17, To: 400}}); err != nil {
				t.Fatal(err)
			}
			type piece struct {
				Head     edgeagent.BatchHeader
				Readings []edgeagent.Reading
			}
			read := func(limit edgeagent.Limit) (out []piece, encoded int) {
				r := cursorOf(t, b, "cloud").Live(1)
				for {
					x, ok, err := r.Next(t.Context(), limit)
					if err != nil {
						t.Fatal(err)
					}
					if !ok {
						return out, encoded
					}
					encoded += len(x.Encoded)
					for from := x.First; from <= x.Last(); from += 100 { // as a destination cuts it
						part, err := x.Cut(edgeagent.Range{From: from, To: min(from+99, x.Last())})
						if err != nil {
							t.Fatal(err)
						}
						rs, err := part.Readings(nil)
						if err != nil {
							t.Fatal(err)
						}
						out = append(out, piece{part.BatchHeader, rs})
					}
				}
			}
			for _, records := range []int{0, 100, 250, 1} {
				want, bytes := read(edgeagent.Limit{Records: records})
				got, none := read(edgeagent.Limit{Records: records, Bytes: 1, Decoded: true})
				if diff := cmp.Diff(want, got, sameSeries); diff != "" {
					t.Errorf("%d at a time: %s", records, diff)
				}
				if bytes == 0 || none != 0 {
					t.Errorf("%d at a time: %d bytes of blocks, %d where none were wanted", records, bytes, none)
				}
			}
		})
	}
}

// Events are read as blocks, whatever is wanted of them.
func TestDecodedEvents(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	if _, err := b.AppendEvents(t.Context(), edgeagent.StreamEvent, []edgeagent.Event{{Kind: "note", Text: "a"}, {Kind: "note", Text: "b\xff"}}); err != nil {
		t.Fatal(err)
	}
	c, err := b.Cursor("cloud", edgeagent.StreamEvent)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // from memory, and from a segment
		x, ok, err := c.Live(1).Next(t.Context(), edgeagent.Limit{Decoded: true})
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		half, err := x.Cut(edgeagent.Range{From: 2, To: 2})
		if err != nil {
			t.Fatal(err)
		}
		evs, err := half.Events(nil)
		if err != nil || len(evs) != 1 || evs[0].Text != "b\uFFFD" {
			t.Errorf("%+v, %v", evs, err)
		}
		flush(t, b)
	}
}

func TestDecodedRefusesWhatItIsNot(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	mustAppend(t, b, 0, 10)
	x, ok, err := cursorOf(t, b, "cloud").Live(1).Next(t.Context(), edgeagent.Limit{Decoded: true})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if _, err := x.Events(nil); err == nil {
		t.Error("readings pass for events")
	}
	if _, err := x.Rollups(nil); err == nil {
		t.Error("readings pass for rollups")
	}
	for _, r := range []edgeagent.Range{{}, {From: 5, To: 4}, {From: 5, To: 11}} {
		if _, err := x.Cut(r); err == nil {
			t.Errorf("cut of %v", r)
		}
	}
}
