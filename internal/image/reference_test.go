package image

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestParseReference(t *testing.T) {
	const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	for _, test := range []struct{ ref, named, id string }{
		{"httpd:2.2.31", "docker.io/library/httpd:2.2.31", ""},
		{"httpd", "docker.io/library/httpd:latest", ""},
		{"team/app", "docker.io/team/app:latest", ""},
		{"docker.io/httpd", "docker.io/library/httpd:latest", ""},
		{"index.docker.io/library/httpd:1", "docker.io/library/httpd:1", ""},
		{"localhost/app:v1", "localhost/app:v1", ""},
		{"localhost:5000/app", "localhost:5000/app:latest", ""},
		{"registry.example/a/b/c:v1", "registry.example/a/b/c:v1", ""},
		{"httpd@" + digest, "docker.io/library/httpd@" + digest, ""},
		{"httpd:1@" + digest, "docker.io/library/httpd@" + digest, ""},
		{digest, "", digest[7:]},
		{digest[7:], "", digest[7:]},
		{"sha256:abcd", "", "abcd"},
		{"abcdef", "docker.io/library/abcdef:latest", "abcdef"},
	} {
		got, err := parseReference(test.ref)
		named := ""
		if got.named != nil {
			named = got.named.String()
		}
		if err != nil || named != test.named || got.id != test.id {
			t.Errorf("%s is %q or ID %q, %v; want %q or ID %q", test.ref, named, got.id, err, test.named, test.id)
		}
	}
	for _, ref := range []string{"", "Httpd", "a b", ":v1", "httpd:", "httpd@sha256:short", "/app", "a//b", "http://x/y"} {
		if got, err := parseReference(ref); err == nil {
			t.Errorf("%q was taken as %+v", ref, got)
		}
	}
}

func TestInsecure(t *testing.T) {
	allowed := []string{"plain.example", "other.example:5000"}
	for registry, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:5000": true, "127.8.9.10": true, "[::1]:5000": true,
		"plain.example": true, "plain.example:80": true, "other.example:5000": true,
		"other.example": false, "docker.io": false, "localhost.example": false, "10.0.0.1:5000": false,
	} {
		if insecure(registry, allowed) != want {
			t.Errorf("%s: want %v", registry, want)
		}
	}
}

// Whatever a user types, what is taken for a name reads as the same name again.
func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"httpd:2.2.31", "a/b@sha256:aa", "sha256:abcd", "localhost:5000/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseReference(s)
		if err != nil {
			return
		}
		if got.named == nil && got.id == "" {
			t.Fatalf("%q means nothing", s)
		}
		if got.named != nil {
			again, err := parseReference(got.named.String())
			if err != nil || again.named.String() != got.named.String() {
				t.Fatalf("%q is %v, which is %v, %v", s, got.named, again.named, err)
			}
		}
	})
}

func FuzzInspect(f *testing.F) {
	f.Add([]byte("text"))
	f.Add(make([]byte, 1024))
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, err := inspect(bytes.NewReader(data))
		if err == nil && kind != dockerArchive && kind != ociArchive {
			t.Fatalf("taken as %q", kind)
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"a/b:c"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseIndex(data)
		if err == nil && len(entries) == 0 {
			t.Fatal("no image and no error")
		}
		for _, entry := range entries {
			for _, name := range entry.names {
				if got, err := parseReference(name); err != nil || got.named.String() != name {
					t.Fatalf("%q is not normalised: %v, %v", name, got.named, err)
				}
			}
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"config":{"Entrypoint":["/app"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if img, err := parseConfig(data); err == nil {
			if _, err := json.Marshal(img); err != nil {
				t.Fatal(err)
			}
		}
	})
}
