// Package sensortest is the suite that every source must pass.
//
// [Run] holds a source against what [sensors.Source] promises: readings are
// appended and what was in dst before is left alone, series keep their meaning,
// times are filled in, a cancelled context ends a call, closing twice is
// harmless, and no goroutine is left behind. Each check opens a source of its own
// in a testing/synctest bubble, where time is virtual and a goroutine that stays
// fails the test. The suite knows nothing about values; drivers test those
// themselves.
package sensortest
