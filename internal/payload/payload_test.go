package payload

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func walk(b string) (string, error) {
	var out []string
	err := JSON([]byte(b), func(path string, v Value) error {
		if v.IsText {
			out = append(out, fmt.Sprintf("%s=%q", path, v.Text))
		} else {
			out = append(out, fmt.Sprintf("%s=%v", path, v.Number))
		}
		return nil
	})
	return strings.Join(out, " "), err
}

func TestJSON(t *testing.T) {
	for _, tt := range []struct{ name, in, want, err string }{
		{"Zigbee2MQTT", `{"battery":97,"contact":true,"linkquality":84,"voltage":3005,"update":{"state":"idle"}}`, `battery=97 contact=1 linkquality=84 voltage=3005 update.state="idle"`, ""},
		{"Tasmota", `{"Time":"2026-01-02T03:04:05","ENERGY":{"Power":[12,0.5],"Factor":null}}`, `Time="2026-01-02T03:04:05" ENERGY.Power.0=12 ENERGY.Power.1=0.5`, ""},
		{"a number alone", ` -1.5e3 `, "=-1500", ""},
		{"false", `false`, "=0", ""},
		{"empty object", `{}`, "", ""},
		{"nothing", ``, "", "not JSON: unexpected EOF"},
		{"cut off", `{"a":1,"b":`, "a=1", "not JSON"},
		{"two", `1 2`, "=1", "more than one"},
		{"too large", `{"a":1e999}`, "", "too large"},
		{"deep", strings.Repeat("[", 17) + strings.Repeat("]", 17), "", "nested more than 16"},
		{"NaN", `{"a":NaN}`, "", "not JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := walk(tt.in)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	if _, err := walk("[" + strings.Repeat("1,", MaxValues) + "1]"); err == nil {
		t.Error("no bound of values")
	}
}

func TestLine(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     Point
		err      string
	}{
		{"whole", "weather,site=a,b=c temp=21.5,n=3i,u=4u,on=t,s=\"x y, z\" 1700000000000000000", Point{
			Measurement: "weather", Tags: map[string]string{"site": "a", "b": "c"}, Time: 1700000000000000000, HasTime: true,
			Fields: []Field{{"temp", number(21.5)}, {"n", number(3)}, {"u", number(4)}, {"on", number(1)}, {"s", Value{Text: "x y, z", IsText: true}}},
		}, ""},
		{"least", "m v=1", Point{Measurement: "m", Fields: []Field{{"v", number(1)}}}, ""},
		{"escapes", `my\ m\,x,k\=1=v\ w f\ 1=2`, Point{Measurement: "my m,x", Tags: map[string]string{"k=1": "v w"}, Fields: []Field{{"f 1", number(2)}}}, ""},
		{"quotes in a name", `m"x,t=a v=1`, Point{Measurement: `m"x`, Tags: map[string]string{"t": "a"}, Fields: []Field{{"v", number(1)}}}, ""},
		{"no field", "m", Point{}, "not line protocol"},
		{"comment", "# x v=1", Point{}, "not line protocol"},
		{"empty tag", "m,a= v=1", Point{}, "bad tag"},
		{"hexadecimal", "m v=0x10", Point{}, "not a value"},
		{"NaN", "m v=NaN", Point{}, "not a value"},
		{"infinite", "m v=1e999", Point{}, "not a value"},
		{"open quote", `m v="x`, Point{}, "not a value"},
		{"integer too large", "m v=99999999999999999999i", Point{}, "not a value"},
		{"bad time", "m v=1 12.5", Point{}, "bad time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Line(tt.in)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,true,null,"x"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_ = JSON(b, func(_ string, v Value) error {
			n++
			if math.IsNaN(v.Number) || math.IsInf(v.Number, 0) {
				t.Errorf("%v in %q", v.Number, b)
			}
			return nil
		})
		if n > MaxValues {
			t.Errorf("%d values", n)
		}
	})
}

func FuzzLine(f *testing.F) {
	f.Add(`my\ m,site=a v=1.5,s="x" 12`)
	f.Add(`m v=-1i`)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Line(s)
		if err != nil {
			return
		}
		if p.Measurement == "" || len(p.Fields) == 0 {
			t.Errorf("%q is taken as %+v", s, p)
		}
		for _, f := range p.Fields {
			if f.Key == "" || math.IsNaN(f.Value.Number) || math.IsInf(f.Value.Number, 0) {
				t.Errorf("%q is taken as %+v", s, p)
			}
		}
	})
}

func ExampleJSON() {
	_ = JSON([]byte(`{"ENERGY":{"Power":12.5},"POWER":"ON"}`), func(path string, v Value) error {
		fmt.Printf("%s %v %q\n", path, v.Number, v.Text)
		return nil
	})
	// Output:
	// ENERGY.Power 12.5 ""
	// POWER 0 "ON"
}
