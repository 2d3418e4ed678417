//go:build system && linux

package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestBufferOnARMv6 runs the tests of the buffer as the smallest board would, on
// an emulated ARM1176 (Raspberry Pi Zero): 32 bits, and other machine code for
// LZ4, CRC-32C and floating point than anywhere else. What starts further
// processes, which the emulator cannot, and the long ones are left to the machines
// that are fast.
func TestBufferOnARMv6(t *testing.T) {
	qemu, err := exec.LookPath("qemu-arm")
	if err != nil {
		if qemu, err = exec.LookPath("qemu-arm-static"); err != nil {
			t.Skip("needs qemu-arm (Debian: qemu-user)")
		}
	}
	tests := []struct{ dir, run, skip string }{
		{"block", ".", "Model"},
		{"rollup", ".", "-"},
		{"sealed", ".", "-"},
		{"segment", ".", "Fuzz"},
		{"headlog", ".", "Kill|Cut|World|Damage|Fault"},
		{".", "Model|Append|Marks|Correct|Interrupted|Restored|DeadLetter|Downsampl", "Budget|Bound|Kill|Cut|Processes"},
	}
	for _, test := range tests {
		t.Run(test.dir, func(t *testing.T) {
			dir := filepath.Join("..", "..", "buffer", test.dir)
			file := filepath.Join(t.TempDir(), "armv6.test")
			build := exec.Command("go", "test", "-c", "-o", file, ".")
			build.Dir = dir
			build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=6", "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			run := exec.Command(qemu, file, "-test.short", "-test.count=1", "-test.timeout=20m", "-test.run="+test.run, "-test.skip="+test.skip)
			run.Dir = dir
			run.Env = append(os.Environ(), "QEMU_CPU=arm1176")
			if out, err := run.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}
