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
// Firing, escalating and clearing give one [edgeagent.Event] of kind alarm each,
// numbered 1, 2, 3, with the id rule/instance/onset: onset is the run and the run time in
// milliseconds at which the condition became true. After a restart
// [Engine.Restore] takes the last alarm records: what fired goes on firing, is
// not raised again, and clears under the same id. Without a loaded state a pending
// or clearing rule begins its time anew; an alarm whose rule is gone is cleared.
// A starred instance that is restored and whose series never come back stays
// firing: nothing proves that its reason is gone.
//
// # Windows
//
// A window over time is a ring of 60 panes, or samples where a function needs
// them; one over a number of readings keeps these. Two rules that look at the same
// series in the same way share a window. Only readings that count enter it: good or
// suspect, and finite. What a window cannot tell yet is unknown: most functions
// want one reading, some two, "n=20" all 20; count, flat and fraction speak about
// the whole window and want it to have been watched.
//
// # Actions
//
// Alarms come out of Eval and Tick, everything else that rules do out of
// [Engine.Effects], after the alarms of the step are durable. Tags lower the
// quality of the readings handed to Eval. A [Shaper] decides what goes on to the
// buffer.
//
// # State
//
// [Engine.Snapshot] and [Engine.Journal] save, [Engine.Load] restores; a [Store]
// does both with files. An engine that loads what another saved goes on as if
// nothing had been. The time in between, where the clocks on both sides can be
// trusted, passes for windows, stale values and cooldown; what it does to "for"
// is the rule's on_gap; ages do not grow in it. After kill -9 the same holds: the
// journal says every second that a time is being measured, and windows, detectors,
// values and captures under way are filled from what is stored ([Engine.SetStored]);
// after a power cut, up to a minute of that may be missing. A rule whose inputs, conditions or
// durations were edited begins anew, alone.
//
// # Limits
//
// The shaper's state does not survive a restart, and readings that a shape did not
// pass on are gone with it. At most [MaxInstances] instances, [MaxEffects] effects not taken, and
// the memory of [Options].
package rules
