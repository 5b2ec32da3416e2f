package keyring

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func configJSON(name, json string) *corev1.Secret {
	s := &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(json)}}
	s.Name = name
	return s
}

// places makes a secret with a user for each place, named like it.
func places(list ...string) *corev1.Secret {
	var auths []string
	for _, place := range list {
		auths = append(auths, fmt.Sprintf(`%q: {"username": %q, "password": "p"}`, place, place))
	}
	return configJSON("s", `{"auths": {`+strings.Join(auths, ",")+`}}`)
}

// Where Kubernetes' documentation says that a key of config.json matches an image, and where not.
func TestLookup(t *testing.T) {
	for _, test := range []struct {
		places     []string
		repository string
		want       []string
	}{
		{[]string{"registry.example"}, "registry.example/app", []string{"registry.example"}},
		{[]string{"registry.example"}, "registry.example:5000/app", nil},
		{[]string{"registry.example:5000"}, "registry.example:5000/app", []string{"registry.example:5000"}},
		{[]string{"registry.example:5000"}, "registry.example/app", nil},
		{[]string{"https://registry.example/v2/"}, "registry.example/app", []string{"https://registry.example/v2/"}},
		{[]string{"http://registry.example/"}, "registry.example/app", []string{"http://registry.example/"}},
		{[]string{"registry.example/team"}, "registry.example/team/app", []string{"registry.example/team"}},
		{[]string{"registry.example/team"}, "registry.example/other/app", nil},
		{[]string{"registry.example", "registry.example/team", "registry.example/team/app"}, "registry.example/team/app",
			[]string{"registry.example/team/app", "registry.example/team", "registry.example"}},
		{[]string{"*.example"}, "registry.example/app", []string{"*.example"}},
		{[]string{"*.example"}, "a.registry.example/app", nil},
		{[]string{"*.*.example"}, "a.registry.example/app", []string{"*.*.example"}},
		{[]string{"prefix*.example"}, "prefix-1.example/app", []string{"prefix*.example"}},
		{[]string{"*"}, "registry.example/app", nil},
		{[]string{"*.example:443/team"}, "registry.example:443/team/app", []string{"*.example:443/team"}},
		{[]string{"https://index.docker.io/v1/"}, "docker.io/library/httpd", []string{"https://index.docker.io/v1/"}},
		{[]string{"docker.io"}, "docker.io/library/httpd", []string{"docker.io"}},
		{[]string{"https://index.docker.io/v1/"}, "registry.example/library/httpd", nil},
		{[]string{"[::1]:5000"}, "[::1]:5000/app", []string{"[::1]:5000"}},
		{[]string{"%zz", "registry.example"}, "registry.example/app", []string{"registry.example"}},
	} {
		var ring Keyring
		if err := ring.Add(places(test.places...)); err != nil {
			t.Errorf("%v: %v", test.places, err)
		}
		var users []string
		for _, c := range ring.Lookup(test.repository) {
			users = append(users, c.Username)
		}
		if !slices.Equal(users, test.want) {
			t.Errorf("%v for %s: %q, want %q", test.places, test.repository, users, test.want)
		}
	}
}

func TestAdd(t *testing.T) {
	auth := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	var ring Keyring
	old := &corev1.Secret{Type: corev1.SecretTypeDockercfg, Data: map[string][]byte{
		corev1.DockerConfigKey: []byte(`{"r.example": {"username": "ignored", "auth": "` + auth("old:a:b") + `", "email": "x@y"}}`)}}
	for _, s := range []*corev1.Secret{
		old,
		configJSON("new", `{"auths": {"r.example": {"auth": "`+strings.TrimRight(auth("new:pw"), "=")+`"}}, "credsStore": "x"}`),
		configJSON("same", `{"auths": {"r.example": {"username": "new", "password": "pw"}}}`),
		configJSON("empty", `{}`),
		{Type: corev1.SecretTypeOpaque, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte("{")}},
		{Type: corev1.SecretTypeDockerConfigJson},
	} {
		if err := ring.Add(s); err != nil {
			t.Error(err)
		}
	}
	if got, want := ring.Lookup("r.example/app"), []Credential{{"old", "a:b"}, {"new", "pw"}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for json, want := range map[string]string{
		`{`:                                    `secret "bad": key ".dockerconfigjson": `,
		`{"auths": []}`:                        "cannot unmarshal",
		`{"auths": {"r": {"auth": "!"}}}`:      `auth of "r": it is not base64`,
		`{"auths": {"r": {"auth": "bm9uZQ"}}}`: "must be base64 of user:password",
	} {
		if err := new(Keyring).Add(configJSON("bad", json)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", json, err, want)
		}
	}
}

// Whatever a secret holds, it is read or refused, and what is found is in it.
func FuzzKeyring(f *testing.F) {
	f.Add([]byte(`{"auths": {"r.example:5000/team": {"username": "u", "password": "p"}}}`), "r.example:5000/team/app")
	f.Add([]byte(`{"auths": {"*.[a-z].io": {"auth": "dTpw"}}}`), "x.b.io/app")
	f.Add([]byte(`{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}`), "docker.io/library/httpd")
	f.Fuzz(func(t *testing.T, data []byte, repository string) {
		for _, s := range []*corev1.Secret{
			configJSON("s", string(data)),
			{Type: corev1.SecretTypeDockercfg, Data: map[string][]byte{corev1.DockerConfigKey: data}},
		} {
			var ring Keyring
			if err := ring.Add(s); err != nil {
				if len(ring.entries) > 0 {
					t.Errorf("refused and kept: %v", ring.entries)
				}
				continue
			}
			found := ring.Lookup(repository)
			for i, c := range found {
				if !slices.ContainsFunc(ring.entries, func(e entry) bool { return e.Credential == c }) || slices.Contains(found[:i], c) {
					t.Errorf("%v is not in the secret or twice", c)
				}
			}
		}
	})
}
