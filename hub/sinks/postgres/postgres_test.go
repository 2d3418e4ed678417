package postgres

import (
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestStatements: what makes the tables, with TimescaleDB and without, as text. The
// plain ones are run by the system test.
func TestStatements(t *testing.T) {
	for name, hypertable := range map[string]bool{"plain": false, "timescale": true} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(statements(`my "schema"`, hypertable), ";\n") + ";\n"
			file := filepath.Join("testdata", name+".sql")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("statements (-want +got), -update rewrites them:\n%s", diff)
			}
		})
	}
}

// TestCopyFormat holds the encoder against the documented layout.
func TestCopyFormat(t *testing.T) {
	run := int64(7)
	rows := []hub.Row{{Seq: 2, ID: 3, Time: 4, Value: 1, Quality: edgeagent.Stale}}
	head := "5047434f50590aff0d0a00 00000000 00000000 0007 00000008 0000000000000004 00000008 0000000000000002 00000008 3ff0000000000000"
	tail := "00000004 00000009 00000004 00000003 00000002 0002 ffff"
	for name, c := range map[string]struct {
		run  *int64
		want string
	}{
		"a right time":     {nil, "ffffffff"},
		"an unsynced time": {&run, "00000008 0000000000000007"},
	} {
		got := hex.EncodeToString(appendReadings(nil, 9, rows, []int32{0}, c.run))
		if want := strings.ReplaceAll(head+c.want+tail, " ", ""); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
	roll := []hub.Rollup{{Seq: 1, ID: 2, Rollup: edgeagent.Rollup{Bucket: time.Minute, Count: 1<<64 - 1}}}
	got := hex.EncodeToString(appendRollups(nil, 9, roll, nil))
	if !strings.Contains(got, "7fffffffffffffff") || !strings.HasSuffix(got, "000000040000003cffff") {
		t.Errorf("rollups %s", got)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{"": "", "hä": "hä", "a\x00b": "a\uFFFDb", "a\xff": "a\uFFFD"} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestOpenSaysWhy(t *testing.T) {
	for _, url := range []string{"", "mysql://x", "postgres:///x?host=" + t.TempDir() + "&connect_timeout=1"} {
		s, err := Open(t.Context(), url, Options{})
		if err == nil {
			s.Close()
			t.Fatalf("%q is opened", url)
		}
		var h edgeagent.Hinter
		if !errors.As(err, &h) || !strings.Contains(h.Hint(), "--sink postgres://") {
			t.Errorf("%q: no hint in %v", url, err)
		}
	}
}
