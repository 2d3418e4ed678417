package i2c_test

import (
	"testing"

	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/i2c"
)

// Every driver of the package says where its chip is.
func TestPlace(t *testing.T) {
	for _, d := range i2c.Drivers() {
		if _, _, addr, ok := i2c.Place(d.New()); !ok || addr == 0 {
			t.Errorf("%s: 0x%02x, %v", d.Name, addr, ok)
		}
	}
	if bus, n, addr, ok := i2c.Place(&i2c.TMP102{Bus: "/dev/i2c-3", Address: 0x49}); bus != "/dev/i2c-3" || n != 3 || addr != 0x49 || !ok {
		t.Errorf("%s, %d, 0x%02x, %v", bus, n, addr, ok)
	}
	if _, _, _, ok := i2c.Place(sensors.DriverConfig(nil)); ok {
		t.Error("a place of nothing")
	}
}
