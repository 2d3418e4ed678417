package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/service"
)

func newBuffer() *cobra.Command {
	cmd := group("buffer", "Look into the buffer: what it holds, whether it is whole, the readings themselves",
		`The buffer is where readings wait for the cloud. These commands only read.

A running agent is asked over its socket; the files of a stopped one are read as they
are, and not one byte of them is changed: --dir names them, -c takes them from a
configuration. Without either it is the buffer of `+service.DefaultConfig+` if there is
such a file, else the one in the default state directory, else that of whatever agent
answers, such as the demo. While files are read, an agent cannot start on them.`)
	cmd.AddCommand(newBufferStats(), newBufferList(), newBufferVerify(), newBufferExport(), newBufferDead(), newBufferBench())
	return cmd
}

// bufferPlace says which buffer is meant.
type bufferPlace struct{ dir, config, socket, keyFile string }

func (p *bufferPlace) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.dir, "dir", "", "directory of the buffer")
	cmd.Flags().StringVarP(&p.config, "config", "c", "", "configuration of the agent whose buffer it is")
	cmd.Flags().StringVar(&p.socket, "socket", "", "socket of the running agent (default: where the agent puts it)")
	cmd.Flags().StringVar(&p.keyFile, "key-file", "", "key of an encrypted buffer of a stopped agent (default: what -c says)")
}

// check refuses more than one place.
func (p *bufferPlace) check(cmd *cobra.Command) error {
	given := 0
	for _, s := range []string{p.dir, p.config, p.socket} {
		if s != "" {
			given++
		}
	}
	if given > 1 {
		return &usageError{withUsage(cmd, errors.New("only one of --dir, --config and --socket can be given"))}
	}
	return nil
}

// bufferSource is a buffer to look into, of a running or a stopped agent.
type bufferSource interface {
	Survey(ctx context.Context) (api.BufferSurvey, error)
	Verify(ctx context.Context) (api.BufferVerification, error)
	// Blocks calls f for the series blocks of each epoch and then for its
	// records. lost counts those that are there and cannot be read.
	Blocks(ctx context.Context, q api.BlockQuery, f func(blk []byte) error) (lost uint64, err error)
	Close() error
}

// open finds the buffer. Whether an agent has it is for the lock to say.
func (p *bufferPlace) open(ctx context.Context) (bufferSource, error) {
	if p.socket != "" {
		return dialBuffer(ctx, p.socket)
	}
	at, err := p.find()
	if err != nil {
		return nil, err
	}
	r, err := buffer.OpenReadOnly(ctx, at.dir, at.key)
	switch {
	case err == nil:
		return &stoppedBuffer{r, at.maxBytes}, nil
	case errors.Is(err, buffer.ErrLocked):
		return p.askOwner(ctx, at.dir, at.socket, err)
	case errors.Is(err, fs.ErrNotExist) && p.dir == "" && p.config == "":
		if s, dialErr := dialBuffer(ctx, ""); dialErr == nil {
			return s, nil
		}
		return nil, edgeagent.WithHint(fmt.Errorf("no buffer in %s, and no agent answers", at.dir),
			"name the directory with --dir, the agent's configuration with -c, or its socket with --socket")
	}
	return nil, err
}

// bufferAt is a directory, and what the configuration says of the agent's socket, of
// the budget and of the key.
type bufferAt struct {
	dir, socket string
	maxBytes    int64
	key         buffer.Encryption
}

// find says where the buffer is.
func (p *bufferPlace) find() (at bufferAt, err error) {
	config := p.config
	if _, err := os.Stat(service.DefaultConfig); config == "" && p.dir == "" && err == nil {
		config = service.DefaultConfig
	}
	if config != "" {
		cfg, err := configs.Load(config, configs.Options{Drivers: agent.Drivers()})
		if err != nil {
			return at, err
		}
		at = bufferAt{cfg.Buffer.Dir, cfg.API.Socket, int64(cfg.Buffer.MaxBytes), cfg.Buffer.Encryption.In(cfg.Dir)}
		if at.dir != "" && !filepath.IsAbs(at.dir) {
			at.dir = filepath.Join(cfg.Dir, at.dir)
		}
	}
	if p.dir != "" {
		at.dir = p.dir
	}
	if p.keyFile != "" {
		at.key = buffer.Encryption{KeyFile: p.keyFile}
	}
	if at.dir == "" {
		state, err := agent.StateDir()
		if err != nil {
			return at, err
		}
		at.dir = filepath.Join(state, "buffer")
	}
	at.dir, err = filepath.Abs(at.dir)
	return at, err
}

// askOwner asks the agent that has the directory, and makes sure that it is the one
// that answers.
func (p *bufferPlace) askOwner(ctx context.Context, dir, socket string, locked error) (bufferSource, error) {
	s, err := dialBuffer(ctx, socket)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("%w, and none answers", locked), "name the socket of that agent with --socket")
	}
	survey, err := s.Survey(ctx)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if !sameDir(dir, survey.Stats.Dir) {
		return nil, errors.Join(edgeagent.WithHint(
			fmt.Errorf("%w, and the one that answers has %s", locked, survey.Stats.Dir),
			"name the socket of that agent with --socket"), s.Close())
	}
	return s, nil
}

func sameDir(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(x, y)
}

func dialBuffer(ctx context.Context, socket string) (bufferSource, error) {
	client, err := api.Dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	return runningBuffer{client}, nil
}

// runningBuffer asks an agent.
type runningBuffer struct{ *api.Client }

func (r runningBuffer) Survey(ctx context.Context) (api.BufferSurvey, error) {
	return r.BufferSurvey(ctx)
}

func (r runningBuffer) Verify(ctx context.Context) (api.BufferVerification, error) {
	return r.BufferVerify(ctx)
}

func (r runningBuffer) Blocks(ctx context.Context, q api.BlockQuery, f func(blk []byte) error) (lost uint64, err error) {
	body, err := r.BufferBlocks(ctx, q)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	var blk []byte
	for {
		if blk, err = readBlock(body, blk[:0]); errors.Is(err, io.EOF) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read from the agent: %w", err)
		}
		if err := f(blk); err != nil {
			return 0, err
		}
	}
}

// readBlock reads one block into dst. It returns io.EOF between two blocks only.
func readBlock(r io.Reader, dst []byte) ([]byte, error) {
	dst = append(dst, make([]byte, block.HeaderSize)...)
	if _, err := io.ReadFull(r, dst); err != nil {
		return nil, err
	}
	h, err := block.ParseHeader(dst)
	if err != nil {
		return nil, err
	}
	dst = append(dst, make([]byte, h.StoredLen)...)
	if _, err := io.ReadFull(r, dst[block.HeaderSize:]); err != nil {
		return nil, fmt.Errorf("%w within a block", io.ErrUnexpectedEOF)
	}
	return dst, nil
}

// stoppedBuffer reads the files of an agent that does not run.
type stoppedBuffer struct {
	r        *buffer.ReadOnly
	maxBytes int64
}

func (s *stoppedBuffer) Survey(context.Context) (api.BufferSurvey, error) {
	v := s.r.Survey()
	v.MaxBytes = s.maxBytes
	out := agent.SurveyOf(v)
	var err error
	out.Dead, err = agent.DeadLettersOf(s.r)
	return out, err
}

func (s *stoppedBuffer) Verify(ctx context.Context) (api.BufferVerification, error) {
	v, err := s.r.Verify(ctx)
	return agent.VerificationOf(s.r.Survey(), v), err
}

func (s *stoppedBuffer) Blocks(ctx context.Context, q api.BlockQuery, f func(blk []byte) error) (uint64, error) {
	if q.Dead {
		return 0, agent.DeadBlocks(s.r, q, f)
	}
	return s.r.Blocks(ctx, buffer.Query{Stream: q.Stream, Since: q.Since}, f)
}

func (s *stoppedBuffer) Close() error { return s.r.Close() }
