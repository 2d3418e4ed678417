package i2c

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// withErrno gives err back the error number that periph's wrapping has made text
// of, so that errors.Is finds it.
func withErrno(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return err
	}
	text := err.Error()
	for _, n := range errnos() {
		if before, ok := strings.CutSuffix(text, n.Error()); ok {
			return fmt.Errorf("%s%w", before, n)
		}
	}
	return err
}

func isErrno(err error, any ...syscall.Errno) bool {
	for _, n := range any {
		if errors.Is(err, n) {
			return true
		}
	}
	return false
}

// hintFor says what to do about an error of the bus, or "".
func hintFor(err error) string {
	switch {
	case isNobody(err):
		return "check the wiring, and the keys bus and address of this sensor; i2cdetect -y BUS shows who answers"
	case errors.Is(err, syscall.EBUSY):
		return "a driver of the kernel holds the address: free it, or read it with driver: hwmon or iio"
	case errors.Is(err, errBusHeld):
		return "a chip holds the bus: take the others off one by one, or switch their power off and on"
	case errors.Is(err, errSilent), errors.Is(err, errPolling):
		return "the chip does not drive the bus: check its power and the data line"
	case errors.Is(err, errChecksum):
		return "the wires are too long, the pull-ups too weak or the bus too fast: 10 kHz and 2.2 kΩ often help"
	case errors.Is(err, errOtherChip):
		return "another chip is at this address: check the keys driver and address of this sensor"
	}
	return "check the wiring, and the keys bus and address of this sensor"
}
