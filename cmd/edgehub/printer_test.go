package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/hub"
)

// TestPrintsCaptures: readings that can be read are printed, other data as it is.
func TestPrintsCaptures(t *testing.T) {
	var e block.Encoder
	data, err := e.Series(nil, "gw-7", 0, []block.SeriesEntry{{ID: 1, Key: edgeagent.SeriesKey{Sensor: "boiler", Metric: "temperature", Unit: "Cel"}}})
	if err == nil {
		data, err = e.Readings(data, block.ID{Resolution: 6}, []block.Row{{Series: 1, Time: 1772323200_250000000, Value: 91.25, Quality: edgeagent.Suspect}})
	}
	if err != nil {
		t.Fatal(err)
	}
	const head = `{"t":"1970-01-01T00:00:00.000Z","tenant":"","device":"gw-7",`
	const tail = `"epoch":"0000000000000000","run":"00000000","stream":"event","seq":4}` + "\n"
	for name, c := range map[string]struct {
		kind string
		data []byte
		want string
	}{
		"a capture": {
			edgeagent.KindCapture, data,
			`"kind":"capture","sev":"info","readings":[{"t":"2026-03-01T00:00:00.250Z","sensor":"boiler","metric":"temperature","unit":"Cel","value":91.25,"q":"suspect"}],`,
		},
		"a damaged one": {edgeagent.KindCapture, data[:3], `"kind":"capture","sev":"info","data":"RUIC",`},
		"another kind":  {"x", []byte{1}, `"kind":"x","sev":"info","data":"AQ==",`},
		"no data":       {edgeagent.KindCapture, nil, `"kind":"capture","sev":"info",`},
	} {
		var out bytes.Buffer
		p := newPrinter(&out, nil)
		cut := hub.Cut{Device: "gw-7", Stream: edgeagent.StreamEvent, Events: []hub.Event{{Seq: 4, Event: edgeagent.Event{Kind: c.kind, Data: c.data}}}}
		if err := p.Commit(t.Context(), cut); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != head+c.want+tail {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, strings.TrimSpace(head+c.want+tail))
		}
	}
}
