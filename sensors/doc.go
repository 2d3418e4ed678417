// Package sensors turns hardware, kernels and files into readings.
//
// A [Source] is one configured sensor; each bus has a folder with its drivers. The
// [Scheduler] samples every source on its own interval, in its own goroutine,
// with a deadline: a source that hangs, fails or lies slows down nobody else. It
// is sampled with back-off until it recovers, and its health says so.
//
// Sources are not called concurrently with themselves. The scheduler is safe for
// concurrent use; its goroutines live in [Scheduler.Run] only.
package sensors
