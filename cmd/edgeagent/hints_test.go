package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent/configs"
)

var (
	quotedCommand = regexp.MustCompile(`"(?:sudo )?(edgeagent(?: [^"]*)?)"`)
	configKey     = regexp.MustCompile(`\b(?:device|clock|rules|buffer|api|destinations|sensors)(?:\[\])?(?:\.[a-z_]+(?:\[\])?)+`)
)

// TestHintsNameWhatExists reads every text in the program: a command that stands in
// quotes is a command of ours with flags of ours, and a dotted key is a key of the
// configuration.
func TestHintsNameWhatExists(t *testing.T) {
	root := newRoot()
	root.InitDefaultCompletionCmd("")
	root.InitDefaultHelpCmd()
	keys := yamlKeys(reflect.TypeFor[configs.Config](), "")
	commands, dotted := 0, 0
	for _, text := range programTexts(t) {
		for _, m := range quotedCommand.FindAllStringSubmatch(text.value, -1) {
			commands++
			if why := unknownCommand(root, strings.Fields(m[1])[1:]); why != "" {
				t.Errorf("%s: %q: %s", text.pos, m[1], why)
			}
		}
		for _, key := range configKey.FindAllString(text.value, -1) {
			dotted++
			isFile := strings.HasSuffix(key, ".yaml") || strings.HasSuffix(key, ".jsonl")
			if !isFile && !slices.Contains(keys, strings.ReplaceAll(key, "[]", "")) {
				t.Errorf("%s: %q is not a key of the configuration", text.pos, key)
			}
		}
	}
	if commands < 10 || dotted < 10 {
		t.Errorf("found only %d commands and %d keys", commands, dotted)
	}
}

func TestUnknownCommand(t *testing.T) {
	for _, tc := range []struct {
		line string
		ok   bool
	}{
		{"status", true},
		{"config check FILE", true},
		{"run -c FILE --log-level=debug", true},
		{"service install --name x", true},
		{"surgeon", false},
		{"buffer repair", false},
		{"status --watch", false},
		{"config check -x", false},
	} {
		if why := unknownCommand(newRoot(), strings.Fields(tc.line)); (why == "") != tc.ok {
			t.Errorf("%s: %q", tc.line, why)
		}
	}
}

func unknownCommand(root *cobra.Command, words []string) string {
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err.Error()
	}
	if len(rest) > 0 && len(cmd.Commands()) > 0 && !strings.HasPrefix(rest[0], "-") && !strings.HasPrefix(rest[0], "%") {
		return "there is no " + rest[0]
	}
	cmd.InitDefaultHelpFlag()
	for _, word := range rest {
		name, isFlag := strings.CutPrefix(word, "-")
		if !isFlag {
			continue
		}
		if long, ok := strings.CutPrefix(name, "-"); ok {
			long, _, _ = strings.Cut(long, "=")
			isFlag = cmd.Flags().Lookup(long) != nil || cmd.InheritedFlags().Lookup(long) != nil
		} else {
			isFlag = cmd.Flags().ShorthandLookup(name) != nil
		}
		if !isFlag {
			return "there is no " + word
		}
	}
	return ""
}

// yamlKeys returns the dotted paths of the configuration, without the [] of lists.
func yamlKeys(typ reflect.Type, prefix string) []string {
	for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return nil
	}
	var keys []string
	for f := range typ.Fields() {
		if name := f.Tag.Get("yaml"); name != "" && name != "-" {
			keys = append(append(keys, prefix+name), yamlKeys(f.Type, prefix+name+".")...)
		}
	}
	return keys
}

type programText struct {
	pos   token.Position
	value string
}

// programTexts returns the string literals of the project, tests left out. Parts of
// a text that are added up stand for themselves.
func programTexts(t *testing.T) []programText {
	t.Helper()
	var texts []programText
	files := token.NewFileSet()
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == "testdata" || strings.HasPrefix(e.Name(), ".git")):
			return fs.SkipDir
		case e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec:
				return false
			case *ast.BasicLit:
				if value, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					texts = append(texts, programText{files.Position(n.Pos()), value})
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}
