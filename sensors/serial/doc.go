// Package serial reads devices that speak in lines over a serial port. The driver gps
// reads receivers of satellite navigation that speak NMEA 0183, which nearly all do.
//
// It takes the sentences RMC and GGA of any system (GP, GN, GL, GA …) with a right
// checksum, puts those of one moment together, and gives position, altitude, speed,
// course, satellites and dilution. Without a fix it gives the state of the fix and the
// satellites, and no position: a receiver that has none says 0, its last or nothing, and
// none of these is where it is. A fix that is estimated, entered by hand or simulated has
// the quality suspect. The resolution of the numbers is the receiver's, some centimetres;
// the accuracy is some metres at best, which hdop times the receiver's own error says.
//
// The receiver's time is not used, unless time: true is written: readings bear the time
// at which they came, which is a few tenths of a second behind.
//
// The port is opened anew, after 1 s and then longer, up to a minute, when it fails or is
// unplugged; name it by /dev/serial/by-id, so that it is found again. A port that says
// nothing, or nothing that makes sense, for five seconds is an error. Lines are at most
// 120 bytes; what is longer is passed over.
//
// A source is used by one goroutine and has none of its own.
package serial
