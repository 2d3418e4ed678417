package term_test

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/edgeagent/edgeagent/internal/term"
)

type hinted struct{ error }

func (hinted) Hint() string { return `start it with "edgeagent run -c FILE"` }

func ExamplePrintError() {
	err := errors.Join(
		hinted{errors.New("no agent answers")},
		errors.New("read /etc/edgeagent/agent.yaml: permission denied"),
	)
	term.PrintError(os.Stdout, err)
	// Output:
	// error: no agent answers
	// hint: start it with "edgeagent run -c FILE"
	// error: read /etc/edgeagent/agent.yaml: permission denied
}

func ExampleTable() {
	tab := term.Table{Right: []int{1}}
	tab.Row("boiler", term.Count(1204), term.Duration(130*time.Second))
	tab.Row("room", term.Count(7), term.Duration(18*24*time.Hour))
	fmt.Print(tab.String())
	// Output:
	// boiler  1,204  2m10s
	// room        7  18 days
}
