package wire

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pierrec/lz4/v4"

	"github.com/edgeagent/edgeagent"
)

// unpack reads what a stock tool would read.
func unpack(t *testing.T, encoding string, data []byte) []byte {
	t.Helper()
	var r io.Reader
	switch encoding {
	case Gzip:
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case LZ4:
		r = lz4.NewReader(bytes.NewReader(data))
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The golden files hold one compressed batch each: what was written by one release is
// read by the next. The frame of LZ4 is the same byte for byte; gzip's may change with
// the compressor.
func TestCompressedVectors(t *testing.T) {
	for encoding, magic := range map[string]string{Gzip: "\x1f\x8b", LZ4: "\x04\x22\x4d\x18"} {
		t.Run(encoding, func(t *testing.T) {
			batch := vectors()[0]
			plain, err := NewLine().Encode(nil, batch, "gw-17")
			if err != nil {
				t.Fatal(err)
			}
			want := bytes.TrimSuffix(plain, []byte("\n"))
			f, err := Compress(NewLine(), encoding)
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.Encode([]byte("before"), batch, "gw-17")
			if err != nil || !bytes.HasPrefix(got, []byte("before"+magic)) {
				t.Fatalf("%.20q, %v", got, err)
			}
			got = got[len("before"):]
			if diff := cmp.Diff(string(want), string(unpack(t, encoding, got))); diff != "" {
				t.Errorf("unpacked, -want +got:\n%s", diff)
			}
			file := filepath.Join("testdata", "line."+encoding+".golden")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(unpack(t, encoding, golden))); diff != "" {
				t.Errorf("golden file, -want +got:\n%s", diff)
			}
			if encoding == LZ4 && !bytes.Equal(golden, got) {
				t.Errorf("a frame of other bytes: % x", got)
			}
			if f.Encoding() != encoding || f.Name() != "line" {
				t.Errorf("%s of %s", f.Encoding(), f.Name())
			}
		})
	}
}

// Each batch stands by itself, whatever went before it.
func TestCompressedBatchesAreApart(t *testing.T) {
	for _, encoding := range []string{Gzip, LZ4} {
		f, err := Compress(NewJSON(), encoding)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range vectors() {
			want, err := NewJSON().Encode(nil, b, "gw")
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.Encode(nil, b, "gw")
			if err != nil {
				t.Fatal(err)
			}
			if string(unpack(t, encoding, got)) != string(bytes.TrimSuffix(want, []byte("\n"))) {
				t.Errorf("%s: another text came out than went in", encoding)
			}
		}
		broken := edgeagent.NewBatch(edgeagent.BatchHeader{Stream: edgeagent.StreamTelemetry, Count: 1}, nil, records{err: errors.New("damaged")})
		if out, err := f.Encode([]byte("x"), broken, "gw"); err == nil || string(out) != "x" {
			t.Errorf("%s: a damaged batch: %q, %v", encoding, out, err)
		}
	}
}

func TestCompressRefuses(t *testing.T) {
	if _, err := Compress(NewLine(), "zip"); err == nil {
		t.Error("zip is taken")
	}
}

func BenchmarkCompressed(b *testing.B) {
	for _, encoding := range []string{Gzip, LZ4} {
		b.Run(encoding, func(b *testing.B) {
			var rs []edgeagent.Reading
			for i := range 1000 {
				rs = append(rs, reading(boiler, noon+int64(i)*1e9, 20+float64(i%97)/100, edgeagent.Good))
			}
			batch := readings(rs...)
			f, err := Compress(NewLine(), encoding)
			if err != nil {
				b.Fatal(err)
			}
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				if out, err = f.Encode(out[:0], batch, "gw-17"); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/reading")
			b.ReportMetric(float64(len(out))/1000, "bytes/reading")
		})
	}
}
