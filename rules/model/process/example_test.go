package process_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/edgeagent/edgeagent/rules/model/process"
)

// average is a whole model process: it scores with the average of two features.
func average(conn net.Conn) {
	defer conn.Close()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "edgeagent-model":
			fmt.Fprintln(conn, "edgeagent-model 1 features=2")
		case "score":
			var a, b float64
			fmt.Sscan(words[2]+" "+words[3], &a, &b)
			fmt.Fprintln(conn, "score", words[1], (a+b)/2)
		case "ping":
			fmt.Fprintln(conn, "pong", words[1])
		}
	}
}

func Example() {
	dir, err := os.MkdirTemp("", "model")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "model.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	p, err := process.New("average", process.Config{Socket: socket, Features: 2}, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	wg.Go(func() {
		if conn, err := listener.Accept(); err == nil {
			average(conn)
		}
	})
	// A rule asks at each reading; the score is there a little later.
	ask, score := p.Scorer(), math.NaN()
	for math.IsNaN(score) {
		score = ask([]float64{2, 4})
	}
	fmt.Println("score", score)
	cancel()
	wg.Wait()
	// Output: score 3
}
