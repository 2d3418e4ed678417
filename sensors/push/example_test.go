package push_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/push"
)

// A program posts a line; the source gives its reading, and says when it is stored.
func Example() {
	dir, err := os.MkdirTemp("", "push")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	c := push.Default()
	c.Listen = "unix:" + filepath.Join(dir, "p.sock")
	s, err := c.Open(context.Background(), sensors.Env{Sensor: "app", Clock: clock.Go()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(dir, "p.sock"))
	}}}
	var wg sync.WaitGroup
	wg.Go(func() {
		a, err := client.Post("http://agent/write", "", strings.NewReader("boiler temperature=21.5"))
		if err != nil {
			fmt.Println(err)
			return
		}
		defer a.Body.Close()
		fmt.Println(a.Status)
	})
	readings, _ := s.Sample(context.Background(), nil)
	fmt.Println(readings[0].Series, readings[0].Value)
	s.(sensors.Informed).Taken(nil)
	wg.Wait()
	// Output:
	// app/boiler/temperature 21.5
	// 204 No Content
}
