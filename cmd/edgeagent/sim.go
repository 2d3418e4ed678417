package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent/internal/term"
	"github.com/edgeagent/edgeagent/sim/bus"
)

func newSim() *cobra.Command {
	cmd := group("sim", "Simulated hardware", "")
	cmd.AddCommand(newSimBus())
	return cmd
}

func newSimBus() *cobra.Command {
	return &cobra.Command{
		Use:   "bus",
		Short: "Give this machine an I²C bus full of simulated chips",
		Long: `Bus plugs a simulated USB adapter into this machine's kernel, which then has one more
/dev/i2c-N with a chip of each kind on it: for this agent, for i2cdetect, and for the
kernel's own drivers. It needs Linux, root and three modules:

  sudo modprobe -a vhci-hcd i2c-tiny-usb i2c-dev

It reads commands from standard input, a line each, and pulls the adapter out when it is
told to stop:

  set celsius 84              (also pascal, percent, ppm, lux, volts, amps)
  fault 0x76 unplugged        (none, nak, all-ones, all-zeros, stuck, corrupt, slow,
                               frozen, noisy, drifting; "fault all none" mends all)
  power 0x76                  (away for an instant: the chip forgets its settings)`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return runSimBus(ctx, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr(), bus.NewBench())
		},
	}
}

func runSimBus(ctx context.Context, in io.Reader, out, errs io.Writer, b *bus.Bench) error {
	// Not waited for: it sits in a read of standard input, which nothing ends but the
	// end of the program.
	go obey(in, out, errs, b)
	return bus.NewAdapter(b.Bus).Attach(ctx, func(node string) {
		fmt.Fprintf(out, "%s: a simulated bus, until this program ends\n", node)
		t := &term.Table{Indent: "  "}
		for _, c := range b.Chips() {
			t.Row(fmt.Sprintf("0x%02x", c.Addr()), c.Name)
		}
		_ = t.Write(out) // a screen that is gone is no reason to pull the bus out
		fmt.Fprintf(out, "%s\n", roomWords(b))
	})
}

// obey does what the lines of in say, until its end.
func obey(in io.Reader, out, errs io.Writer, b *bus.Bench) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		if err := b.Command(line); err != nil {
			term.PrintError(errs, err)
			continue
		}
		fmt.Fprintf(out, "%s: ok\n", line)
	}
}

// roomWords says what the chips measure.
func roomWords(b *bus.Bench) string {
	room := b.Quantities()
	var words []string
	for _, name := range slices.Sorted(maps.Keys(room)) {
		words = append(words, fmt.Sprintf("%s %g", name, room[name]))
	}
	return "measured: " + strings.Join(words, ", ")
}
