package model_test

import (
	"fmt"

	"github.com/edgeagent/edgeagent/rules/model"
)

func Example() {
	m, err := model.Open("testdata/xgboost/binary.json", model.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Format(), m.Features(), "features,", m.Bytes(), "bytes")
	score := m.Scorer()
	fmt.Printf("cool %.3f\n", score([]float64{35, 0.6, 0.1, 700}))
	fmt.Printf("worn %.3f\n", score([]float64{72, 1.6, 0.9, 1400}))
	// Output:
	// xgboost 4 features, 3648 bytes
	// cool 0.010
	// worn 0.977
}
