// Package ruletest tries rules without an agent: against tests that people write
// beside their rules ([Run]), and against readings that were recorded
// ([Replay]).
//
// Time is that of the test or of the readings: nothing waits, nothing looks at a
// clock, and the same input gives the same output, byte for byte. The engine is
// the agent's own.
//
// In a test every series gets a value each step:
//
//	boiler/temp: "70x60 70+0.5x40 90!bad _x120"
//
// is 60 readings of 70, 40 that begin at 70 and rise by 0.5 each, one bad reading
// of 90, and 120 steps without one. Alarms bear run 0, so that their ids are the
// same in every run.
//
// Limits: 1,000,000 steps a test, 100,000 alarms kept of a replay (more are
// counted). Nothing here is safe for concurrent use.
package ruletest
