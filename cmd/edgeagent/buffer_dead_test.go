package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
)

// buried is the buffer of a stopped agent of which two destinations refused records.
func buried(t *testing.T) (dir string) {
	t.Helper()
	dir = stored(t, recorded(40))
	b, _, err := buffer.Open(t.Context(), dir, buffer.Options{Device: "gw-17"})
	if err != nil {
		t.Fatal(err)
	}
	e := b.Epoch()
	for _, dest := range []string{"cloud", "plant"} {
		err = errors.Join(err, b.Register(buffer.Destination{Name: dest}))
	}
	err = errors.Join(err,
		b.DeadLetter(t.Context(), "cloud", e, edgeagent.StreamTelemetry, edgeagent.Range{From: 5, To: 5}, "refused 2 times: bad"),
		b.DeadLetter(t.Context(), "plant", e, edgeagent.StreamTelemetry, edgeagent.Range{From: 9, To: 10}, "refused 2 times: too\nbad"),
		b.DeadLetter(t.Context(), "cloud", e, edgeagent.StreamAlarm, edgeagent.Range{From: 2, To: 2}, "refused 2 times: worse"),
		b.Close(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDeadLetters(t *testing.T) {
	dir := buried(t)
	before := digest(t, dir)
	var got deadLetters
	if err := json.Unmarshal([]byte(mustEdge(t, "buffer", "dead", "--dir", dir, "--json")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Letters) != 3 || got.Letters[1].Destination != "plant" || got.Letters[1].Records != 2 || got.Letters[2].Stream != edgeagent.StreamAlarm {
		t.Errorf("letters %+v", got)
	}
	if out := mustEdge(t, "buffer", "dead", "--dir", dir); strings.Count(out, "\n") != 4 || !strings.Contains(out, "refused 2 times: worse") {
		t.Errorf("listed:\n%s", out)
	}
	if out := mustEdge(t, "buffer", "dead", "--dir", dir, "--destination", "plant"); strings.Count(out, "\n") != 2 {
		t.Errorf("listed of one destination:\n%s", out)
	}
	if out := mustEdge(t, "buffer", "dead", "--dir", dir, "--destination", "none"); out != "no dead letters\n" {
		t.Errorf("listed of none:\n%s", out)
	}
	if out := mustEdge(t, "buffer", "dead", "--dir", dir, "--destination", "none", "--json"); !strings.Contains(out, `"dead_letters": []`) {
		t.Errorf("listed of none:\n%s", out)
	}
	all := strings.Split(mustEdge(t, "buffer", "export", "--dir", dir), "\n")
	want := strings.Join([]string{all[0], all[5], all[9], all[10], ""}, "\n")
	if out := mustEdge(t, "buffer", "dead", "export", "--dir", dir); out != want {
		t.Errorf("exported:\n%s\nwant\n%s", out, want)
	}
	if out := mustEdge(t, "buffer", "dead", "export", "--dir", dir, "--stream", "alarm", "--format", "jsonl"); strings.Count(out, "\n") != 1 || !strings.Contains(out, "wet/hall/1") {
		t.Errorf("exported alarms:\n%s", out)
	}
	if digest(t, dir) != before {
		t.Error("looking changed the directory")
	}
}
