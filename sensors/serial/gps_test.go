package serial

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.bug.st/serial"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/sensortest"
)

// sentence adds the dollar, the checksum and the line end.
func sentence(body string) string {
	var sum byte
	for _, b := range []byte(body) {
		sum ^= b
	}
	return fmt.Sprintf("$%s*%02X\r\n", body, sum)
}

// fakePort says what a test writes down, piece by piece.
type fakePort struct {
	pieces []string
	fail   error
	every  time.Duration
	open   *int
}

func (p *fakePort) Read(b []byte) (int, error) {
	time.Sleep(p.every)
	if len(p.pieces) == 0 {
		if p.fail != nil {
			return 0, p.fail
		}
		time.Sleep(readWait)
		return 0, nil
	}
	n := copy(b, p.pieces[0])
	if p.pieces[0] = p.pieces[0][n:]; p.pieces[0] == "" {
		p.pieces = p.pieces[1:]
	}
	return n, nil
}

func (p *fakePort) Close() error { *p.open--; return nil }

func source1(env sensors.Env, change func(*Config), p *fakePort) *source {
	c := Default()
	c.Port = "/dev/ttyACM0"
	change(c)
	if p.open == nil {
		p.open = new(int)
	}
	return newSource(env, c, func(string, int) (port, error) { *p.open++; return p, nil })
}

func said(rs []edgeagent.Reading) string {
	var out []string
	for _, r := range rs {
		s := fmt.Sprintf("%s=%v", r.Series.Key().Metric, math.Round(r.Value*1e6)/1e6)
		if r.Quality != edgeagent.Good {
			s += "!" + r.Quality.String()
		}
		if r.Recorded {
			s += "@" + time.Unix(0, r.At.Wall).UTC().Format(time.RFC3339Nano)
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

var (
	rmcA = sentence("GPRMC,081836,A,3751.65,S,14507.36,E,000.0,360.0,130998,011.3,E") // of the standard's examples
	ggaA = sentence("GPGGA,081836,3751.65,S,14507.36,E,1,05,1.5,280.2,M,-34.0,M,,")
	rmcB = sentence("GNRMC,081837.50,A,4916.45,N,12311.12,W,005.5,054.7,191194,020.3,E,A")
	ggaB = sentence("GNGGA,081837.50,4916.45,N,12311.12,W,4,12,0.6,,M,,M,,")
)

const (
	whereA = "latitude=-37.860833 longitude=145.122667"
	whereB = "latitude=49.274167 longitude=-123.185333"
)

func TestSentences(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"one moment", rmcA + ggaA, "fix=1 satellites=5 " + whereA + " altitude=280.2 speed=0 course=360 hdop=1.5"},
		{"the other way round", ggaB + rmcB, "fix=4 satellites=12 " + whereB + " speed=2.829444 course=54.7 hdop=0.6"},
		{"others between", sentence("GPGSV,3,1,11,03,03,111,00") + rmcA + sentence("GPVTG,,T,,M,0.0,N") + ggaA, "fix=1 satellites=5 " + whereA + " altitude=280.2 speed=0 course=360 hdop=1.5"},
		{"RMC alone", rmcA + rmcB, "fix=1 " + whereA + " speed=0 course=360"},
		{"GGA alone", ggaA + ggaB, "fix=1 satellites=5 " + whereA + " altitude=280.2 hdop=1.5"},
		{"no fix", sentence("GPRMC,081836,V,3751.65,S,14507.36,E,,,130998,,") + sentence("GPGGA,081836,3751.65,S,14507.36,E,0,02,9.9,,M,,M,,"), "fix=0 satellites=2"},
		{"no fix and nothing else", sentence("GPRMC,,V,,,,,,,,,,N") + sentence("GPGGA,,,,,,0,00,99.99,,,,,,"), "fix=0 satellites=0"},
		{"they disagree", sentence("GPRMC,081836,V,3751.65,S,14507.36,E,,,130998,,") + ggaA, "fix=0 satellites=5"},
		{"estimated", rmcA + sentence("GPGGA,081836,3751.65,S,14507.36,E,6,05,1.5,280.2,M,-34.0,M,,"), "fix=6 satellites=5 latitude=-37.860833!suspect longitude=145.122667!suspect altitude=280.2!suspect speed=0!suspect course=360!suspect hdop=1.5!suspect"},
		{"noise before", "\x00\xff$GPG" + rmcA + ggaA, "fix=1 satellites=5 " + whereA + " altitude=280.2 speed=0 course=360 hdop=1.5"},
		{"a long line", strings.Repeat("x", 1000) + "\n" + rmcA + ggaA, "fix=1 satellites=5 " + whereA + " altitude=280.2 speed=0 course=360 hdop=1.5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 7, 4096} {
				synctest.Test(t, func(t *testing.T) {
					p := &fakePort{}
					for in := tt.in; in != ""; {
						n := min(size, len(in))
						p.pieces = append(p.pieces, in[:n])
						in = in[n:]
					}
					s := source1(sensortest.Env("gps"), func(*Config) {}, p)
					rs, err := s.Sample(t.Context(), nil)
					if got := said(rs); got != tt.want || err != nil {
						t.Errorf("in pieces of %d: %s, %v\nwant %s", size, got, err, tt.want)
					}
				})
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for name, in := range map[string]string{
		"checksum":            strings.Replace(rmcA, "3751.65", "3751.66", 1),
		"no checksum":         "$GPRMC,081836,A,3751.65,S,14507.36,E,000.0,360.0,130998,011.3,E\r\n",
		"latitude":            sentence("GPRMC,081836,A,9751.65,S,14507.36,E,000.0,360.0,130998,011.3,E"),
		"minutes":             sentence("GPRMC,081836,A,3760.00,S,14507.36,E,000.0,360.0,130998,011.3,E"),
		"side":                sentence("GPRMC,081836,A,3751.65,X,14507.36,E,000.0,360.0,130998,011.3,E"),
		"half a position":     sentence("GPRMC,081836,A,3751.65,S,,,000.0,360.0,130998,011.3,E"),
		"hexadecimal speed":   sentence("GPRMC,081836,A,3751.65,S,14507.36,E,0x10,360.0,130998,011.3,E"),
		"course":              sentence("GPRMC,081836,A,3751.65,S,14507.36,E,000.0,361.0,130998,011.3,E"),
		"quality":             sentence("GPGGA,081836,3751.65,S,14507.36,E,1.5,05,1.5,280.2,M,-34.0,M,,"),
		"NaN":                 sentence("GPGGA,081836,3751.65,S,14507.36,E,1,05,NaN,280.2,M,-34.0,M,,"),
		"an empty sentence":   sentence(""),
		"a star in the midst": "$GPRMC*00,1\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var f fix
			if _, other, err := f.read([]byte(in)); err == nil && !other {
				t.Errorf("%q is taken as %+v", in, f)
			}
		})
	}
}

func TestTimeOfReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := source1(sensortest.Env("gps"), func(c *Config) { c.Time = true }, &fakePort{pieces: []string{rmcB + ggaB}})
		rs, err := s.Sample(t.Context(), nil)
		if err != nil || !strings.Contains(said(rs), "fix=4@1994-11-19T08:18:37.5Z") {
			t.Errorf("%s, %v", said(rs), err)
		}
	})
}

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePort{every: 100 * time.Millisecond} // ten moments a second
		for i := range 600 {
			p.pieces = append(p.pieces, sentence(fmt.Sprintf("GPRMC,%06d,A,3751.65,S,14507.36,E,000.0,360.0,130998,,", i))+
				sentence(fmt.Sprintf("GPGGA,%06d,3751.65,S,14507.36,E,1,05,1.5,280.2,M,,M,,", i)))
		}
		s := source1(sensortest.Env("gps"), func(c *Config) { c.Every = 5 * time.Second }, p)
		moments := 0
		for begun := time.Now(); time.Since(begun) < time.Minute; {
			rs, err := s.Sample(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(rs) > 0 {
				moments++
			}
		}
		if moments < 12 || moments > 13 {
			t.Errorf("%d moments in a minute at one in 5 s", moments)
		}
	})
}

func TestSilence(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"nothing": {"", "no sentence from /dev/ttyACM0 for 5s"},
		"noise":   {"\x12\x34\n\x56\n", "2 lines refused: not a sentence"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := source1(sensortest.Env("gps"), func(*Config) {}, &fakePort{pieces: []string{tt.in}})
			var errs []error
			for begun := time.Now(); time.Since(begun) < 12*time.Second; {
				if _, err := s.Sample(t.Context(), nil); err != nil {
					errs = append(errs, err)
				}
			}
			if len(errs) != 2 || !strings.Contains(errs[0].Error(), tt.want) {
				t.Errorf("%s: %v", name, errs)
			}
			if h, ok := errors.AsType[edgeagent.Hinter](errs[0]); !ok || !strings.Contains(h.Hint(), "speed") {
				t.Errorf("%s: no hint", name)
			}
		})
	}
}

func TestUnplugged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePort{pieces: []string{rmcA + ggaA}, fail: errors.New("gone")}
		s := source1(sensortest.Env("gps"), func(*Config) {}, p)
		if rs, err := s.Sample(t.Context(), nil); err != nil || len(rs) == 0 {
			t.Fatal(rs, err)
		}
		open, opens := s.open, 0
		s.open = func(string, int) (port, error) { opens++; return nil, &serial.PortError{} }
		for begun := time.Now(); time.Since(begun) < 10*time.Minute; {
			if _, err := s.Sample(t.Context(), nil); err == nil {
				t.Fatal("no error")
			}
			time.Sleep(s.Next())
		}
		if opens < 10 || opens > 20 || *p.open != 0 {
			t.Errorf("%d attempts in 10 minutes, %d open", opens, *p.open)
		}
		s.open, p.pieces = open, []string{"$GPRMC,half", rmcB + ggaB}
		rs, err := s.Sample(t.Context(), nil)
		if err != nil || !strings.Contains(said(rs), whereB) {
			t.Errorf("plugged in again: %s, %v", said(rs), err)
		}
		if err := s.Close(); err != nil || *p.open != 0 {
			t.Errorf("%v, %d open", err, *p.open)
		}
	})
}

func TestConformance(t *testing.T) {
	sensortest.Run(t, func(_ *testing.T, env sensors.Env) sensors.Source {
		p := &fakePort{every: 500 * time.Millisecond}
		for i := range 30 {
			p.pieces = append(p.pieces, sentence(fmt.Sprintf("GPRMC,%06d,A,3751.65,S,14507.36,E,000.0,360.0,130998,,", i)))
		}
		return source1(env, func(*Config) {}, p)
	})
}

func TestValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"port":  {func(c *Config) { c.Port = "ttyACM0" }, `port: "ttyACM0" is not the path`},
		"speed": {func(c *Config) { c.Speed = 10 }, "speed: 10 is out of range"},
		"every": {func(c *Config) { c.Every = time.Millisecond }, "every: 1ms is out of range"},
	} {
		c := Default()
		c.Port = "/dev/ttyACM0"
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		tt.change(c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzNMEA: whatever comes over the wire, positions are on the globe.
func FuzzNMEA(f *testing.F) {
	f.Add([]byte(rmcA + ggaA))
	f.Add([]byte(ggaB + "\x00$*\r\n" + rmcB))
	f.Fuzz(func(t *testing.T, wire []byte) {
		s := source1(sensortest.Env("gps"), func(*Config) {}, &fakePort{})
		s.hear(wire)
		// A fuzzer seldom finds a checksum, so each line gets a right one as well.
		for line := range strings.Lines(string(wire)) {
			s.hear([]byte(sentence(strings.Trim(line, "$\r\n"))))
		}
		for _, r := range s.readings(nil, &s.now) {
			v, limit := r.Value, math.MaxFloat64
			switch r.Series.Key().Metric {
			case "latitude":
				limit = 90
			case "longitude":
				limit = 180
			}
			if math.IsNaN(v) || math.Abs(v) > limit {
				t.Errorf("%q gives %s = %v", wire, r.Series, v)
			}
		}
		if len(s.line) > maxLine {
			t.Errorf("a line of %d bytes is held", len(s.line))
		}
	})
}

func BenchmarkMoment(b *testing.B) {
	s := source1(sensortest.Env("gps"), func(*Config) {}, &fakePort{})
	wire := []byte(rmcA + ggaA)
	var dst []edgeagent.Reading
	b.ReportAllocs()
	for b.Loop() {
		s.hear(wire)
		dst = s.readings(dst[:0], &s.ready)
	}
}
