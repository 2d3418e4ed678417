// Package replay plays a recorded file as if it were a sensor.
//
// The file is CSV, plain or gzipped, in one of two forms. With the header
// "time,value" it holds one series, which bears the sensor's name and the
// configured metric. With the header "time_ns,series,value" it holds many, which
// keep the names they have in the file ("hall/bme280/temperature" is the metric
// temperature of the sensor hall/bme280). Times are RFC 3339, "2006-01-02 15:04:05"
// (UTC), or whole seconds, milli-, micro- or nanoseconds since 1970.
//
// The pace is the recording's own, a multiple of it ("10x"), a rate ("1000/s") or
// as fast as the sink takes it ("max"). A rate is kept exactly in the long run:
// after t seconds of run time floor(rate × t) readings have been given, counted in
// integers, whatever the delays in between. Time stamps are now (when the reading
// was due, at most a second ago) or the recorded ones.
//
// The file is streamed; memory is bounded by one line (64 KiB), one batch (4,096
// readings) and 10,000 series. A line that cannot be read is an error with its
// number and costs nothing but itself; a file that breaks off is reported when its
// last whole line has been given. Each start plays from the top. A source is used
// by one goroutine.
package replay
