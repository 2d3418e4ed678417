//go:build system

package system

import (
	"os/exec"
	"testing"
)

// TestDecoders runs the reference decoders in Python and JavaScript against the
// format's vectors.
func TestDecoders(t *testing.T) {
	out, err := exec.Command("sh", "../../docs/decoders/check.sh").CombinedOutput()
	if err != nil {
		t.Fatalf("check.sh: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}
