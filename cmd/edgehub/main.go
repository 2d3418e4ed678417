// Command edgehub is the cloud end of edgeagent: it takes blocks from a broker, keeps
// each record once, and tells the gateways what it holds.
//
// What a command was asked for goes to standard output; everything else goes to
// standard error. Exit codes: 0 ok, 1 failed, 2 usage.
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

// version is stamped by the linker.
var version = "dev"

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return execute(ctx, newRoot(), args, stdout, stderr) //nolint:contextcheck // cobra hands each command its context
}

func execute(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if !errors.Is(err, errQuiet) {
		term.PrintError(stderr, err)
	}
	if errors.As(err, new(usageError)) || strings.HasPrefix(err.Error(), "unknown command") {
		return 2
	}
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "edgehub",
		Short: "The cloud end of edgeagent: store each record once, and prove that nothing is missing",
		Long: `edgehub takes what edgeagents publish in format block, stores each record once,
acknowledges end to end, so that a gateway forgets nothing too early, and names what
is missing and why.

Begin with "edgehub serve": it needs nothing else.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{edgeagent.WithHint(err, fmt.Sprintf("see %q", cmd.CommandPath()+" --help"))}
	})
	root.AddCommand(newServe(), newDevices(), newGaps(), newQuery(), newReplay(), newIngest(), newReceive(), newDecode(), newBench(), newConfig(), newVersion())
	return root
}

func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{edgeagent.WithHint(err, fmt.Sprintf("see %q", cmd.CommandPath()+" --help"))}
	}
	return nil
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "edgehub %s\n", version)
			return err
		},
	}
}
