package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/edgeagent/edgeagent"
)

const (
	vhci = "/sys/devices/platform/vhci_hcd.0"
	// attachWait is how long the kernel may take to find the adapter: it talks to it a
	// dozen times, and then udev makes the device node.
	attachWait = 10 * time.Second
	attachPoll = 50 * time.Millisecond
)

// Attach plugs the adapter into this machine's kernel and answers until ctx ends, when
// it pulls it out again; ready is called once, with the new bus ("/dev/i2c-7"). It needs
// root and the modules vhci-hcd, i2c-tiny-usb and i2c-dev.
func (a *Adapter) Attach(ctx context.Context, ready func(bus string)) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	before := tinyBuses()
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer ours.Close()
	attach := fmt.Sprintf("%d %d %d %d\n", port, theirs.Fd(), 1, 2) // device 1, full speed
	err = os.WriteFile(filepath.Join(vhci, "attach"), []byte(attach), 0)
	theirs.Close() // the kernel has it
	if err != nil {
		return fmt.Errorf("attach to USB/IP port %d: %w", port, err)
	}
	served := make(chan error, 1)
	go func() { served <- a.Serve(ours) }()
	stop := func() error {
		// The kernel closes its end, and with it the read that Serve waits in.
		err := os.WriteFile(filepath.Join(vhci, "detach"), []byte(strconv.Itoa(port)), 0)
		ours.Close()
		if served := <-served; err == nil && ctx.Err() == nil {
			err = served
		}
		return err
	}
	name, err := waitForBus(ctx, before, served)
	if err != nil {
		return errors.Join(err, stop())
	}
	ready(name)
	select {
	case <-ctx.Done():
		return stop()
	case err := <-served:
		served <- nil
		return errors.Join(errors.New("the kernel has dropped the simulated adapter"), err, stop())
	}
}

// socketPair returns two ends of a connection; the second is for the kernel.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil { // so that Close ends a Read
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "usbip"), os.NewFile(uintptr(fds[1]), "usbip-kernel"), nil
}

// freePort finds a port of the virtual hub that takes devices of full speed.
func freePort() (int, error) {
	text, err := os.ReadFile(filepath.Join(vhci, "status"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, edgeagent.WithHint(errors.New("this kernel has no USB/IP hub"),
			"load the modules: sudo modprobe -a vhci-hcd i2c-tiny-usb i2c-dev; Debian has them in its usual kernels")
	case errors.Is(err, fs.ErrPermission):
		return 0, edgeagent.WithHint(fmt.Errorf("look at the USB/IP hub: %w", err), "run it as root: only root may plug a device in")
	case err != nil:
		return 0, fmt.Errorf("look at the USB/IP hub: %w", err)
	}
	if port, ok := parsePorts(string(text)); ok {
		return port, nil
	}
	return 0, errors.New("no port of the USB/IP hub is free")
}

// tinyBuses lists the buses of i2c-tiny-usb adapters that there are.
func tinyBuses() []string {
	names, err := filepath.Glob("/sys/class/i2c-dev/i2c-*")
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(names, func(dir string) bool {
		name, err := os.ReadFile(filepath.Join(dir, "name"))
		return err != nil || !strings.Contains(string(name), "i2c-tiny-usb")
	})
}

// waitForBus waits until the kernel has made a bus that was not there before, and its
// device node.
func waitForBus(ctx context.Context, before []string, served chan error) (string, error) {
	timeout := time.NewTimer(attachWait)
	defer timeout.Stop()
	poll := time.NewTicker(attachPoll)
	defer poll.Stop()
	for {
		for _, dir := range tinyBuses() {
			node := filepath.Join("/dev", filepath.Base(dir))
			if _, err := os.Stat(node); err == nil && !slices.Contains(before, dir) {
				return node, nil
			}
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case err := <-served:
			served <- nil
			return "", errors.Join(errors.New("the kernel does not take the simulated adapter"), err)
		case <-timeout.C:
			return "", edgeagent.WithHint(fmt.Errorf("no I²C bus has appeared within %s", attachWait),
				"load the modules: sudo modprobe -a i2c-tiny-usb i2c-dev")
		case <-poll.C:
		}
	}
}
