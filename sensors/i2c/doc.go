// Package i2c reads chips on an I²C bus.
//
// There is a driver for each kind of chip: bmxx80 (BME280, BMP280, BMP180, through
// periph's driver), tmp102, lm75, mcp9808, aht20, sht3x, sht4x, scd4x, bh1750,
// ina219 and ads1x15. What each measures, how well, and how it knows that a value is
// the chip's own stands in its [sensors.Datasheet], from which the reference is
// written; docs/design/005-own-chip-drivers.md says why most are our own.
//
// A reading is right, doubtful, or not there. Beyond the chip's range it is bad;
// changed faster than the quantity can, it is suspect; and what the wire does is an
// error. Chips with a checksum are held to it. The others are asked for their
// settings after each value: these differ from those after power-on and from a bus
// that reads 0x00 or 0xFF, so that a chip that is gone, or was without power for an
// instant and shows the 0 °C that it starts with, is set up again and not believed.
// After the second failure in a row the last values are given once more, as stale.
//
// Every transaction passes a guard that ends with the sample's context and after a
// bounded number of transactions, because a driver that polls a status register
// polls for ever on a bus that reads 0xFF. The guard also gives errors back the
// number that periph's wrapping makes text of, so that errors.Is(err,
// syscall.ENXIO) works. Errors name the sensor, the chip, its address and the bus,
// and have a hint. An address that a driver of the kernel holds is refused, which
// the kernel itself does not do.
//
// [OpenBus] opens Linux's /dev/i2c-N directly. periph's host.Init is never called:
// it opens every GPIO chip and maps /dev/mem, and a bus that appears after it is
// never found. [Buses] shares an open bus: one transaction at a time, and one group
// of transactions with a chip at a time. When a transaction hangs in the kernel, the
// other sensors on that bus end with an error at their deadline; those on other
// buses notice nothing.
//
// A source is used by one goroutine. Sampling allocates nothing, but for bmxx80,
// where periph's driver does. Only polled measurements are taken; periph's
// continuous mode and Halt can dead-lock in v3.7.4. The speed of a bus is not set:
// it belongs to everybody on it.
package i2c
