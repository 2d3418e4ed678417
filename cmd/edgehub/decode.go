package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/hub/decode"
	"github.com/edgeagent/edgeagent/internal/term"
)

// maxWarnings is how many blocks that cannot be decoded are told of one by one.
const maxWarnings = 5

// maxNamesFile bounds what is read of a file of names.
const maxNamesFile = 64 << 20

func newDecode() *cobra.Command {
	var o decode.Options
	var framing, names string
	cmd := &cobra.Command{
		Use:   "decode",
		Short: "Print the blocks on standard input as line protocol, JSON or CSV",
		Long: `Decode reads what gateways publish in format block and prints it as text, for a broker
and a store that are there already. It remembers no records and acknowledges nothing:
use it behind destinations with "ack: reason" or "ack: transport".

  line    InfluxDB line protocol
  json    one object a line, with the identity of each record
  csv     time_ns,device,series,value,quality; readings only

Messages come one after the other:

  none    blocks back to back, as mosquitto_sub -N prints them
  topic   each after a line of topic and length: mosquitto_sub -F '%t %l\n%p'
  length  each after its length in 4 bytes, most significant first; each is answered
          by one such frame (Redpanda Connect: length_prefixed_uint32_be)`,
		Example: `  mosquitto_sub -t 'ea/v1/+/+/d/+' -F '%t %l\n%p' | edgehub decode --framing topic
  edgehub decode --format csv < blocks.bin`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := decode.ParseFraming(framing)
			if err != nil {
				return usageError{fmt.Errorf("--framing: %w", err)}
			}
			if _, err := decode.New(io.Discard, o); err != nil {
				return usageError{fmt.Errorf("--format: %w", err)}
			}
			if names != "" {
				known, file, err := openNames(names)
				if err != nil {
					return err
				}
				defer file.Close()
				o.Known, o.Names = known, file
			}
			warned := 0
			o.Warn = func(err error) {
				if warned++; warned <= maxWarnings {
					term.PrintError(cmd.ErrOrStderr(), fmt.Errorf("left out: %w", err))
				}
			}
			stats, err := decode.Copy(cmd.OutOrStdout(), cmd.InOrStdin(), f, o)
			return errors.Join(err, verdict(stats, o.Format))
		},
	}
	cmd.Flags().StringVar(&o.Format, "format", "line", "line, json or csv")
	cmd.Flags().StringVar(&framing, "framing", "none", "none, topic or length")
	cmd.Flags().StringVar(&o.Device, "device", "unknown", "device of events that come before anything has named their device")
	cmd.Flags().StringVar(&names, "names", "", "file that keeps the names of series for the next start")
	return cmd
}

// verdict is what was left out, as an error.
func verdict(s decode.Stats, format string) error {
	var errs []error
	if s.Damaged > 0 {
		errs = append(errs, fmt.Errorf("%s could not be decoded and were left out", term.Plural(int(s.Damaged), "block")))
	}
	if n := int(s.Lost) + s.Waiting; n > 0 {
		errs = append(errs, edgeagent.WithHint(
			fmt.Errorf("%s came without the names of their series and were left out", term.Plural(n, "block")),
			"a gateway sends names once in a session: keep them over restarts with --names FILE"))
	}
	if s.Omitted > 0 {
		errs = append(errs, edgeagent.WithHint(
			fmt.Errorf("%s have no form in %s and were left out", term.Plural(int(s.Omitted), "record"), format), "print them with --format json"))
	}
	return errors.Join(errs...)
}

// openNames reads a file of names and opens it for more. What a crash left half
// written at its end is cut off: the gateway sends it again.
func openNames(path string) ([]byte, *os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open file of names: %w", err)
	}
	known, err := readNames(file)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read file of names: %w", err), file.Close())
	}
	return known, file, nil
}

func readNames(file *os.File) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(file, maxNamesFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxNamesFile {
		return nil, edgeagent.WithHint(fmt.Errorf("over %d MiB", maxNamesFile>>20), "begin a new one with another --names FILE")
	}
	rest := raw
	for len(rest) > 0 {
		blk, tail, err := block.Next(rest)
		if err == nil {
			_, err = block.Check(blk)
		}
		if err != nil && len(rest) == len(raw) {
			return nil, fmt.Errorf("not a file of names: %w", err)
		}
		if err != nil {
			break
		}
		rest = tail
	}
	whole := len(raw) - len(rest)
	if err := file.Truncate(int64(whole)); err != nil {
		return nil, err
	}
	_, err = file.Seek(int64(whole), io.SeekStart)
	return raw[:whole], err
}
