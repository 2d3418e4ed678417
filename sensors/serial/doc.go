// Package serial will hold drivers for devices that speak in lines or frames over
// a serial port; it is empty in this release.
package serial
