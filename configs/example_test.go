package configs_test

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/edgeagent/edgeagent/configs"
)

func ExampleDecode() {
	file := []byte("name: hall\nevery: 5\ncolour: red\n")
	scene := struct {
		Name  string        `yaml:"name"`
		Every time.Duration `yaml:"every"`
		Color string        `yaml:"color"`
	}{Color: "white"}

	err := configs.Decode("scene.yaml", file, &scene)
	if problems, ok := errors.AsType[configs.Errors](err); ok {
		_ = problems.Render(os.Stdout)
	}
	// Output:
	// error: every: duration "5" has no unit
	//   scene.yaml:2:8
	//    1 | name: hall
	//  > 2 | every: 5
	//               ^
	// hint: write it with a unit: "5s"
	//
	// error: unknown field "colour" at the top level
	//   scene.yaml:3:1
	//    2 | every: 5
	//  > 3 | colour: red
	//        ^
	// hint: did you mean "color"?
	// 2 errors
}

func ExampleParse() {
	c, err := configs.Parse("edge.yaml", []byte(`
version: 1
device: {id: gw-17}
destinations:
  - name: cloud
    links: [{url: "mqtt://localhost:1883"}]
`), configs.Options{})
	fmt.Println(err)
	fmt.Println(c.Device.ID, c.Device.Tenant, c.Destinations[0].Format)
	// Output:
	// <nil>
	// gw-17 default line
}
