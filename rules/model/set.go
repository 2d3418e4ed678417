package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/model/process"
)

// maxModels bounds the models of a configuration.
const maxModels = 64

// Config says what stands behind a name in model("name", …): a file, or a process.
type Config struct {
	// File is the path of an XGBoost, LightGBM or safetensors file.
	File string `yaml:"file"`
	// Output is that of [Options].
	Output string `yaml:"output"`
	// MaxBytes is that of [Options]: what the model may take in memory, default
	// 4 MiB, at most 64 MiB.
	MaxBytes edgeagent.Bytes `yaml:"max_bytes"`
	// Process is asked instead of a file.
	Process *process.Config `yaml:"process"`
}

const maxMaxBytes = 64 << 20

// Validate returns the mistakes that can be seen without opening the file, each an
// [edgeagent.FieldError], joined.
func (c Config) Validate() error {
	var errs []error
	switch {
	case c.File == "" && c.Process == nil:
		errs = append(errs, edgeagent.Field("file", "a model needs a file or a process"))
	case c.File != "" && c.Process != nil:
		errs = append(errs, edgeagent.Field("process", "a model has a file or a process, not both"))
	case c.Process != nil && c.Output != "":
		errs = append(errs, edgeagent.Field("output", "a process answers with one number, there is nothing to choose"))
	}
	if c.MaxBytes < 0 || c.MaxBytes > maxMaxBytes {
		errs = append(errs, edgeagent.Field("max_bytes", "want at most %v, got %v", edgeagent.Bytes(maxMaxBytes), c.MaxBytes))
	}
	if c.Process != nil {
		errs = append(errs, edgeagent.InField("process", c.Process.Validate()))
	}
	return errors.Join(errs...)
}

var (
	_ rules.Model = (*Model)(nil)
	_ rules.Model = (*process.Process)(nil)
)

// Set is the models of a configuration. It is safe for concurrent use.
type Set struct {
	files     map[string]*Model
	processes map[string]*process.Process
}

// Load opens all files and prepares all processes; the processes are asked once
// [Set.Run] runs. All mistakes are returned at once, each a [edgeagent.FieldError]
// that begins with the model's name.
func Load(configs map[string]Config, logger *slog.Logger) (*Set, error) {
	s := &Set{files: map[string]*Model{}, processes: map[string]*process.Process{}}
	if len(configs) > maxModels {
		return nil, fmt.Errorf("%d models, at most %d can be loaded", len(configs), maxModels)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		errs = append(errs, edgeagent.InField(name, s.load(name, configs[name], logger)))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Set) load(name string, c Config, logger *slog.Logger) (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	if c.Process != nil {
		s.processes[name], err = process.New(name, *c.Process, logger)
		return err
	}
	s.files[name], err = Open(c.File, Options{Output: c.Output, MaxBytes: int(c.MaxBytes)})
	return edgeagent.InField("file", err)
}

// Models returns the models for [rules.Options], by name.
func (s *Set) Models() map[string]rules.Model {
	all := make(map[string]rules.Model, len(s.files)+len(s.processes))
	for name, m := range s.files {
		all[name] = m
	}
	for name, p := range s.processes {
		all[name] = p
	}
	return all
}

// Bytes returns what the files' models take in memory.
func (s *Set) Bytes() int {
	sum := 0
	for _, m := range s.files {
		sum += m.Bytes()
	}
	return sum
}

// Processes returns how many of the models are processes; without any there is no
// need to Run.
func (s *Set) Processes() int { return len(s.processes) }

// Run runs the processes until ctx ends; then it returns nil. It is called once.
func (s *Set) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, 0, len(s.processes))
	var mu sync.Mutex // guards errs
	for _, p := range s.processes {
		wg.Go(func() {
			err := p.Run(ctx)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	<-ctx.Done()
	wg.Wait()
	return errors.Join(errs...)
}

// Health is that of the worst process, with the names of all that are not well.
func (s *Set) Health() edgeagent.Health {
	var worst edgeagent.Health
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.processes)) {
		h := s.processes[name].Health()
		if h.Level == edgeagent.OK {
			continue
		}
		if names = append(names, name); h.Level > worst.Level {
			worst = h
		}
	}
	if len(names) > 1 {
		worst.Text += "; not well: " + strings.Join(names, ", ")
	}
	return worst
}

// Stats returns the counters of the processes, by name.
func (s *Set) Stats() map[string]process.Stats {
	all := make(map[string]process.Stats, len(s.processes))
	for name, p := range s.processes {
		all[name] = p.Stats()
	}
	return all
}
