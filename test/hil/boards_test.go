//go:build hil && linux

package hil

import (
	"os"
	"strings"
	"testing"
	"time"
)

func virt() board {
	return board{
		name: "virt", qemu: "qemu-system-aarch64", arch: "arm64", kernel: "k-arm64", busybox: "bb-arm64",
		machine: []string{"-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "512", "-nic", "none", "-serial", "stdio"},
		append:  "console=ttyAMA0",
		modules: []string{
			"vhci-hcd", "i2c-tiny-usb", "i2c-dev", "bmp280-i2c", "tmp102", "lm75", "jc42", "sht3x", "sht4x",
			"bh1750", "ina2xx-adc", "ti-ads1015", "ds2482", "w1_therm",
		},
	}
}

// raspi3b: the first UART of its device tree belongs to Bluetooth, and swallows what
// comes in; the second one is the console.
func raspi3b() board {
	return board{
		name: "raspi3b", qemu: "qemu-system-aarch64", arch: "arm64", kernel: "k-arm64", busybox: "bb-arm64",
		dtb: "bcm2837-rpi-3-b.dtb",
		machine: append([]string{"-M", "raspi3b", "-serial", "null", "-serial", "stdio"},
			"-device", "tmp105,bus=i2c-bus.1,address=0x48,id=t48", "-device", "tmp105,bus=i2c-bus.1,address=0x49,id=t49"),
		append:  "console=ttyS1,115200 8250.nr_uarts=2",
		modules: []string{"i2c-bcm2835", "i2c-dev", "lm75"},
	}
}

// raspi0 and raspi2b: the kernel's power-domain driver does not stand QEMU's board.
//
// raspi0's kernel sets its timer to "now plus so many microseconds". If the emulator is
// kept waiting between the reading of the clock and the writing of the timer, that moment is
// over and the timer next fires when 32 bits of microseconds have come round: the guest
// sleeps for an hour. With -icount its clock counts instructions and stands while it waits.
func raspi0() board {
	return board{
		name: "raspi0", qemu: "qemu-system-arm", arch: "arm", arm: "6", kernel: "k-rpi", busybox: "bb-armel",
		dtb:     "bcm2835-rpi-zero.dtb",
		machine: []string{"-M", "raspi0", "-icount", "shift=2", "-serial", "stdio", "-device", "tmp105,bus=i2c-bus.1,address=0x48,id=t48"},
		append:  "console=ttyAMA0,115200 initcall_blacklist=bcm2835_power_driver_init",
		modules: []string{"i2c-dev", "tmp102"},
	}
}

func raspi2b() board {
	return board{
		name: "raspi2b", qemu: "qemu-system-arm", arch: "arm", arm: "7", kernel: "k-armmp", busybox: "bb-armhf",
		dtb:     "bcm2836-rpi-2-b.dtb",
		machine: []string{"-M", "raspi2b", "-serial", "stdio", "-device", "tmp105,bus=i2c-bus.1,address=0x48,id=t48", "-device", "tmp105,bus=i2c-bus.1,address=0x49,id=t49"},
		append:  "console=ttyAMA0,115200 initcall_blacklist=bcm2835_power_driver_init",
		modules: []string{"i2c-bcm2835", "i2c-dev", "lm75"},
	}
}

// TestVirt: our drivers and the kernel's read the same from the same chips, behind a
// kernel's adapter; a chip that is pulled out and put back hurts nobody else.
func TestVirt(t *testing.T) {
	m := boot(t, virt())
	m.sh("modprobe vhci-hcd && modprobe i2c-tiny-usb && modprobe i2c-dev")
	m.sh("mkfifo /run/bench && { edgeagent sim bus </run/bench >/run/bench.out 2>&1 & } && exec 3>/run/bench")
	m.sh("n=0; while ! grep -q measured /run/bench.out && [ $n -lt 500 ]; do sleep 0.2; n=$((n+1)); done; cat /run/bench.out; test -c /dev/i2c-0")

	t.Run("scan", func(t *testing.T) {
		m := m.in(t)
		out := m.sh("edgeagent sensors scan")
		for _, want := range []string{"0x76  could be bmxx80", "0x44  could be sht4x, sht3x", "{name: mcp9808-0-1c, driver: mcp9808, bus: 0, address: 0x1c}"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
		out = m.sh("edgeagent sensors scan --identify")
		for _, want := range []string{"0x76  BME280", "0x77  BMP280", "0x1c  MCP9808", "0x40  INA219", "0x62  SCD4x", "gpiochip0"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
		m.sh("{ echo version: 1; edgeagent sensors scan | sed -n '/^sensors:/,$p'; } >/tmp/found.yaml && edgeagent config check /tmp/found.yaml")
		if out := m.sh("edgeagent sensors read bmxx80-0-76 -c /tmp/found.yaml"); !strings.Contains(out, "21.5") {
			t.Errorf("read:\n%s", out)
		}
		if out, code := m.try("edgeagent doctor -c /etc/edgeagent/chips.yaml --offline"); code != 3 || !strings.Contains(out, "/dev/i2c-0 is there") {
			t.Errorf("doctor, exit %d:\n%s", code, out)
		}
	})

	// Our drivers.
	stop := m.agent("chips.yaml")
	room := func(m *machine, celsius, percent, volts, amps, lux float64) {
		for _, name := range []string{"bme280", "sht3x", "sht4x", "aht20"} {
			m.reads(name+"/temperature", celsius, 0.02)
			m.reads(name+"/humidity", percent, 0.05)
		}
		for _, name := range []string{"bmp280", "tmp102", "lm75", "mcp9808"} {
			m.reads(name+"/temperature", celsius, 0.07)
		}
		m.reads("bme280/pressure", 101325, 2)
		m.reads("bh1750/illuminance", lux, 1)
		m.reads("ina219/voltage", volts, 0.005)
		m.reads("ina219/current", amps, 0.001)
		m.reads("ads1115/a1", volts/12, 0.001)
		m.reads("ads1115/a2_a3", -volts/12, 0.001)
	}
	t.Run("our drivers", func(t *testing.T) {
		m := m.in(t)
		room(m, 21.5, 48, 12, 0.4, 210)
		m.reads("scd4x/co2", 640, 1)
		for _, c := range []string{"celsius 30.25", "percent 61", "volts 6", "amps -0.25", "lux 900"} {
			m.bench("set %s", c)
		}
		room(m, 30.25, 61, 6, -0.25, 900)
	})
	t.Run("pulled and plugged", func(t *testing.T) {
		m := m.in(t)
		m.bench("fault 0x76 unplugged")
		m.quality("bme280/temperature", "stale")
		m.reads("bmp280/temperature", 30.25, 0.07) // the others go on
		if out, code := m.try("edgeagent status"); code != 3 || !strings.Contains(out, "bme280") {
			t.Errorf("status, exit %d:\n%s", code, out)
		}
		m.bench("fault 0x76 none")
		m.reads("bme280/temperature", 30.25, 0.02)
	})
	stop()

	t.Run("lines", func(t *testing.T) {
		m := m.in(t)
		m.line(2, false)
		m.line(3, false)
		stop := m.agent("gpio.yaml")
		m.reads("door/state", 0, 0)
		m.line(2, true)
		m.reads("door/state", 1, 0)
		for n := range 5 {
			m.line(3, true)
			m.line(3, false)
			m.reads("meter/count", float64(n+1), 0) // or the next pulse may come before the guest saw this one
		}
		m.output("edgeagent", "lo")
		m.bench("set celsius 84")
		m.event("kind=alarm", "overheat", "boiler at 84 Cel")
		m.output("edgeagent", "hi")
		m.bench("set celsius 30.25")
		m.event("kind=alarm", "overheat", "n=2i")
		m.output("edgeagent", "lo")
		stop()
	})
	t.Run("the kernel's drivers", func(t *testing.T) {
		m := m.in(t)
		m.sh("for d in bmp280-i2c tmp102 lm75 jc42 sht3x sht4x bh1750 ina2xx-adc ti-ads1015 w1_therm ds2482; do modprobe $d || exit 1; done")
		for _, c := range []string{
			"bme280 0x76", "tmp102 0x49", "tmp105 0x4b", "sht3x 0x45", "sht4x 0x44", // jc42 finds the MCP9808 by itself
			"bh1750 0x23", "ina219 0x40", "ads1115 0x48", "ds2482 0x18",
		} {
			m.sh("echo %s >/sys/bus/i2c/devices/i2c-0/new_device", c)
		}
		m.sh("n=0; while ! [ -e /sys/bus/w1/devices/28-060504030201/temperature ] && [ $n -lt 500 ]; do sleep 0.3; n=$((n+1)); done; ls /sys/bus/w1/devices /sys/class/hwmon /sys/bus/iio/devices")
		stop := m.agent("kernel.yaml")
		m.reads("bme280/temperature", 30.25, 0.02)
		m.reads("bme280/humidity", 61, 0.05)
		m.reads("bme280/pressure", 101325, 2)
		m.reads("tmp102/temp1", 30.25, 0.07)
		m.reads("lm75/temp1", 30.25, 0.07)
		m.reads("mcp9808/temp1", 30.25, 0.07)
		m.reads("sht3x/temp1", 30.25, 0.02)
		m.reads("sht3x/humidity1", 61, 0.05)
		m.reads("sht4x/temp1", 30.25, 0.02)
		m.reads("sht4x/humidity1", 61, 0.05)
		m.reads("bh1750/illuminance", 900, 2)
		m.reads("ina219/voltage1", 6, 0.01)
		m.reads("ads1115/voltage1", 0.5, 0.002)
		m.reads("ds18b20/temperature", 30.25, 0.07)
		stop()
	})
	t.Run("an address that the kernel holds", func(t *testing.T) {
		m := m.in(t)
		stop := m.agent("chips.yaml")
		m.wait("refusal", 20*time.Second, func() bool {
			return strings.Contains(strings.Join(m.console, "\n"), "address 0x76 on bus 0 is held by the kernel's driver bmp280")
		})
		m.reads("bmp280/temperature", 30.25, 0.07)
		stop()
	})
}

// hot sets a thermometer to 84 °C and waits for the alarm.
func hot(t *testing.T, b board) *machine {
	m := boot(t, b)
	m.sh("for d in i2c-bcm2835 i2c-dev; do modprobe $d; done; n=0; while ! [ -c /dev/i2c-1 ] && [ $n -lt 500 ]; do sleep 0.2; n=$((n+1)); done; ls /dev/i2c-*")
	m.celsius("t48", 21.5)
	stop := m.agent("raspi.yaml")
	m.reads("boiler/temperature", 21.5, 0.001)
	m.celsius("t48", -5.5)
	m.reads("boiler/temperature", -5.5, 0.001)
	m.celsius("t48", 84)
	m.reads("boiler/temperature", 84, 0.001)
	m.event("kind=alarm", "sev=critical", "overheat", "boiler at 84 Cel")
	m.output("edgeagent", "hi")
	m.celsius("t48", 60)
	m.event("kind=alarm", "overheat", "n=2i")
	m.output("edgeagent", "lo")
	stop()
	return m
}

func TestRaspi0(t *testing.T) {
	m := hot(t, raspi0())
	if out := m.sh("uname -m"); out != "armv6l" {
		t.Errorf("machine is %s, want armv6l", out)
	}
}

func TestRaspi3b(t *testing.T) { withKernel(t, hot(t, raspi3b())) }

func TestRaspi2b(t *testing.T) {
	if os.Getenv("HIL_SOAK") == "" {
		t.Skip("HIL_SOAK=1 runs it")
	}
	withKernel(t, hot(t, raspi2b()))
}

// withKernel has the kernel's driver read a second thermometer of the same kind.
func withKernel(t *testing.T, m *machine) {
	m.celsius("t49", 33.5)
	m.sh("modprobe lm75 && echo tmp105 0x49 >/sys/bus/i2c/devices/i2c-1/new_device; n=0; while ! [ -e /sys/bus/i2c/devices/1-0049/hwmon ] && [ $n -lt 500 ]; do sleep 0.1; n=$((n+1)); done")
	hwmon := strings.TrimSpace(m.sh("cat /sys/bus/i2c/devices/1-0049/hwmon/hwmon*/temp1_input"))
	if hwmon != "33500" {
		t.Errorf("the kernel's driver reads %s m°C, want 33500", hwmon)
	}
	stop := m.agent("raspi-both.yaml")
	defer stop()
	m.reads("kernel/temp1", 33.5, 0.001)
	m.celsius("t48", 33.5)
	m.reads("boiler/temperature", 33.5, 0.001)
}
