package api

import "github.com/edgeagent/edgeagent"

// statusMetrics is the list of all families that are made from a Status, as they
// stand in docs/reference/metrics.md. Names are never reused with another meaning.
func statusMetrics() []metric {
	var all []metric
	all = append(all, agentMetrics()...)
	all = append(all, sensorMetrics()...)
	all = append(all, bufferMetrics()...)
	all = append(all, uplinkMetrics()...)
	return append(all, ruleMetrics()...)
}

func agentMetrics() []metric {
	return []metric{
		{"edgeagent_info", "gauge", "always 1; the labels say which agent this is", []string{"version", "tenant", "device", "run"}, func(s *Status, emit emitFunc) {
			emit(1, s.Version, s.Tenant, s.Device, s.Run.String())
		}},
		one("edgeagent_health_level", "gauge", "0 ok, 1 degraded, 2 failed", func(s *Status) float64 { return float64(s.Health.Level) }),
		one("edgeagent_warnings", "gauge", "reasons for not being healthy", func(s *Status) float64 { return float64(len(s.Health.Warnings)) }),
		one("edgeagent_uptime_seconds", "gauge", "run time of this run, suspend included", func(s *Status) float64 { return float64(s.Uptime) }),
		one("edgeagent_clock_synced", "gauge", "1 while the wall time is trusted", func(s *Status) float64 { return oneIf(s.Clock.Synced) }),
	}
}

func sensorMetrics() []metric {
	return []metric{
		perSensor("edgeagent_sensor_health_level", "gauge", "0 ok, 1 degraded, 2 failed", func(x Sensor) float64 { return float64(x.Health.Level) }),
		perSensor("edgeagent_sensor_samples_total", "counter", "samples completed, failed ones included", func(x Sensor) float64 { return float64(x.Samples) }),
		perSensor("edgeagent_sensor_readings_total", "counter", "readings taken", func(x Sensor) float64 { return float64(x.Readings) }),
		perSensor("edgeagent_sensor_errors_total", "counter", "samples and opens that failed", func(x Sensor) float64 { return float64(x.Errors) }),
		perSensor("edgeagent_sensor_missed_total", "counter", "samples that were due and not begun", func(x Sensor) float64 { return float64(x.Missed) }),
		{"edgeagent_sensor_last_sample_timestamp_seconds", "gauge", "wall time of the last sample; absent before the first", []string{"sensor"}, func(s *Status, emit emitFunc) {
			for _, x := range s.Sensors {
				if !x.LastSample.IsZero() {
					emit(unix(x.LastSample), x.Name)
				}
			}
		}},
	}
}

func bufferMetrics() []metric {
	return []metric{
		one("edgeagent_buffer_health_level", "gauge", "0 ok, 1 degraded, 2 failed", func(s *Status) float64 { return float64(s.Buffer.Health.Level) }),
		one("edgeagent_buffer_bytes", "gauge", "bytes on disk", func(s *Status) float64 { return float64(s.Buffer.Bytes) }),
		one("edgeagent_buffer_max_bytes", "gauge", "byte budget (buffer.max_bytes)", func(s *Status) float64 { return float64(s.Buffer.MaxBytes) }),
		one("edgeagent_buffer_pressure", "gauge", "0 empty to 1 full", func(s *Status) float64 { return float64(s.Buffer.Pressure) }),
		present("edgeagent_buffer_fill_seconds", "gauge", "time until the budget is used up at the present rate; absent while not filling", func(s *Status) (float64, bool) {
			return float64(s.Buffer.FillIn), s.Buffer.FillIn > 0
		}),
		present("edgeagent_buffer_oldest_timestamp_seconds", "gauge", "wall time of the oldest record held; absent while empty", func(s *Status) (float64, bool) {
			return unix(s.Buffer.Oldest), !s.Buffer.Oldest.IsZero()
		}),
		perStream("edgeagent_buffer_records", "gauge", "records held", func(x Stream) float64 { return float64(x.Records) }),
		perStream("edgeagent_buffer_next_sequence", "gauge", "number that the next record gets", func(x Stream) float64 { return float64(x.Next) }),
		one("edgeagent_buffer_appended_records_total", "counter", "records appended", func(s *Status) float64 { return float64(s.Buffer.Appended) }),
		one("edgeagent_buffer_pending_records", "gauge", "records that no segment holds yet", func(s *Status) float64 { return float64(s.Buffer.Pending) }),
		one("edgeagent_buffer_head_used_bytes", "gauge", "bytes of the head file that is written to", func(s *Status) float64 { return float64(s.Buffer.HeadUsed) }),
		one("edgeagent_buffer_head_size_bytes", "gauge", "size of each of the two head files", func(s *Status) float64 { return float64(s.Buffer.HeadSize) }),
		one("edgeagent_buffer_memory_only", "gauge", "1 while the disk has failed and records are in memory only", func(s *Status) float64 {
			if s.Buffer.Memory {
				return 1
			}
			return 0
		}),
		one("edgeagent_buffer_forgotten_records_total", "counter", "records that memory had no room for since the disk failed", func(s *Status) float64 { return float64(s.Buffer.Forgotten) }),
		one("edgeagent_buffer_commits_total", "counter", "commits", func(s *Status) float64 { return float64(s.Buffer.Commits) }),
		one("edgeagent_buffer_fsyncs_total", "counter", "fsync and fdatasync calls", func(s *Status) float64 { return float64(s.Buffer.Fsyncs) }),
		one("edgeagent_buffer_evicted_records_total", "counter", "unconfirmed records given up, at most", func(s *Status) float64 { return float64(s.Buffer.Evicted) }),
		one("edgeagent_buffer_rolled_up_records_total", "counter", "unconfirmed readings that gave way to rollups of them", func(s *Status) float64 { return float64(s.Buffer.RolledUp) }),
		one("edgeagent_buffer_gaps", "gauge", "ranges in the ledger that can no longer be delivered", func(s *Status) float64 { return float64(s.Buffer.Gaps) }),
		one("edgeagent_buffer_gap_records", "gauge", "records in those ranges, at most", func(s *Status) float64 { return float64(s.Buffer.GapRecords) }),
		one("edgeagent_buffer_segments", "gauge", "segment files", func(s *Status) float64 { return float64(s.Buffer.Segments) }),
		one("edgeagent_buffer_series", "gauge", "series of the newest epoch", func(s *Status) float64 { return float64(s.Buffer.Series) }),
	}
}

func uplinkMetrics() []metric {
	return []metric{
		perUplink("edgeagent_uplink_up", "gauge", "1 while a session is up", func(u Uplink) float64 { return oneIf(u.State == UplinkUp) }),
		perUplink("edgeagent_uplink_health_level", "gauge", "0 ok, 1 degraded, 2 failed", func(u Uplink) float64 { return float64(u.Health.Level) }),
		perUplink("edgeagent_uplink_connects_total", "counter", "sessions that came up", func(u Uplink) float64 { return float64(u.Connects) }),
		perUplink("edgeagent_uplink_retry_seconds", "gauge", "time until the next attempt, 0 while none is planned", func(u Uplink) float64 { return float64(u.RetryIn) }),
		perUplink("edgeagent_uplink_messages_sent_total", "counter", "messages handed to the link", func(u Uplink) float64 { return float64(u.Messages) }),
		perUplink("edgeagent_uplink_bytes_sent_total", "counter", "bytes of payload handed to the link", func(u Uplink) float64 { return float64(u.Bytes) }),
		perUplink("edgeagent_uplink_records_sent_total", "counter", "records handed to the link, resent ones again", func(u Uplink) float64 { return float64(u.Sent) }),
		perUplink("edgeagent_uplink_records_accepted_total", "counter", "records that the transport acknowledged", func(u Uplink) float64 { return float64(u.Accepted) }),
		perUplink("edgeagent_uplink_records_confirmed_total", "counter", "records confirmed at the destination's ack level", func(u Uplink) float64 { return float64(u.Confirmed) }),
		perUplink("edgeagent_uplink_records_resent_total", "counter", "records sent more than once", func(u Uplink) float64 { return float64(u.Resent) }),
		perUplink("edgeagent_uplink_records_moved_total", "counter", "records that got new numbers because the buffer was put back", func(u Uplink) float64 { return float64(u.Moved) }),
		perUplink("edgeagent_uplink_dead_letters_total", "counter", "records given up because they are refused for ever", func(u Uplink) float64 { return float64(u.DeadLetters) }),
		perUplink("edgeagent_uplink_replays_total", "counter", "requests of the receiver for what it has lost", func(u Uplink) float64 { return float64(u.Replays) }),
		perUplink("edgeagent_uplink_in_flight_messages", "gauge", "messages sent and not yet acknowledged", func(u Uplink) float64 { return float64(u.InFlight) }),
		perUplink("edgeagent_uplink_accepted_unconfirmed_records", "gauge", "records accepted and waiting for the receiver's word", func(u Uplink) float64 { return float64(u.Waiting) }),
		{"edgeagent_uplink_backlog_records", "gauge", "records held and not confirmed", []string{"destination", "stream"}, func(s *Status, emit emitFunc) {
			for _, u := range s.Uplinks {
				for _, id := range edgeagent.Streams() {
					if n, ok := u.ByStream[id]; ok {
						emit(float64(n), u.Name, id.String())
					}
				}
			}
		}},
		{"edgeagent_uplink_last_ack_timestamp_seconds", "gauge", "wall time of the last confirmation; absent before the first", []string{"destination"}, func(s *Status, emit emitFunc) {
			for _, u := range s.Uplinks {
				if !u.LastAck.IsZero() {
					emit(unix(u.LastAck), u.Name)
				}
			}
		}},
	}
}

func ruleMetrics() []metric {
	return []metric{
		one("edgeagent_rules_loaded", "gauge", "rules of all files", func(s *Status) float64 { return float64(s.Rules.Loaded) }),
		one("edgeagent_rules_firing", "gauge", "instances that fire", func(s *Status) float64 { return float64(s.Rules.Firing) }),
		one("edgeagent_rules_evaluations_total", "counter", "evaluations", func(s *Status) float64 { return float64(s.Rules.Evaluated) }),
		{"edgeagent_rule_firing", "gauge", "1 while the alarm of the instance is raised", []string{"rule", "instance", "severity"}, func(s *Status, emit emitFunc) {
			for _, r := range s.Rules.Instances {
				emit(oneIf(r.raised()), r.ID, r.Instance, r.Severity.String())
			}
		}},
	}
}
