//go:build hil && linux

package hil

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUser runs packages' own tests, and the program, as programs of the three kinds of
// board: 32 bits, alignment, and a processor that refuses what is newer than it.
func TestUser(t *testing.T) {
	most := []string{"./sensors", "./sensors/i2c", "./sensors/kernel", "./buffer/block", "./sync/wire", "./rules/expression"}
	for _, target := range []struct {
		arch, arm, qemu, cpu string
		packages             []string
		program              bool
	}{
		{"arm64", "", "qemu-aarch64", "cortex-a53", most, true},
		// Between the two others: most of what can go wrong they find, and it takes a
		// minute to compile. TestRaspi2b runs the program.
		{"arm", "7", "qemu-arm", "cortex-a7", []string{"./sensors/i2c", "./buffer/block"}, false},
		{"arm", "6", "qemu-arm", "arm1176", most, true}, // a Pi Zero: refuses ARMv7
	} {
		t.Run(target.arch+target.arm, func(t *testing.T) {
			qemu, err := exec.LookPath(target.qemu)
			if err != nil {
				if qemu, err = exec.LookPath(target.qemu + "-static"); err != nil {
					t.Fatalf("needs %s (Debian: qemu-user)", target.qemu)
				}
			}
			env := append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+target.arch, "GOARM="+target.arm, "QEMU_CPU="+target.cpu)
			test := exec.Command("go", append([]string{"test", "-count=1", "-short", "-timeout=40m", "-exec", qemu}, target.packages...)...)
			test.Dir, test.Env = filepath.Join("..", ".."), env
			if out, err := test.CombinedOutput(); err != nil {
				t.Errorf("tests: %v\n%s", err, out)
			}
			if !target.program {
				return
			}
			program := filepath.Join(t.TempDir(), "edgeagent")
			if err := os.WriteFile(program, build(t, board{arch: target.arch, arm: target.arm}, "cmd/edgeagent"), 0o755); err != nil {
				t.Fatal(err)
			}
			check := exec.Command(qemu, program, "config", "check", "testdata/chips.yaml")
			check.Env = env
			if out, err := check.CombinedOutput(); err != nil || !strings.Contains(string(out), "12 sensors") {
				t.Errorf("config check: %v\n%s", err, out)
			}
		})
	}
}
