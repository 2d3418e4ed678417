package main

import (
	"context"
	"fmt"
	"os"
)

// The configurations that ship are right.
func Example() {
	file := "../../configs/examples/laptop.yaml"
	code := run(context.Background(), []string{"config", "check", file}, os.Stdout, os.Stdout)
	fmt.Println("exit", code)
	// Output:
	// ../../configs/examples/laptop.yaml: ok: 5 sensors, 3 rules, 1 destination
	// exit 0
}
