// Package hil runs the real program on real kernels: Debian's, booted by QEMU on the
// boards that it emulates. Nothing but the electricity is left out: the driver, the
// kernel's I²C adapter, the rules, the buffer, MQTT and a subscriber, which all run in
// the guest, while the test changes the hardware from outside.
//
// The rungs, from the fastest: user (the packages' own tests as arm64, armv7 and armv6
// programs, under qemu-user), virt (an arm64 machine without sensors of its own, which
// "edgeagent sim bus" gives an adapter full of simulated chips, read by our drivers and
// then by the kernel's; and GPIO lines that the test drives), raspi0 (a Pi Zero: ARMv6),
// raspi3b (a Pi 3: the BCM2835's own I²C controller, and thermometers of QEMU's whose
// temperature the test sets), and power cuts in the middle of a write, on a card that
// forgets what was not flushed. raspi2b (ARMv7) runs with HIL_SOAK=1, HIL_CUTS says how
// many cuts (2).
//
// "make test-hil" runs them. They need linux/amd64, Debian, and root or not; "get"
// unpacks QEMU and the kernels into a directory that is kept. The tests bear the build
// tag hil.
//
// A guest is a kernel and an initial RAM disk made here, with the program, a broker
// ([peer]), the modules that the test names, and a shell that does what it is told over
// the serial console. The host reads from there what the subscriber got.
//
// What no emulator shows: clock stretching, noise, long wires, the Pi 4 and 5, SPI.
//
// [peer]: https://pkg.go.dev/github.com/edgeagent/edgeagent/test/hil/peer
package hil
