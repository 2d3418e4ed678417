// Package bus is a bench of simulated chips on an I²C bus, faithful to the
// register: the driver that reads a real BME280 reads these, unmodified, and has to
// undo the same calibration.
//
// A [Bus] holds chips at addresses. A [BME280] turns the air around it (an [Air])
// into raw ADC values by inverting Bosch's compensation formulas, takes as long over
// a measurement as the real one, and forgets its settings when its power goes.
// [Fault] makes a chip misbehave as wiring does: no answer, all ones, a bus that
// hangs. [Weather] and [Greenhouse] are air to measure: functions of elapsed time
// and a seed, the same in every run.
//
// A transaction takes as long as on a bus of 100 kHz, by time.Sleep, so that a
// driver that polls without end is a driver that time passes for, also in
// testing/synctest. Everything is safe for concurrent use. Chips do not share the
// bus's time: two transactions at once do not wait for each other. SPI, 1-Wire and
// GPIO are not simulated in this release.
package bus
