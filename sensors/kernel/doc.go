// Package kernel reads what Linux already measures: files under /sys and /proc.
//
// The drivers are thermal, hwmon, iio and w1 for sensors that a kernel driver
// serves, and load, memory, disk and network for the machine itself. Values are
// converted to SI at this edge (°C, Pa, V, A, W, %), in decimal, so that 21500 m°C
// is 21.5 and not 21.500000000000004. A file that cannot be read, that reads as
// nothing, or that says that its sensor is at fault is an error for that channel,
// never 0; the other channels of the sensor go on.
//
// Everything is looked up below Env.Root, which tests point at a tree of their own.
// Files stay open between samples, and a sample allocates nothing. They are read
// with plain system calls: a hwmon driver that answers EAGAIN would park Go's own
// file reading for ever. A read may still block in the kernel (a DS18B20 converts
// for up to 750 ms, and disk asks a file system that may be on a network); the
// scheduler's deadline covers that. A source is used by one goroutine.
//
// On other systems than Linux the drivers build, and find nothing.
package kernel
