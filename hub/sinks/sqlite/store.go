package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	_ "modernc.org/sqlite" // the driver

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
)

// schemaVersion is kept in the file as its user_version.
const schemaVersion = 1

// applicationID marks the file as one of edgehub's: "edgH".
const applicationID = 0x65646748

// The tables. A reading's key begins with its series, so that the readings of one series
// lie together in order of time; seq makes it unique, since a source may give two
// readings the same time. run is set while a time is unsynced and not yet corrected.
var schema = []string{
	`CREATE TABLE epochs (
		id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, device TEXT NOT NULL, epoch TEXT NOT NULL,
		ended INTEGER NOT NULL DEFAULT 0, first_seen INTEGER NOT NULL,
		UNIQUE (tenant, device, epoch))`,
	`CREATE TABLE streams (
		epoch_id INTEGER NOT NULL, stream INTEGER NOT NULL, version INTEGER NOT NULL,
		state TEXT NOT NULL, gaps TEXT NOT NULL,
		PRIMARY KEY (epoch_id, stream)) WITHOUT ROWID`,
	`CREATE TABLE series (
		epoch_id INTEGER NOT NULL, id INTEGER NOT NULL, sensor TEXT NOT NULL, metric TEXT NOT NULL, name TEXT NOT NULL,
		unit TEXT NOT NULL, kind INTEGER NOT NULL, resolution INTEGER NOT NULL, tags TEXT NOT NULL, labels TEXT NOT NULL,
		PRIMARY KEY (epoch_id, id)) WITHOUT ROWID`,
	`CREATE INDEX series_name ON series (name)`,
	`CREATE TABLE clock (
		epoch_id INTEGER NOT NULL, run INTEGER NOT NULL, add_ns INTEGER NOT NULL, err_ns INTEGER NOT NULL,
		PRIMARY KEY (epoch_id, run)) WITHOUT ROWID`,
	`CREATE TABLE pending (
		epoch_id INTEGER NOT NULL, stream INTEGER NOT NULL, ranges TEXT NOT NULL, add_ns INTEGER NOT NULL,
		unsynced INTEGER NOT NULL, received INTEGER NOT NULL, block BLOB NOT NULL,
		PRIMARY KEY (epoch_id, stream))`,
	`CREATE TABLE quarantine (
		id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, device TEXT NOT NULL, epoch TEXT NOT NULL, cause TEXT NOT NULL,
		stream INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, run INTEGER NOT NULL,
		at INTEGER NOT NULL, bytes INTEGER NOT NULL, block BLOB NOT NULL)`,
	`CREATE INDEX quarantine_epoch ON quarantine (tenant, device, epoch) WHERE cause = 'series'`,
	`CREATE TABLE readings (
		epoch_id INTEGER NOT NULL, series INTEGER NOT NULL, time INTEGER NOT NULL, seq INTEGER NOT NULL,
		value REAL, quality INTEGER NOT NULL, run INTEGER,
		PRIMARY KEY (epoch_id, series, time, seq)) WITHOUT ROWID`,
	`CREATE INDEX readings_unsynced ON readings (epoch_id, run) WHERE run IS NOT NULL`,
	`CREATE TABLE rollups (
		epoch_id INTEGER NOT NULL, series INTEGER NOT NULL, time INTEGER NOT NULL, seq INTEGER NOT NULL,
		bucket_s INTEGER NOT NULL, count INTEGER NOT NULL, sum REAL, min REAL, max REAL, first REAL, last REAL, run INTEGER,
		PRIMARY KEY (epoch_id, series, time, seq)) WITHOUT ROWID`,
	`CREATE INDEX rollups_unsynced ON rollups (epoch_id, run) WHERE run IS NOT NULL`,
	`CREATE TABLE events (
		epoch_id INTEGER NOT NULL, stream INTEGER NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL,
		kind TEXT NOT NULL, severity INTEGER NOT NULL, id TEXT NOT NULL, n INTEGER NOT NULL, series TEXT NOT NULL,
		text TEXT NOT NULL, attrs TEXT NOT NULL, data BLOB, run INTEGER,
		PRIMARY KEY (epoch_id, stream, seq))`,
	`CREATE INDEX events_time ON events (time)`,
	`CREATE INDEX events_unsynced ON events (epoch_id, run) WHERE run IS NOT NULL`,
	// For people: one row a reading, with names; one row an alarm's transition, the
	// latest where an agent had to send it under a new number.
	`CREATE VIEW measurements AS
		SELECT e.tenant, e.device, s.sensor, s.metric, s.unit, s.tags, r.time AS time_ns,
			datetime(r.time / 1000000000, 'unixepoch') AS time, r.value,
			CASE WHEN r.quality = 0 AND r.run IS NOT NULL THEN 'unsynced'
				ELSE json_extract('["good","suspect","stale","bad"]', '$[' || r.quality || ']') END AS quality,
			e.epoch, r.seq
		FROM readings r JOIN series s ON s.epoch_id = r.epoch_id AND s.id = r.series JOIN epochs e ON e.id = r.epoch_id`,
	`CREATE VIEW alarms AS
		SELECT tenant, device, id, n, time_ns, datetime(time_ns / 1000000000, 'unixepoch') AS time,
			severity, series, text, json_extract(attrs, '$.state') AS state, attrs, epoch, seq
		FROM (SELECT e.tenant, e.device, v.id, v.n, v.time AS time_ns, v.severity, v.series, v.text, v.attrs, e.epoch, v.seq,
				row_number() OVER (PARTITION BY e.tenant, e.device, v.id, v.n ORDER BY v.epoch_id DESC, v.seq DESC) AS nth
			FROM events v JOIN epochs e ON e.id = v.epoch_id WHERE v.stream = 1)
		WHERE nth = 1`,
}

// Store is a file. Create one with [Open]. It is safe for concurrent use.
type Store struct {
	wdb *sql.DB // of w
	r   *sql.DB // connections that read

	mu   sync.Mutex           // guards what follows
	w    *sql.Conn            // the one that writes
	stmt map[string]*sql.Stmt // of w, by their text
	ids  map[hub.EpochID]int64
	rows []any // scratch
	perm []int32
}

var (
	_ hub.Store  = (*Store)(nil)
	_ hub.Reader = (*Store)(nil)
)

// Open opens the file at path, or makes it with its directory. Nothing else may write
// into it while it is open, but everything may read it.
func Open(ctx context.Context, path string) (*Store, error) {
	s, err := open(ctx, path)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("open %s: %w", path, err), "name another file with --sink sqlite:PATH")
	}
	return s, nil
}

func open(ctx context.Context, path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	s := &Store{ids: map[hub.EpochID]int64{}, stmt: map[string]*sql.Stmt{}}
	var err error
	// FULL: what is acknowledged outlives a power cut.
	s.wdb, err = connect(path, "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)", "_pragma=cache_size(-16384)")
	if err == nil {
		s.w, err = s.wdb.Conn(ctx)
	}
	if err == nil {
		err = s.migrate(ctx)
	}
	if err == nil {
		s.r, err = connect(path, "_pragma=query_only(1)")
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.r.SetMaxOpenConns(4)
	return s, nil
}

func connect(path string, options ...string) (*sql.DB, error) {
	options = append(options, "_pragma=busy_timeout(5000)")
	return sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+strings.Join(options, "&"))
}

// migrate makes the tables, or checks that they are ours.
func (s *Store) migrate(ctx context.Context) error {
	var version, application, tables int
	err := s.w.QueryRowContext(ctx, `SELECT (SELECT user_version FROM pragma_user_version),
		(SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)`).Scan(&version, &application, &tables)
	switch {
	case err != nil:
		return err
	case tables > 0 && application != applicationID:
		return errors.New("it is a database of something else")
	case version > schemaVersion:
		return fmt.Errorf("it is of version %d, written by a later edgehub; this one knows %d", version, schemaVersion)
	case version == schemaVersion:
		return nil
	}
	tx, err := s.w.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // fails once it is committed
	for _, q := range append(schema, fmt.Sprintf("PRAGMA user_version = %d", schemaVersion), fmt.Sprintf("PRAGMA application_id = %d", applicationID)) {
		if _, err := tx.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("make tables: %w", err)
		}
	}
	return tx.Commit()
}

// Close closes the file. What was committed is in it.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, st := range s.stmt {
		errs = append(errs, st.Close())
	}
	if s.r != nil {
		errs = append(errs, s.r.Close())
	}
	if s.w != nil { // last: it takes the log into the file
		errs = append(errs, s.w.Close())
	}
	if s.wdb != nil {
		errs = append(errs, s.wdb.Close())
	}
	return errors.Join(errs...)
}
