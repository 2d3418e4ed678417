package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/term"
)

// Exit codes, the same for every command.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitDegraded = 3
)

// exitError ends the program with a code; what there is to say has been said.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit %d", e.code) }

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// run is the whole program, for main and for tests.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot() //nolint:contextcheck // cobra hands each command its context
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"):
		term.PrintError(stderr, err)
		return exitUsage
	default:
		printError(stderr, err)
		return exitFailed
	}
}

// renderer is an error that knows how to show itself over several lines, such as
// a configuration error with its snippet.
type renderer interface{ Render(w io.Writer) error }

func printError(w io.Writer, err error) {
	var r renderer
	if errors.As(err, &r) {
		if r.Render(w) == nil {
			return
		}
	}
	term.PrintError(w, err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "edgeagent",
		Short: "The agent on an IoT gateway: sensors, rules, crash-safe buffer, sync",
		Long: `edgeagent reads sensors, runs rules on every reading, keeps all of it in a
crash-safe buffer while the link is down, and syncs upstream.

Try it with nothing else installed:  edgeagent demo`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{withUsage(cmd, err)}
	})
	root.AddCommand(
		newDemo(), newRun(), newStatus(), newBuffer(), newConfig(), newGPIO(), newRules(), newSync(), newService(), newSensors(), newSim(), newDoctor(), newVersion(),
	)
	for _, cmd := range root.Commands() {
		checkArgs(cmd)
	}
	return root
}

// checkArgs turns a wrong number of arguments into a usage error, all the way down.
func checkArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &usageError{withUsage(cmd, err)}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		checkArgs(sub)
	}
}

// group is a command that only holds others: alone it prints its help, with a word
// it does not know it says so.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{withUsage(cmd, fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath()))}
			}
			return cmd.Help()
		},
	}
}

func withUsage(cmd *cobra.Command, err error) error {
	return edgeagent.WithHint(err, fmt.Sprintf("see %q", cmd.CommandPath()+" --help"))
}

// isTerminal reports whether w is a terminal that a person looks at.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(f)
}
