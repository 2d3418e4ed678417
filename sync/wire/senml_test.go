package wire

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edgeagent/edgeagent"
)

// resolved is a SenML record on its own (RFC 8428 section 4.6).
type resolved struct {
	Name, Unit string
	Time       float64
	Value      *float64
	Text       *string
	Rest       map[string]any
}

// readSenML decodes a pack by the letter of RFC 8428, not by what we write.
func readSenML(contentType string, data []byte) ([]resolved, error) {
	var packed []map[string]any
	if strings.HasSuffix(contentType, "json") {
		if err := json.Unmarshal(data, &packed); err != nil {
			return nil, err
		}
		return resolve(packed), nil
	}
	var raw []map[any]any
	if err := cbor.Unmarshal(data, &raw); err != nil {
		return nil, err
	}
	labels := map[int64]string{
		-1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs", 0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd",
	}
	for _, r := range raw {
		m := map[string]any{}
		for k, v := range r {
			switch k := k.(type) {
			case uint64:
				m[labels[int64(k)]] = asJSON(v)
			case int64:
				m[labels[k]] = asJSON(v)
			case string:
				m[k] = asJSON(v)
			default:
				return nil, fmt.Errorf("label %v", k)
			}
		}
		packed = append(packed, m)
	}
	return resolve(packed), nil
}

// asJSON gives what encoding/json would.
func asJSON(v any) any {
	switch v := v.(type) {
	case uint64:
		return float64(v)
	case int64:
		return float64(v)
	case map[any]any:
		m := map[string]any{}
		for k, x := range v {
			m[k.(string)] = asJSON(x)
		}
		return m
	}
	return v
}

func resolve(packed []map[string]any) (out []resolved) {
	var baseName, baseUnit string
	var baseTime float64
	text := func(v any) string { s, _ := v.(string); return s }
	number := func(v any) float64 { f, _ := v.(float64); return f }
	for _, m := range packed {
		if v, ok := m["bn"]; ok {
			baseName = text(v)
		}
		if v, ok := m["bt"]; ok {
			baseTime = number(v)
		}
		if v, ok := m["bu"]; ok {
			baseUnit = text(v)
		}
		r := resolved{Name: baseName + text(m["n"]), Unit: baseUnit, Time: baseTime + number(m["t"]), Rest: map[string]any{}}
		if v, ok := m["u"]; ok {
			r.Unit = text(v)
		}
		if v, ok := m["v"]; ok {
			f := number(v)
			r.Value = &f
		}
		if v, ok := m["vs"]; ok {
			s := text(v)
			r.Text = &s
		}
		for k, v := range m {
			switch k {
			case "bn", "bt", "bu", "bver", "n", "u", "t", "v", "vs":
			default:
				r.Rest[k] = v
			}
		}
		out = append(out, r)
	}
	return out
}

// The multiple-datapoint example of RFC 8428, sections 5.1.3 and 6.
const (
	rfcJSON = `[{"bn":"urn:dev:ow:10e2073a01080063","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
{"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3},{"n":"current","t":-3,"v":1.4},
{"n":"current","t":-2,"v":1.5},{"n":"current","t":-1,"v":1.6},{"n":"current","v":1.7}]`
	rfcCBOR = "87a721781b75726e3a6465763a6f773a3130653230373361303130383030363322fb41d303a15b00106223614120050067766f6c74" +
		"61676501615602fb405e066666666666a3006763757272656e74062402fb3ff3333333333333a3006763757272656e74062302fb3ff4cccccccc" +
		"cccda3006763757272656e74062202fb3ff6666666666666a3006763757272656e74062102f93e00a3006763757272656e74062002fb3ff99999" +
		"9999999aa2006763757272656e7402fb3ffb333333333333"
)

// The reader of these tests must itself read the standard's examples.
func TestReaderReadsTheStandard(t *testing.T) {
	fromJSON, err := readSenML("application/senml+json", []byte(rfcJSON))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(rfcCBOR)
	if err != nil {
		t.Fatal(err)
	}
	fromCBOR, err := readSenML("application/senml+cbor", raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON, fromCBOR, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
		t.Errorf("-json +cbor:\n%s", diff)
	}
	if len(fromJSON) != 7 || fromJSON[1].Name != "urn:dev:ow:10e2073a01080063current" || fromJSON[1].Unit != "A" ||
		fromJSON[1].Time != 1276020071.001 || *fromJSON[1].Value != 1.2 {
		t.Errorf("resolved %+v", fromJSON[1])
	}
}

// Whatever we write says the same in both representations.
func TestSenMLIsTheSameInBoth(t *testing.T) {
	for i, b := range vectors() {
		var packs [2][]resolved
		for j, f := range []*SenML{NewSenMLJSON(), NewSenMLCBOR()} {
			out, err := f.Encode(nil, b, "gw-17")
			if err != nil {
				t.Fatal(err)
			}
			if packs[j], err = readSenML(f.ContentType(), out); err != nil {
				t.Fatalf("batch %d as %s: %v\n%x", i, f.Name(), err, out)
			}
		}
		if diff := cmp.Diff(packs[0], packs[1], cmpopts.EquateApprox(0, 1e-9)); diff != "" {
			t.Errorf("batch %d, -json +cbor:\n%s", i, diff)
		}
	}
}

func TestSenMLReadings(t *testing.T) {
	in := vectors()[0]
	for _, f := range []*SenML{NewSenMLJSON(), NewSenMLCBOR()} {
		t.Run(f.Name(), func(t *testing.T) {
			out, err := f.Encode(nil, in, "gw-17")
			if err != nil {
				t.Fatal(err)
			}
			got, err := readSenML(f.ContentType(), out)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != in.Count {
				t.Fatalf("%d records of %d readings", len(got), in.Count)
			}
			v := 21.5
			want := resolved{
				Name: "gw-17/plant_1/boiler/temperature", Unit: "Cel", Time: 1795608000.123456789, Value: &v,
				Rest: map[string]any{"tags": map[string]any{"empty": "", "line": "0", "site": "oslo, north"}},
			}
			if diff := cmp.Diff(want, got[0]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got[2].Value != nil || got[2].Rest["quality"] != "bad" || got[3].Value != nil || got[3].Rest["quality"] != "stale" {
				t.Errorf("NaN and -Inf became %+v, %+v", got[2], got[3])
			}
			if !math.Signbit(*got[7].Value) {
				t.Error("-0 lost its sign")
			}
		})
	}
}

// A reader would take a time before July 1978 as relative to now.
func TestSenMLLeavesOutTimesOfUnsetClocks(t *testing.T) {
	key := edgeagent.SeriesKey{Sensor: "a", Metric: "b"}
	for _, f := range []*SenML{NewSenMLJSON(), NewSenMLCBOR()} {
		for _, c := range []struct {
			name  string
			times []int64
			want  []float64
		}{
			{"all", []int64{5e9, 0, -7e9}, []float64{0, 0, 0}},
			{"the first", []int64{5e9, noon}, []float64{0, 1795608000.123456789}},
			{"the last", []int64{noon, 5e9}, []float64{1795608000.123456789, 0}},
		} {
			t.Run(f.Name()+"/"+c.name, func(t *testing.T) {
				var rs []edgeagent.Reading
				for _, at := range c.times {
					rs = append(rs, reading(key, at, 1, edgeagent.Good))
				}
				out, err := f.Encode(nil, readings(rs...), "gw")
				if err != nil {
					t.Fatal(err)
				}
				got, err := readSenML(f.ContentType(), out)
				if err != nil {
					t.Fatal(err)
				}
				for i := range got {
					if got[i].Time != c.want[i] {
						t.Errorf("record %d has time %v, want %v", i, got[i].Time, c.want[i])
					}
				}
			})
		}
	}
}

func TestCBORNumbersAreShortAndExact(t *testing.T) {
	for _, c := range []struct {
		v    float64
		size int
	}{
		{0, 1},
		{23, 1},
		{-24, 1},
		{24, 2},
		{-25, 2},
		{256, 3},
		{65536, 5},
		{1 << 40, 9},
		{math.Copysign(0, -1), 3},
		{1.5, 3},
		{-0.25, 3},
		{65504, 3},
		{0.1, 9},
		{float64(float32(0.1)), 5},
		{math.MaxFloat64, 9},
		{5e-324, 9},
		{1 << 53, 5},
		{1 << 63, 5},
	} {
		enc := cborNumber(nil, c.v)
		var got float64
		if err := cbor.Unmarshal(enc, &got); err != nil || math.Float64bits(got) != math.Float64bits(c.v) {
			t.Errorf("%v is read back as %v, %v", c.v, got, err)
		}
		if len(enc) != c.size {
			t.Errorf("%v takes %d bytes, want %d", c.v, len(enc), c.size)
		}
	}
}

func BenchmarkSenML(b *testing.B) {
	var rs []edgeagent.Reading
	for i := range 1000 {
		rs = append(rs, reading(edgeagent.SeriesKey{Sensor: "s" + string(rune('a'+i%20)), Metric: "v", Unit: "Cel"}, noon+int64(i)*1e9, 20+float64(i)/8, edgeagent.Good))
	}
	batch := readings(rs...)
	for _, f := range []*SenML{NewSenMLJSON(), NewSenMLCBOR()} {
		b.Run(f.Name(), func(b *testing.B) {
			b.ReportAllocs()
			var out []byte
			for b.Loop() {
				var err error
				if out, err = f.Encode(out[:0], batch, "gw"); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rs)), "ns/reading")
			b.ReportMetric(float64(len(out))/float64(len(rs)), "bytes/reading")
		})
	}
}
