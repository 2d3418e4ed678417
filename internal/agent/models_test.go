package agent

import (
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/model"
)

func TestRulesAreHeldAgainstTheModels(t *testing.T) {
	const file = "../../rules/model/testdata/xgboost/binary.json"
	for name, c := range map[string]struct{ file, when, want string }{
		"fine":     {file, `model("pump", x, x, x, x) > 0.9`, ""},
		"no file":  {"none.json", `x > 1`, "pump.file"},
		"unknown":  {file, `model("pmup", x, x, x, x) > 0.9`, `no model "pmup"`},
		"too few":  {file, `model("pump", x) > 0.9`, "wants 4 numbers"},
		"no model": {"", `model("pump", x) > 0.9`, `no model "pump"`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configs.Default()
			cfg.Buffer.Dir = t.TempDir()
			if c.file != "" {
				cfg.Rules.Models = map[string]model.Config{"pump": {File: c.file}}
			}
			cfg.RuleFiles = []configs.RuleFile{{Path: "pumps.yaml", File: rules.File{Version: 1, Rules: []rules.Rule{{
				ID: "worn", Inputs: map[string]string{"x": "pump/x"}, When: c.when, Do: []rules.Action{{Alert: &rules.Alert{Text: "worn"}}},
			}}}}}
			_, err := New(Options{Config: cfg})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
