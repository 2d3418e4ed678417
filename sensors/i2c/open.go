package i2c

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/host/v3/sysfs"

	"github.com/edgeagent/edgeagent"
)

// OpenBus opens an I²C bus of this machine: "1", "i2c-1", "/dev/i2c-1", or a link
// in /dev to one. Each call opens the bus anew; the kernel shares it.
func OpenBus(name string) (i2c.BusCloser, error) {
	n, ok := findBus(name)
	if !ok {
		return nil, missing(name, errors.New("not the name of an I²C bus"))
	}
	dev := "/dev/i2c-" + strconv.Itoa(n)
	// Ask first: periph's errors can be told apart by their text only.
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, edgeagent.WithHint(fmt.Errorf("open I²C bus %s: %w", name, err),
			"add the agent's user to the group that owns "+dev+": usermod -aG i2c edgeagent")
	case err != nil:
		return nil, missing(name, err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open I²C bus %s: %w", name, err)
	}
	bus, err := sysfs.NewI2C(n)
	if err != nil {
		return nil, fmt.Errorf("open I²C bus %s: %w", name, err)
	}
	return bus, nil
}

// missing says that there is no such bus, and which there are.
func missing(name string, err error) error {
	hint := "no I²C bus is enabled here: raspi-config nonint do_i2c 0 on a Raspberry Pi, else modprobe i2c-dev"
	if have := buses(); len(have) > 0 {
		hint = "buses here: " + strings.Join(have, ", ") + "; set the key bus to one of them"
	}
	return edgeagent.WithHint(fmt.Errorf("open I²C bus %s: %w", name, err), hint)
}

// buses lists the machine's buses by number.
func buses() []string {
	files, err := filepath.Glob("/dev/i2c-*")
	if err != nil {
		return nil
	}
	var names []string
	for _, f := range files {
		if n, ok := busNumber(f); ok {
			names = append(names, strconv.Itoa(n))
		}
	}
	return names
}

// findBus returns the number of a bus from its name, or from where a link leads.
func findBus(name string) (int, bool) {
	if n, ok := busNumber(name); ok {
		return n, true
	}
	return linkedBus(name)
}

// busNumber reads the number of a bus from its name: "1", "i2c-1", "/dev/i2c-1",
// or periph's "I2C1".
func busNumber(name string) (int, bool) {
	name = strings.TrimPrefix(name, "/dev/")
	for _, prefix := range []string{"i2c-", "I2C"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			name = rest
			break
		}
	}
	n, err := strconv.ParseUint(name, 10, 16)
	return int(n), err == nil
}

// linkedBus follows a link such as udev makes to give a bus a lasting name.
func linkedBus(name string) (int, bool) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join("/dev", name)
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return 0, false
	}
	return busNumber(filepath.Base(target))
}
