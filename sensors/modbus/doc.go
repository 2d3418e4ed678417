// Package modbus will hold the client for Modbus TCP and RTU; it is empty in this
// release.
package modbus
