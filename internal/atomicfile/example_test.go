package atomicfile_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/edgeagent/edgeagent/internal/atomicfile"
)

func ExampleWriteFile() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "quota.json")
	for _, used := range []string{`{"used": 1}`, `{"used": 2}`} {
		if err := atomicfile.WriteFile(path, []byte(used), 0o600); err != nil {
			fmt.Println(err)
			return
		}
	}
	content, _ := os.ReadFile(path)
	fmt.Println(string(content))
	// Output: {"used": 2}
}
