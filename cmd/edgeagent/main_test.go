package main

import (
	"flag"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the expected output in the scripts")

// TestMain lets scripts run "edgeagent" in a process of its own, without a build.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"edgeagent": main})
}

// TestScripts runs the command line as a user does, a behaviour a file.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// Nothing of this machine's own agent, and no colours.
			env.Setenv("XDG_RUNTIME_DIR", env.WorkDir)
			env.Setenv("XDG_STATE_HOME", env.WorkDir+"/state")
			env.Setenv("NO_COLOR", "1")
			// Unix socket paths are short; work directories are not.
			dir, err := os.MkdirTemp("", "ea")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("SHORT", dir)
			return nil
		},
	})
}
