package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
)

// A server answers for whatever implements Source.
func Example() {
	s, err := New(Config{Listen: "127.0.0.1:8399"}, Options{Source: &fake{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/health", http.NoBody))
	fmt.Print(w.Body)
	// Output: {"level":"ok","warnings":[]}
}
