package rollup_test

import (
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/rollup"
)

func Example() {
	f := rollup.New(time.Minute)
	show := func(p rollup.Piece) error {
		fmt.Printf("numbers %d to %d\n", p.Source.From, p.Source.To)
		for _, r := range p.Rows {
			fmt.Printf("series %d: %d readings from %v to %v, mean %v\n", r.Series, r.Count, r.Min, r.Max, r.Sum/float64(r.Count))
		}
		return nil
	}
	for i, v := range []float64{20.5, 21, 21.5} {
		row := block.Row{Series: 1, Time: int64(i) * 1e9, Value: v}
		if err := f.Add(edgeagent.Seq(101+i), &row, show); err != nil {
			fmt.Println(err)
		}
	}
	if err := f.Flush(show); err != nil {
		fmt.Println(err)
	}
	// Output:
	// numbers 101 to 103
	// series 1: 3 readings from 20.5 to 21.5, mean 21
}
