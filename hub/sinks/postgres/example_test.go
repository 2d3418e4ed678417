package postgres_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub/sinks/postgres"
)

// Without a database there is a hint.
func Example() {
	s, err := postgres.Open(context.Background(), "", postgres.Options{})
	if err != nil {
		fmt.Println(err)
		if h, ok := errors.AsType[edgeagent.Hinter](err); ok {
			fmt.Println(h.Hint())
		}
		return
	}
	defer s.Close()
	// Output:
	// open database: no address of a database
	// name a PostgreSQL with --sink postgres://USER@HOST/NAME
}
