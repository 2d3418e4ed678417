package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
)

// pageHTML is the page: markup, style and script in one file that loads nothing.
//
//go:embed page.html
var pageHTML []byte

// policy lets the page run its own style and script, known by their hashes, and talk
// to the hub. Whatever else gets into it stays dead.
func policy(html []byte) string {
	return "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" +
		"; style-src " + hashOf(html, "style") + "; script-src " + hashOf(html, "script")
}

// hashOf returns the hash of what stands in the only element of that name.
func hashOf(html []byte, element string) string {
	_, rest, _ := bytes.Cut(html, []byte("<"+element+">"))
	inside, _, _ := bytes.Cut(rest, []byte("</"+element+">"))
	sum := sha256.Sum256(inside)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func (s *Server) servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", policy(pageHTML))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(pageHTML) // the reader may be gone
}
