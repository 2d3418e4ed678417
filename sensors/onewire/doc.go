// Package onewire will hold drivers for 1-Wire chips behind a bus master of our
// own, such as the DS2482; it is empty in this release. A DS18B20 on the kernel's
// bus is read by the driver w1 of sensors/kernel.
package onewire
