package image

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestInRegistry(t *testing.T) {
	host, _ := testRegistry(t, map[string]v1.Image{"team/app:v1": pack(t, "1", layer(t, "base", "x"))})
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusNotFound) // without a word, as the specification allows
		}
	}))
	t.Cleanup(bare.Close)
	config := Config{DataDir: filepath.Join(t.TempDir(), "none")}
	for ref, want := range map[string]string{
		host + "/team/app:v1": "",
		host + "/team/app:v2": "absent",
		host + "/none":        "absent",
		strings.TrimPrefix(bare.URL, "http://") + "/app": "absent",
		"127.0.0.1:1/app": "connection refused",
		"sha256:abcd":     "only a name can be pulled",
		"Bad Name":        "invalid reference",
	} {
		err := InRegistry(t.Context(), config, ref)
		if absent := errors.Is(err, ErrNotInRegistry); absent != (want == "absent") {
			t.Errorf("%s: %v, want %s", ref, err, want)
		}
		if want != "absent" && (err == nil) != (want == "") || err != nil && want != "absent" && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", ref, err, want)
		}
	}
	if _, err := os.Stat(config.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made in the data directory: %v", err)
	}
}
