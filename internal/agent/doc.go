// Package agent puts the parts together: it is the only place where sensors,
// rules, the buffer and the cloud side meet.
//
// [New] builds an [Agent] from a configuration without touching the world;
// [Agent.Run] opens the buffer, starts the stages buffer → uplinks and API → rules
// → sensors, supervises them, and stops them in reverse, each stage with a
// deadline. A part that fails is restarted with jittered back-off and reported as
// degraded; only a buffer that cannot be opened ends Run, or one that was put back to
// an older state, which needs a start in order, see [Run]. Rules that panic cost
// the step that they were at, never a reading.
//
// The pipeline has no queue but one: alarms that the buffer refuses wait, at most
// 256, then the newest is dropped and counted. Alarms are appended before the
// readings that raised them. Stopping takes at most 19 seconds, 20 more where the
// disk hangs, and what Options.FlushOnStop allows.
//
// The seams that tests, the demo and the simulator replace are the fields of
// [Options]: clock, file system root, bus opener, dialer.
//
// An Agent is used for one Run. Status is safe for concurrent use at any time.
package agent
