// Package clock is where the agent's time comes from.
//
// A [Clock] has two hands: wall time, which may be wrong and may be stepped, and
// run time, which starts at zero with the process, never goes back and counts
// suspend. Everything that decides (rules, timers, back-off) uses run time; wall
// time only labels readings.
//
// This is not a mock: tests of time run in testing/synctest, where [Go] is
// virtual. A Clock is safe for concurrent use.
package clock
