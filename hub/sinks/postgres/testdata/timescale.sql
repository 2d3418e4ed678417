CREATE SCHEMA IF NOT EXISTS "my ""schema""";
CREATE TABLE meta (version integer NOT NULL);
CREATE TABLE epochs (
		id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant text NOT NULL, device text NOT NULL, epoch text NOT NULL,
		ended boolean NOT NULL DEFAULT false, first_seen bigint NOT NULL,
		UNIQUE (tenant, device, epoch));
CREATE TABLE streams (
		epoch_id integer NOT NULL, stream smallint NOT NULL, version bigint NOT NULL, state text NOT NULL, gaps text NOT NULL,
		PRIMARY KEY (epoch_id, stream)) WITH (fillfactor = 50);
CREATE TABLE series (
		epoch_id integer NOT NULL, id integer NOT NULL, sensor text NOT NULL, metric text NOT NULL, name text NOT NULL,
		unit text NOT NULL, kind smallint NOT NULL, resolution smallint NOT NULL, tags jsonb NOT NULL, labels jsonb NOT NULL,
		PRIMARY KEY (epoch_id, id));
CREATE INDEX series_name ON series USING hash (name);
CREATE TABLE clock (
		epoch_id integer NOT NULL, run bigint NOT NULL, add_ns bigint NOT NULL, err_ns bigint NOT NULL,
		PRIMARY KEY (epoch_id, run));
CREATE TABLE pending (
		epoch_id integer NOT NULL, stream smallint NOT NULL, ranges text NOT NULL, add_ns bigint NOT NULL,
		unsynced boolean NOT NULL, received bigint NOT NULL, block bytea NOT NULL,
		PRIMARY KEY (epoch_id, stream));
CREATE TABLE quarantine (
		id bigint PRIMARY KEY, tenant text NOT NULL, device text NOT NULL, epoch text NOT NULL, cause text NOT NULL,
		stream smallint NOT NULL, first bigint NOT NULL, last bigint NOT NULL, run bigint NOT NULL,
		at bigint NOT NULL, bytes integer NOT NULL, block bytea NOT NULL);
CREATE INDEX quarantine_epoch ON quarantine (tenant, device, epoch) WHERE cause = 'series';
CREATE TABLE readings (
		time bigint NOT NULL, seq bigint NOT NULL, value double precision NOT NULL, run bigint,
		epoch_id integer NOT NULL, series integer NOT NULL, quality smallint NOT NULL);
CREATE INDEX readings_series ON readings (epoch_id, series, time);
CREATE INDEX readings_unsynced ON readings (epoch_id, run) WHERE run IS NOT NULL;
CREATE TABLE rollups (
		time bigint NOT NULL, seq bigint NOT NULL, count bigint NOT NULL, sum double precision NOT NULL,
		min double precision NOT NULL, max double precision NOT NULL, first double precision NOT NULL, last double precision NOT NULL,
		run bigint, epoch_id integer NOT NULL, series integer NOT NULL, bucket_s integer NOT NULL);
CREATE INDEX rollups_series ON rollups (epoch_id, series, time);
CREATE INDEX rollups_unsynced ON rollups (epoch_id, run) WHERE run IS NOT NULL;
CREATE TABLE events (
		time bigint NOT NULL, seq bigint NOT NULL, n bigint NOT NULL, run bigint, epoch_id integer NOT NULL,
		stream smallint NOT NULL, severity smallint NOT NULL, kind text NOT NULL, id text NOT NULL, series text NOT NULL,
		text text NOT NULL, attrs jsonb NOT NULL, data bytea, PRIMARY KEY (epoch_id, stream, seq));
CREATE INDEX events_time ON events (time);
CREATE INDEX events_unsynced ON events (epoch_id, run) WHERE run IS NOT NULL;
CREATE VIEW measurements AS
		SELECT e.tenant, e.device, s.sensor, s.metric, s.unit, s.tags, to_timestamp(r.time / 1e9) AS time, r.time AS time_ns, r.value,
			CASE WHEN r.quality = 0 AND r.run IS NOT NULL THEN 'unsynced'
				ELSE (ARRAY['good', 'suspect', 'stale', 'bad'])[r.quality + 1] END AS quality, e.epoch, r.seq
		FROM readings r JOIN series s ON s.epoch_id = r.epoch_id AND s.id = r.series JOIN epochs e ON e.id = r.epoch_id;
CREATE VIEW alarms AS
		SELECT DISTINCT ON (e.tenant, e.device, v.id, v.n) e.tenant, e.device, v.id, v.n, to_timestamp(v.time / 1e9) AS time, v.time AS time_ns,
			v.severity, v.series, v.text, v.attrs ->> 'state' AS state, v.attrs, e.epoch, v.seq
		FROM events v JOIN epochs e ON e.id = v.epoch_id WHERE v.stream = 1
		ORDER BY e.tenant, e.device, v.id, v.n, v.epoch_id DESC, v.seq DESC;
CREATE FUNCTION unix_now_ns() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT (extract(epoch FROM now()) * 1e9)::bigint';
SELECT create_hypertable('readings', by_range('time', 604800000000000::bigint), create_default_indexes => false);
SELECT set_integer_now_func('readings', 'unix_now_ns');
ALTER TABLE readings SET (timescaledb.compress, timescaledb.compress_segmentby = 'epoch_id, series', timescaledb.compress_orderby = 'time, seq');
SELECT add_compression_policy('readings', 2 * 604800000000000::bigint);
INSERT INTO meta (version) VALUES (1);
