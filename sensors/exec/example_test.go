//go:build unix

package exec_test

import (
	"context"
	"fmt"

	"github.com/edgeagent/edgeagent/sensors/exec"
)

func ExampleProgram() {
	out, err := exec.Program{Path: "/bin/sh", Args: []string{"-c", "echo $RULE"}, Env: []string{"RULE=hot"}}.Run(context.Background())
	fmt.Printf("%q %v\n", out, err)
	// Output: "hot\n" <nil>
}
