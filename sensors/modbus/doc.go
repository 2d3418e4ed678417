// Package modbus reads meters, inverters and controllers over Modbus TCP and RTU.
//
// What is read is a list of registers, written out or taken from a preset: a YAML file,
// one of those that come with the program (sdm120, sdm630, em340, sunspec-103) or one of
// your own. The presets' addresses come from public documents that each file names; none
// was tried on the device itself.
//
// Registers that lie together are read in one request (100 at most by default; the
// protocol allows 125), others are not: many devices refuse a request that touches a
// register they do not have. A value in more than one register comes from one request,
// so that it is of one moment. A device that refuses a request loses only the values of
// that request.
//
// All sensors of one bus or host share a connection and take turns: one request at a
// time, each with a deadline of its own (request_timeout). After an error on the line
// the connection is closed, because a late answer of a serial bus cannot be told from
// the answer to the next question; after a connection that could not be opened, nobody
// tries for a second, then for up to a minute, and all sensors of that bus say so at
// once instead of waiting. A device that does not answer holds the others of its bus up
// by one request_timeout each time that its own back-off lets it try.
//
// Addresses count from 0, as on the wire: what documents call register 30001 or 40001 is
// address 0 of the input or holding registers. The function codes are 1 to 4; nothing is
// ever written. There is no end-to-end check in Modbus TCP but TCP's, in RTU a CRC-16.
//
// A source is used by one goroutine. The bus may be used by many.
package modbus
