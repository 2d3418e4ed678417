// Package gpio reads and drives the lines of GPIO chips through the kernel's
// character device (/dev/gpiochipN, version 2 of its interface, Linux 5.10).
//
// The driver gpio is an input in one of three modes: level gives the state of a
// line on every interval; edge gives each change as it happens, and the state on
// every interval; counter counts edges. The kernel numbers the edges of a line, also
// those that find its queue full, so a counter is exact at any interval, and costs
// nothing between samples. Its count is kept over a restart in Env.State; edges that
// come while the agent is down are not counted. It is written on every sample that
// finds a change, without a sync: kill -9 takes nothing, a power cut what the kernel
// had not written back, some 30 s, and the count then goes back.
//
// [Output] is an output for the rules: it is requested in its safe state, so that
// nothing twitches, set, and read back. All levels are logical: with active low,
// "high" is 0 V on the wire, everywhere.
//
// A line is held while it is open, and nobody else can open it. When the process
// ends, however it does, the kernel takes it back; what is on the wire then is up to
// the chip's driver: most leave the level as it is, some (bcm2835 since Linux 6.10,
// unless persist_gpio_outputs is set) make an input of it. So "edgeagent gpio safe"
// runs after the service has ended, also when it was killed.
//
// Lines are named by chip and offset ("gpiochip0" and 17, or gpiochip0:17) or by the
// name that the board gives them (GPIO17). The numbers of /sys/class/gpio are not
// stable and mean nothing here. Pulse protocols (DHT22, HX711) are not possible: time
// stamps come from the kernel's interrupt, but nothing is fast enough to answer.
//
// A source and an Output are used by one goroutine each. On other systems than
// Linux everything builds, and nothing can be opened.
package gpio
