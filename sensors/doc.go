// Package sensors turns hardware, kernels and files into readings.
//
// A [Source] is one configured sensor; each bus has a folder with its drivers. The
// [Scheduler] samples every source on its own interval, in its own goroutine,
// with a deadline: a source that hangs, fails, panics or lies slows down nobody
// else. It is sampled with back-off until it recovers, and its health says so.
//
// Every source is sampled once at the start, and then on ticks of run time that a
// hash of its name spreads. A tick that passes while a source is slow is counted as
// missed and not made up for. What was taken is handed to the [Sink] exactly once,
// also while the scheduler stops; the scheduler holds no queue, so a slow sink
// slows down the sources it is slow for.
//
// Sources are not called concurrently with themselves. The scheduler is safe for
// concurrent use; its goroutines live in [Scheduler.Run] only, but for a call into
// a driver that never returns: see there. Sources are fixed for the life of a
// scheduler; a change of the configuration makes a new one.
package sensors
