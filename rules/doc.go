// Package rules turns readings into alarms.
//
// An [Engine] is compiled from rule files and is a pure state machine: readings
// and the time go in, alarm events come out, in the caller's goroutine, without a
// clock, a timer or a goroutine of its own. The same input gives the same output,
// byte for byte. It is not safe for concurrent use.
//
// # Time
//
// Everything is measured in run time (see [edgeagent.Instant]): wall time may
// step, and readings may come in any order of it; they count in the order of
// arrival. [Engine.Eval] first moves the timers up to the reading and then takes
// the reading; [Engine.Tick] moves the timers when no reading comes, and
// [Engine.NextTimer] says when that is needed. Ticks are exact: however late one
// comes, a "for" that ran out is dated at the moment when it did. Readings of one
// instant, one per series, are taken together, so that a rule over two metrics of
// a sensor never sees the new value of one beside the old value of the other.
//
// # Instances
//
// A rule without a star has one instance, named "-". A rule with stars gets an
// instance per text that a star stands for when the first series of that name
// brings a reading, at most [MaxInstances] in all; what is over is counted, and
// health says so. Inputs without a star are shared by all instances of the rule.
//
// # States
//
//	idle ──when──▶ pending ──for──▶ firing ──clear──▶ clearing ──clear_for──▶ idle
//	        ◀─not when─                     ◀─not clear─
//
// An input is unknown until its first reading, while its last reading is stale or
// bad (a suspect one counts), not a number, or older than it may be. A condition
// that is therefore unknown changes nothing: it neither fires nor clears, and
// "for" and "clear_for" stand still and keep the time they have.
//
// # Alarms
//
// Firing and clearing give one [edgeagent.Event] of kind alarm each, numbered 1,
// 2, with the id rule/instance/onset: onset is the run and the run time in
// milliseconds at which the condition became true. After a restart
// [Engine.Restore] takes the last alarm records: what fired goes on firing, is
// not raised again, and clears under the same id. A pending or clearing rule
// begins its time anew after a restart; an alarm whose rule is gone is cleared.
// A starred instance that is restored and whose series never come back stays
// firing: nothing proves that its reason is gone.
//
// # Limits
//
// This release knows thresholds with hysteresis and time: conditions over the
// last values, "for", "clear", "clear_for", and alarms. Windows, detectors,
// outputs, cooldown, escalation, shaping and a journal of pending times are not
// in it.
package rules
