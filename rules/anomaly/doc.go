// Package anomaly finds what is unusual in a series of readings: by checks of what is
// physically possible, and by statistics of what has been.
//
// A [Monitor] watches one series. From the sensor's [Facts] it knows the limits, the
// fastest change and the interval, and checks for readings outside the limits, changes
// that are too fast, a sensor that is missing or stuck, noise, and slow drift. Beside
// them works a [Detector], which needs no facts. It gives two outputs, because they
// answer two questions: a score, how unusual the series is now, and an alert, which
// comes once when an event begins. Both name the [Reason] that spoke loudest.
//
// # How the detector works
//
// Each reading is compared with the slow robust level of the series, with the reading
// before, with the usual volatility, with the half hour of the day and the hour of the
// week, and with all that was seen (records). Each such evidence is turned into
// surprise by the tail of its own history, so that nothing has to be told about the
// series and no constant depends on it; the loudest decide. Everything is O(1) a
// reading, allocates nothing, and takes about 2.6 KiB a series.
//
// It is invariant: a series in other units, with an offset, upside down, or shifted by
// whole weeks has the same alerts.
//
// # Guarantees
//
// The machines are pure: on one architecture the same readings give the same verdicts,
// byte for byte, without a clock of their own. NaN, infinities, and times that repeat or go back do
// no harm, now or later. A snapshot goes on to the bit where it was taken
// ([Monitor.AppendSnapshot]). Nothing is safe for concurrent use; a monitor belongs to
// the goroutine of its engine.
//
// # Limits
//
// A detector learns for a day, and for at least 100 readings, and does not alert
// meanwhile; what it says of the season takes two days, of the week two weeks. It
// takes as usual what it has seen: it finds what is new, not what is wrong. What a
// sensor did while it learned is not found, and a change so slow that each day looks
// like the one before is found by the drift check only, which learns for a week.
package anomaly
