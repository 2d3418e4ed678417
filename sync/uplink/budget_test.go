package uplink

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSchedule(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones on this machine:", err)
	}
	at := func(text string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04", text, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct {
		name, times string
		now         string
		open        bool
		until       string
	}{
		{"inside", "02:00-04:30", "2026-11-23 03:00", true, "2026-11-23 04:30"},
		{"at the begin", "02:00-04:30", "2026-11-23 02:00", true, "2026-11-23 04:30"},
		{"at the end", "02:00-04:30", "2026-11-23 04:30", false, "2026-11-24 02:00"},
		{"before", "02:00-04:30", "2026-11-23 01:59", false, "2026-11-23 02:00"},
		{"over midnight, evening", "22:00-02:00", "2026-11-23 23:00", true, "2026-11-24 02:00"},
		{"over midnight, morning", "22:00-02:00", "2026-11-23 01:00", true, "2026-11-23 02:00"},
		{"a Monday", "mon-fri 08:00-09:00", "2026-11-23 08:30", true, "2026-11-23 09:00"},
		{"after Friday", "mon-fri 08:00-09:00", "2026-11-27 10:00", false, "2026-11-30 08:00"},
		{"Friday's night is Saturday's morning", "fri 22:00-02:00", "2026-11-28 01:00", true, "2026-11-28 02:00"},
		{"Thursday's is not Friday's", "fri 22:00-02:00", "2026-11-27 01:00", false, "2026-11-27 22:00"},
		{"days over the end of the week", "sat-mon 08:00-09:00", "2026-11-22 08:30", true, "2026-11-22 09:00"},
		{"a list of days", "tue,thu 00:00-24:00", "2026-11-23 12:00", false, "2026-11-24 00:00"},
		{"clocks go back: 2:30 comes twice", "02:30-02:45", "2026-10-25 01:00", false, "2026-10-25 02:30"},
		{"clocks go forward: 2:30 does not come", "02:15-03:30", "2026-03-29 01:59", false, "2026-03-29 03:15"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSchedule(ConnectConfig{Times: []string{tt.times}, Timezone: "Europe/Berlin"})
			open, until := s.look(at(tt.now))
			if open != tt.open || !until.Equal(at(tt.until)) {
				t.Errorf("at %s: open %v until %s, want %v until %s", tt.now, open, until.In(berlin), tt.open, tt.until)
			}
		})
	}
}

// What look says of the time until something changes is true at each minute of it.
func TestScheduleModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		days := rapid.SampledFrom([]string{"", "mon ", "fri-mon ", "sat,wed "}).Draw(t, "days")
		clock := rapid.SampledFrom([]string{"00:00-24:00", "23:59-00:01", "06:00-05:00", "12:00-12:01"}).Draw(t, "clock")
		s := newSchedule(ConnectConfig{Times: []string{days + clock}, Timezone: "UTC"})
		now := time.Unix(1_795_000_000+rapid.Int64Range(0, 30*86400).Draw(t, "t"), 0)
		open, until := s.look(now)
		if !until.After(now) {
			t.Fatalf("until %v at %v", until, now)
		}
		for x := now; x.Before(until); x = x.Add(time.Minute) {
			if o, u := s.look(x); o != open || !u.Equal(until) && u.Sub(until) < 7*24*time.Hour {
				t.Fatalf("at %v: %v until %v, said at %v: %v until %v", x, o, u, now, open, until)
			}
		}
	})
}

func TestPeriod(t *testing.T) {
	for _, tt := range []struct {
		now      string
		day      int
		from, to string
	}{
		{"2026-11-23", 1, "2026-11-01", "2026-12-01"},
		{"2026-11-23", 24, "2026-10-24", "2026-11-24"},
		{"2026-11-24", 24, "2026-11-24", "2026-12-24"},
		{"2026-02-27", 31, "2026-01-31", "2026-02-28"},
		{"2026-02-28", 31, "2026-02-28", "2026-03-31"},
		{"2028-02-29", 30, "2028-02-29", "2028-03-30"},
		{"2026-12-31", 31, "2026-12-31", "2027-01-31"},
		{"2027-01-01", 15, "2026-12-15", "2027-01-15"},
	} {
		day := func(s string) time.Time {
			v, err := time.Parse(time.DateOnly, s)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		from, to := periodAt(day(tt.now), tt.day, time.UTC)
		if !from.Equal(day(tt.from)) || !to.Equal(day(tt.to)) {
			t.Errorf("%s, day %d: %s to %s, want %s to %s", tt.now, tt.day, from, to, tt.from, tt.to)
		}
	}
}

// Whatever is taken, no more flows in any time than the rate allows and the burst.
func TestBucketModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate, burst := float64(rapid.IntRange(1, 100_000).Draw(t, "rate")), float64(rapid.IntRange(1, 100_000).Draw(t, "burst"))
		b := newBucket(rate, burst)
		now, sent, largest := time.Duration(0), 0.0, 0
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			if at, wait := b.when(now, 0); wait {
				if at <= now {
					t.Fatalf("waits until %v at %v", at, now)
				}
				if !b.has(at, 0) {
					t.Fatalf("nothing there at %v, when there should be", at)
				}
				now = at
			}
			n := rapid.IntRange(1, 50_000).Draw(t, "n")
			b.take(now, n)
			sent, largest = sent+float64(n), max(largest, n)
			if most := burst + rate*now.Seconds() + float64(largest) + 2; sent > most {
				t.Fatalf("%.0f bytes by %v, at most %.0f", sent, now, most)
			}
			now += time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "d"))
		}
	})
}

func TestQuotaStages(t *testing.T) {
	q := newQuota(QuotaConfig{Limit: 1 << 20}.withDefaults())
	for _, tt := range []struct {
		percent float64
		lanes   [4]bool
		demand  bool
	}{
		{0, [4]bool{true, true, true, true}, false},
		{79.9, [4]bool{true, true, true, true}, false},
		{80.1, [4]bool{true, true, true, false}, false},
		{95.1, [4]bool{true, true, false, false}, true},
		{97.6, [4]bool{true, false, false, false}, true},
		{100, [4]bool{}, true},
		{500, [4]bool{}, true},
	} {
		q.used = int64(tt.percent / 100 * float64(q.Limit))
		if tt.percent == 100 {
			q.used = int64(q.Limit)
		}
		if lanes, demand := q.allows(); lanes != tt.lanes || demand != tt.demand {
			t.Errorf("at %v %%: %v, on demand %v, want %v, %v", tt.percent, lanes, demand, tt.lanes, tt.demand)
		}
	}
}

func TestQuotaMonths(t *testing.T) {
	day := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 12, 0, 0, 0, time.UTC) }
	q := newQuota(QuotaConfig{Limit: 1 << 20, Timezone: "UTC"}.withDefaults())
	q.used = 100
	q.month(day(2026, 11, 23)) // the clock is right for the first time
	if q.used != 100 || !q.to.Equal(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("used %d until %v", q.used, q.to)
	}
	q.month(day(2026, 12, 1))
	if q.used != 0 {
		t.Errorf("%d are used in a new month", q.used)
	}
	q.used = 500
	q.month(day(2026, 11, 30)) // the clock was a day ahead
	if q.used != 500 {
		t.Errorf("a clock that goes back gives the quota anew: %d", q.used)
	}
	q.month(day(2026, 12, 2))
	if q.used != 500 {
		t.Errorf("%d are used when the clock is back in its month", q.used)
	}
	q.month(day(2040, 1, 1))
	q.used = 700
	q.month(day(2026, 12, 3)) // it was years ahead
	if q.used != 700 || !q.to.Equal(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("used %d until %v after a clock that was years ahead", q.used, q.to)
	}
}

// paper is a memory that can fail.
type paper struct {
	data  []byte
	fail  error
	saves int
}

func (p *paper) Load() ([]byte, error) { return p.data, p.fail }

func (p *paper) Save(data []byte) error {
	if p.fail == nil {
		p.data = append([]byte(nil), data...)
		p.saves++
	}
	return p.fail
}

// A process that is killed finds, when it comes back, no less used than was used.
func TestQuotaOverCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		memory := &paper{}
		cfg := QuotaConfig{Limit: 1 << 20, Timezone: "UTC"}.withDefaults()
		wall := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		used, lives := int64(0), 0
		q := newQuota(cfg)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			q.month(wall)
			if q.due(0) {
				data, ceiling, err := q.data(false)
				if err != nil || memory.Save(data) != nil {
					t.Fatal("save")
				}
				q.saved, q.again = ceiling, false
			}
			n := rapid.Int64Range(0, 3000).Draw(t, "n")
			n = min(n, q.saved-q.used) // a message is sent after memory was told; the next step tells it again
			q.used += n
			used += n
			if rapid.IntRange(0, 9).Draw(t, "crash") == 0 {
				q = newQuota(cfg)
				if err := q.restore(memory.data); err != nil {
					t.Fatal(err)
				}
				lives++
			}
			if q.used < used {
				t.Fatalf("%d are used, it says %d", used, q.used)
			}
			if over := q.used - used; over > int64(lives)*q.margin() {
				t.Fatalf("%d are used, it says %d after %d crashes", used, q.used, lives)
			}
		}
	})
}

func TestQuotaStateThatIsDamaged(t *testing.T) {
	q := newQuota(QuotaConfig{Limit: 1 << 20}.withDefaults())
	if err := q.restore([]byte("{")); err == nil || q.used != 0 {
		t.Errorf("%d, %v", q.used, err)
	}
	if err := q.restore([]byte(`{"quota":{"used":-5}}`)); err != nil || q.used != 0 {
		t.Errorf("%d, %v", q.used, err)
	}
}

func TestHintsAreBounded(t *testing.T) {
	wall := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	b := newBudget(blockConfig().WithDefaults())
	for name, text := range map[string]string{
		"far":      `{"reconnect_spread_s":1e9,"max_rate_Bps":0.001,"pause_until":"2099-01-01T00:00:00Z"}`,
		"negative": `{"reconnect_spread_s":-5,"max_rate_Bps":-1,"pause_until":"1999-01-01T00:00:00Z"}`,
		"empty":    ``,
	} {
		h, err := parseHint([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		b.take(0, wall, h)
		b.look(0, wall, true)
		spread, rate, paused := b.hint.spread(), b.bucket.rate, b.hint.until
		if name == "far" && (spread != time.Hour || rate != leastRate || paused != 24*time.Hour) {
			t.Errorf("%s: spread %v, rate %v, paused for %v", name, spread, rate, paused)
		}
		if name != "far" && (spread != 0 || rate != 0 || paused != 0) {
			t.Errorf("%s: spread %v, rate %v, paused for %v", name, spread, rate, paused)
		}
		if !b.lanes[LaneAlarm] {
			t.Errorf("%s: holds alarms up", name)
		}
	}
	if _, err := parseHint([]byte("soon")); err == nil {
		t.Error("a hint that is none is taken")
	}
}

// A hint never makes an uplink faster than its configuration.
func TestHintDoesNotRaiseTheRate(t *testing.T) {
	c := blockConfig()
	c.Rate = 1000
	b := newBudget(c.WithDefaults())
	b.take(time.Second, time.Now(), Hint{MaxRate: 1e9})
	if b.bucket.rate != 1000 {
		t.Errorf("rate %v", b.bucket.rate)
	}
	b.take(time.Second, time.Now(), Hint{MaxRate: 500})
	if b.bucket.rate != 500 {
		t.Errorf("rate %v", b.bucket.rate)
	}
	b.take(time.Second, time.Now(), Hint{})
	if b.bucket.rate != 1000 {
		t.Errorf("rate %v once the hint is gone", b.bucket.rate)
	}
}

func TestBusyServer(t *testing.T) {
	b := newBackoff(ReconnectConfig{})
	for range 100 {
		if d := b.after(Busy("server busy", 10*time.Minute), true); d < 10*time.Minute || d > 10*time.Minute+5*time.Second+2*time.Minute {
			t.Fatalf("%v after a server that asked for 10 min", d)
		}
	}
	if d := b.after(Busy("server busy", 100*time.Hour), true); d > time.Hour+5*time.Second {
		t.Errorf("%v after a server that asked for 100 h", d)
	}
	if d := b.after(errors.Join(Busy("quota", 0)), false); d > 2*time.Minute {
		t.Errorf("%v after a server that did not say how long", d)
	}
	b.hinted = 5 * time.Minute
	longest := time.Duration(0)
	for range 100 {
		longest = max(longest, b.after(errDied, true))
	}
	if longest < 2*time.Minute || longest > 5*time.Minute {
		t.Errorf("at most %v with a spread of 5 min", longest)
	}
}
