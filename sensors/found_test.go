package sensors_test

import (
	"testing"

	"github.com/edgeagent/edgeagent/sensors"
)

func TestStanzaIsYAML(t *testing.T) {
	tests := []struct {
		s    sensors.Stanza
		want string
	}{
		{
			sensors.Stanza{Name: "bmxx80-1-76", Driver: "bmxx80", Keys: []sensors.Key{{Name: "bus", Value: "1"}, {Name: "address", Value: "0x76"}}},
			"{name: bmxx80-1-76, driver: bmxx80, bus: 1, address: 0x76}",
		},
		{sensors.Stanza{Name: "on", Driver: "thermal", Keys: []sensors.Key{{Name: "zone", Value: "a: b"}}}, `{name: "on", driver: thermal, zone: "a: b"}`},
		{sensors.Stanza{Name: "", Driver: "x"}, `{name: "", driver: x}`},
	}
	for _, tt := range tests {
		if got := tt.s.String(); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
	if got := sensors.SafeName("Core Temp", "", "1-0048"); got != "core-temp-1-0048" {
		t.Errorf("name %q", got)
	}
}
