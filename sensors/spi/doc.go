// Package spi will hold drivers for chips on an SPI bus, such as the MAX31855; it
// is empty in this release.
package spi
