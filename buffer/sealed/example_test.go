package sealed_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/edgeagent/edgeagent/buffer/sealed"
)

func Example() {
	dir, err := os.MkdirTemp("", "sealed")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "key")
	const digits = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	if err := os.WriteFile(file, []byte(digits), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	key, err := sealed.LoadKey(file)
	if err != nil {
		fmt.Println(err)
		return
	}

	place := []byte("telemetry/1201")
	box := key.Seal(nil, []byte("a block"), place)
	plain, err := key.Open(nil, box, place)
	fmt.Println(key, len(box), string(plain), err)

	_, err = key.Open(nil, box, []byte("telemetry/1202"))
	fmt.Println("elsewhere:", errors.Is(err, sealed.ErrDamaged))
	// Output:
	// key 630dcd2966c43366 51 a block <nil>
	// elsewhere: true
}
