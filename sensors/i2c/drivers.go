package i2c

import (
	"time"

	"github.com/edgeagent/edgeagent/sensors"
)

// Drivers lists the drivers of this package.
func Drivers() []sensors.Driver {
	return []sensors.Driver{
		{
			Name: "bmxx80", Datasheet: sheetBMxx80(),
			Summary: "Bosch BME280, BMP280 or BMP180 on I²C: temperature, pressure, humidity",
			New:     func() sensors.DriverConfig { return &BMxx80{Address: 0x76, Oversampling: 4} },
		},
		{
			Name: "tmp102", Datasheet: sheetTMP102(),
			Summary: "Texas Instruments TMP102 thermometer on I²C",
			New:     func() sensors.DriverConfig { return &TMP102{Address: 0x48} },
		},
		{
			Name: "lm75", Datasheet: sheetLM75(),
			Summary: "LM75 thermometer on I²C, and those that are like it: TMP75, TMP105, DS75, LM75B",
			New:     func() sensors.DriverConfig { return &LM75{Address: 0x48, Resolution: 9} },
		},
		{
			Name: "mcp9808", Datasheet: sheetMCP9808(),
			Summary: "Microchip MCP9808 thermometer on I²C",
			New:     func() sensors.DriverConfig { return &MCP9808{Address: 0x18} },
		},
		{
			Name: "aht20", Datasheet: sheetAHT20(),
			Summary: "Aosong AHT20 on I²C: temperature, humidity",
			New:     func() sensors.DriverConfig { return &AHT20{Address: aht20Address} },
		},
		{
			Name: "sht3x", Datasheet: sheetSHT3x(),
			Summary: "Sensirion SHT30, SHT31 or SHT35 on I²C: temperature, humidity",
			New:     func() sensors.DriverConfig { return &SHT3x{Address: 0x44, Precision: high} },
		},
		{
			Name: "sht4x", Datasheet: sheetSHT4x(),
			Summary: "Sensirion SHT40, SHT41 or SHT45 on I²C: temperature, humidity",
			New:     func() sensors.DriverConfig { return &SHT4x{Address: 0x44, Precision: high} },
		},
		{
			Name: "scd4x", Datasheet: sheetSCD4x(),
			Summary: "Sensirion SCD40 or SCD41 on I²C: carbon dioxide, temperature, humidity",
			New:     func() sensors.DriverConfig { return &SCD4x{Address: scd4xAddress, SelfCalibration: true} },
		},
		{
			Name: "bh1750", Datasheet: sheetBH1750(),
			Summary: "Rohm BH1750 on I²C: light",
			New:     func() sensors.DriverConfig { return &BH1750{Address: 0x23} },
		},
		{
			Name: "ina219", Datasheet: sheetINA219(),
			Summary: "Texas Instruments INA219 on I²C: voltage, current, power",
			New:     func() sensors.DriverConfig { return &INA219{Address: 0x40, Shunt: 0.1, Average: 16} },
		},
		{
			Name: "ads1x15", Datasheet: sheetADS1x15(),
			Summary: "Texas Instruments ADS1115 or ADS1015 on I²C: four analogue inputs",
			New: func() sensors.DriverConfig {
				return &ADS1x15{Address: 0x48, Chip: "ads1115", Range: 4.096, Rate: 128}
			},
		},
	}
}

// Bounds of how fast a quantity changes at a chip: a thermometer that is dipped into
// boiling water needs seconds for it, and so does a hygrometer that is breathed on.
const (
	maxCelsius = 20.0   // per second
	maxPercent = 25.0   // of relative humidity, per second
	maxPascal  = 2000.0 // per second: a lift falls at 100
	maxPPM     = 1000.0 // per second, of carbon dioxide
)

func temperature(low, high, step float64, accuracy string) sensors.Metric {
	return sensors.Metric{Name: "temperature", Unit: "Cel", Min: low, Max: high, MaxRate: maxCelsius, Step: step, Accuracy: accuracy}
}

func humidity(accuracy string) sensors.Metric {
	return sensors.Metric{Name: "humidity", Unit: "%", Min: 0, Max: 100, MaxRate: maxPercent, Step: 0.01, Accuracy: accuracy}
}

// quick allows a hygrometer that follows the air within a second (BME280: 63 % of a
// change) to be breathed on.
func quick(m sensors.Metric) sensors.Metric {
	m.MaxRate = 65
	return m
}

const ms = time.Millisecond

// Place says where the chip of a configured sensor is: the bus as it is written, its
// number (-1 if it cannot be told) and the address. ok is false for drivers of other
// packages.
func Place(c sensors.DriverConfig) (bus string, number int, addr uint16, ok bool) {
	switch c := c.(type) {
	case *BMxx80:
		bus, addr = c.Bus, c.Address
	case *TMP102:
		bus, addr = c.Bus, c.Address
	case *LM75:
		bus, addr = c.Bus, c.Address
	case *MCP9808:
		bus, addr = c.Bus, c.Address
	case *AHT20:
		bus, addr = c.Bus, c.Address
	case *SHT3x:
		bus, addr = c.Bus, c.Address
	case *SHT4x:
		bus, addr = c.Bus, c.Address
	case *SCD4x:
		bus, addr = c.Bus, c.Address
	case *BH1750:
		bus, addr = c.Bus, c.Address
	case *INA219:
		bus, addr = c.Bus, c.Address
	case *ADS1x15:
		bus, addr = c.Bus, c.Address
	default:
		return "", -1, 0, false
	}
	number, known := findBus(bus)
	if !known {
		number = -1
	}
	return bus, number, addr, true
}
