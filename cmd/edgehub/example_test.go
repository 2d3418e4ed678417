package main

import (
	"context"
	"fmt"
	"os"
)

// A mistake on the command line exits with 2, before anything is tried.
func Example() {
	code := run(context.Background(), []string{"receive", "--tenants", "acme"}, os.Stdout, os.Stdout)
	fmt.Println("exit", code)
	// Output:
	// error: unknown flag: --tenants
	// hint: see "edgehub receive --help"
	// exit 2
}
