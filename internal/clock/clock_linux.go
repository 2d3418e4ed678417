package clock

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// bootTime reads CLOCK_BOOTTIME, which counts suspend.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Since(processStart)
	}
	return time.Duration(ts.Nano())
}

// processStart is the fallback origin for kernels without CLOCK_BOOTTIME.
var processStart = time.Now()

// hardwareVouches: an RTC keeps time over power cuts, and a machine without a
// device tree (a PC, a virtual machine, a container) has one or a host with one.
func hardwareVouches() bool {
	if rtc, _ := filepath.Glob("/dev/rtc*"); len(rtc) > 0 {
		return true
	}
	_, err := os.Stat("/proc/device-tree")
	return os.IsNotExist(err)
}

// kernelSynced asks the kernel's NTP discipline: STA_UNSYNC is set until a time
// daemon has set the clock.
func kernelSynced() bool {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	return err == nil && state != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0
}
