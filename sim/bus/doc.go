// Package bus is a bench of simulated chips on an I²C bus, faithful to the
// register: the driver that reads a real BME280 reads these, unmodified, and has to
// undo the same calibration.
//
// A [Bus] holds chips at addresses. A [BME280] turns the air around it (an [Air])
// into raw ADC values by inverting Bosch's compensation formulas, takes as long over
// a measurement as the real one, and forgets its settings when its power goes. So do
// the others, each as its data sheet has it: [TMP102], [LM75], [MCP9808], [AHT20],
// [SHT] (SHT3x and SHT4x), [SCD4x], [BH1750], [INA219], [ADS1x15]. Drivers that
// others wrote read from them what they measure: a test holds periph's against them.
//
// A [Fault] makes a chip misbehave as wiring does (no answer, all ones, all zeros,
// wrong bits, a clock that is held, a bus that hangs) or as a chip does that is
// broken (frozen, noisy, drifting). [Weather] and [Greenhouse] are air to measure:
// functions of elapsed time and a seed, the same in every run.
//
// A transaction takes as long as on a bus of 100 kHz, by time.Sleep, so that a
// driver that polls without end is a driver that time passes for, also in
// testing/synctest. Everything is safe for concurrent use. Chips do not share the
// bus's time: two transactions at once do not wait for each other. SPI, 1-Wire and
// GPIO are not simulated in this release.
package bus
