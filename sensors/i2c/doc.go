// Package i2c reads chips on an I²C bus through periph's drivers.
//
// The driver bmxx80 reads Bosch's BME280, BMP280 and BMP180: temperature, pressure
// and, on a BME280, humidity.
//
// periph's drivers trust the bus; this package does not. Every transaction passes a
// guard that ends with the sample's context and after a bounded number of
// transactions, because a driver that polls a status register polls for ever on a
// bus that reads 0xFF. The guard also keeps the bus's own error, which periph's
// wrapping loses. After a sample the chip is asked whether it still has its
// settings: one that lost power for an instant measures nonsense without any error,
// and is set up again instead. An address that a kernel driver holds is refused,
// which the kernel itself does not do.
//
// [OpenBus] opens Linux's /dev/i2c-N directly. periph's host.Init is never called:
// it opens every GPIO chip and maps /dev/mem, and a bus that appears after it is
// never found.
//
// A source is used by one goroutine. Only polled measurements are taken; continuous
// mode and Halt can dead-lock in periph v3.7.4.
package i2c
