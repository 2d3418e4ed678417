package api

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzStatus: a client shows whatever comes over the socket; nothing may panic,
// move the cursor or lose its JSON form.
func FuzzStatus(f *testing.F) {
	files, err := filepath.Glob("testdata/status-*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"sensors":[{"health":{"level":"failed"},"values":[{"value":1e308,"unit":"By","age_s":-1e308}]}],"uptime_s":1e308}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Status
		if json.Unmarshal(b, &s) != nil {
			return
		}
		var screen bytes.Buffer
		if err := RenderStatus(&screen, s, 80); err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(screen.Bytes()) || strings.ContainsAny(screen.String(), "\x1b\r\a") {
			t.Errorf("unsafe screen %q", screen.String())
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("no JSON form: %v", err)
		}
		var back Status
		if err := json.Unmarshal(again, &back); err != nil {
			t.Fatalf("own JSON form is refused: %v", err)
		}
		for _, m := range statusMetrics() {
			m.write(&screen, &s)
		}
	})
}
