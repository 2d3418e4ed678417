package expression_test

import (
	"errors"
	"fmt"

	"github.com/edgeagent/edgeagent/rules/expression"
)

func Example() {
	inputs := []string{"temp", "load"}
	hot, err := expression.Compile("temp > 80 and (load > 0.9 or not known(load))", inputs)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(hot.Eval([]float64{85, 0.5}))
	fmt.Println(hot.Eval([]float64{85, expression.NaN()}))
	fmt.Println(hot.Eval([]float64{expression.NaN(), 0.95}))
	// Output:
	// false
	// true
	// unknown
}

func ExampleError() {
	_, err := expression.Compile("load > 1 and tmep > 80", []string{"temp", "load"})
	if mistake, ok := errors.AsType[*expression.Error](err); ok {
		fmt.Printf("at byte %d: %v\n", mistake.Offset(), mistake)
	}
	// Output: at byte 13: unknown name "tmep", did you mean "temp"?
}
