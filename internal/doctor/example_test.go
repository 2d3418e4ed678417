package doctor_test

import (
	"context"
	"fmt"

	"github.com/edgeagent/edgeagent/internal/doctor"
)

func Example() {
	m := doctor.Machine{Root: "/nowhere", Arch: "arm", ARM: "6", Kernel: "armv7l"}
	for _, f := range doctor.Examine(context.Background(), m, doctor.Wanted{}) {
		if f.Check == "program" {
			fmt.Printf("%s: %s\n", f.Level, f.Text)
		}
	}
	// Output: warning: built for armv6, while this processor is an ARMv7
}
