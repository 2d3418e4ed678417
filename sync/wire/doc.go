// Package wire writes batches in the formats that stock tools read: InfluxDB line
// protocol, JSON, one object a line, and SenML. The compact block is not here: the
// buffer makes it, and the uplink sends it as it is.
//
// # Line
//
//	<sensor>,device=<id>[,<tag>=<v> …] <metric>=<value>[,quality="…"] <ns>
//	<sensor>,device=<id>[,<tag>=<v> …] <metric>_count=<n>i,<metric>_sum=…,<metric>_min=…,<metric>_max=…,<metric>_first=…,<metric>_last=… <ns>
//	edge_event,device=<id>,kind=<kind>,sev=<sev> id="…",n=<n>i,text="…" <ns>
//
// The second line is a rollup: what is left of the readings of a minute (or of ten,
// or of an hour) that had to give way before they were delivered. Its time is that of
// the first of them. Tags are sorted by key. A value that is NaN or infinite has no form in line
// protocol and is left out; quality stands alone then, and is "bad" if the reading
// itself said good, because a line needs a field. Quality is a field, never a tag:
// a tag would make another series of a doubtful reading.
//
// Names are changed only where the format leaves no choice, and always in the same
// way: line ends and other control characters become a space, a "#" at the start of
// a measurement "_", a backslash that would stand before a delimiter "/". A tag
// without a value is left out. A tag named device or time is written as
// sensor_device or sensor_time, a metric named quality or time as quality_value or
// time_value, and an empty sensor name as "sensor". In the text of an event a line
// end is written as the two characters \n, because not every reader allows line
// ends inside quotes.
//
// # JSON
//
//	{"t":"2026-11-23T09:00:00.000Z","device":"gw","sensor":"boiler","metric":"temperature","unit":"Cel",
//	 "value":21.5,"q":"good","tags":{…},"epoch":"…","run":"…","stream":"telemetry","seq":17}
//	{"t":…,"device":…,"sensor":…,"metric":…,"unit":…,"count":60,"sum":…,"min":…,"max":…,"first":…,"last":…,"bucket_s":60,
//	 "q":"good","tags":{…},"epoch":…,"run":…,"stream":"rollup","seq":…}
//	{"t":…,"device":…,"kind":…,"sev":…,"id":…,"n":1,"series":…,"text":…,"attrs":{…},"epoch":…,"run":…,"stream":…,"seq":…}
//
// Times are UTC, cut to milliseconds. A value that is NaN or infinite is null. Bytes
// that are not UTF-8 become U+FFFD. tags stands only when there are any, and so does
// data of an event: in base64, as blocks.
//
// # SenML
//
// RFC 8428, one array a batch, as JSON and as CBOR. The base name is the device and
// "/", the base time a whole second; n is <sensor>/<metric> with every character
// that SenML forbids as "_", and u the unit as the driver says it:
//
//	[{"bn":"gw-17/","bt":1795608000,"n":"boiler/temperature","u":"Cel","t":0.123,"v":21.5}, …]
//
// An event is a string value (vs, its text) under the name of its series, or
// event/<kind>; a rollup is six records, <metric>_count and so on. What SenML has no
// words for stands in fields that its readers skip: quality unless it is good (and
// "bad" where a good reading has no value that SenML could hold), tags,
// bucket_s of a rollup, kind, sev, id, transition and attrs of an event. Times before
// July 1978, of clocks that were never set, would be taken as relative to now (RFC
// 8428 section 4.5.3); they are left out. There is no identity in the payload.
//
// # Compressed
//
// [Compress] packs each batch by itself, as gzip (RFC 1952) or as an LZ4 frame, both
// with a checksum. There is no line end after the last line inside.
//
// # All
//
// In a batch that was taken while the clock could not be trusted, quality is
// "unsynced" where the reading itself says good; rollups leave bad readings out and
// are good. A sum beyond what a float64 holds is left out of a line and is null in
// JSON. Numbers are the shortest decimals that give back the same float64.
//
// The data of an event, which of a capture are blocks of readings, is in JSON only:
// lines and SenML say that there is a capture, and how large, in its text.
//
// Lines and JSON can be stopped where a message is full ([Partial]); the others are begun
// again with fewer records.
//
// An encoder keeps the constant part of every series it has seen, at most 10,000 of
// them and 4 MiB, and allocates nothing in steady state. Encoders are not safe for
// concurrent use: one per destination.
package wire
