// Package keyring finds the credentials of an image among the image pull secrets
// of a pod, by the rules of Kubernetes
// (https://kubernetes.io/docs/concepts/containers/images/#config-json).
package keyring

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Credential is who somebody is to a registry.
type Credential struct{ Username, Password string }

// Keyring is the content of secrets: what to say at which place.
type Keyring struct{ entries []entry }

// entry is a credential with the registry, and the path of repositories in it,
// that it is for: "registry.example:5000/team", "*.example".
type entry struct {
	place string
	Credential
}

// Add puts the credentials of a secret onto the ring. Those of secrets that were
// added before come first where both are for the same place. A secret of another
// type than kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg has none.
// An error names the key of the secret that cannot be read.
func (k *Keyring) Add(secret *corev1.Secret) error {
	switch secret.Type {
	case corev1.SecretTypeDockerConfigJson:
		return k.addFrom(secret, corev1.DockerConfigJsonKey, parseConfigJSON)
	case corev1.SecretTypeDockercfg:
		return k.addFrom(secret, corev1.DockerConfigKey, parseConfig)
	}
	return nil
}

func (k *Keyring) addFrom(secret *corev1.Secret, key string, parse func([]byte) ([]entry, error)) error {
	data := secret.Data[key]
	if len(data) == 0 {
		return nil
	}
	entries, err := parse(data)
	if err != nil {
		return fmt.Errorf("secret %q: key %q: %w", secret.Name, key, err)
	}
	k.entries = append(k.entries, entries...)
	return nil
}

// parseConfigJSON reads Docker's config.json.
func parseConfigJSON(data []byte) ([]entry, error) {
	var file struct {
		Auths json.RawMessage `json:"auths"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	if len(file.Auths) == 0 {
		return nil, nil
	}
	return parseConfig(file.Auths)
}

// parseConfig reads Docker's old .dockercfg, which is what config.json has as
// auths. What is no place is left out, as Kubernetes does.
func parseConfig(data []byte) ([]entry, error) {
	var auths map[string]struct {
		Username, Password, Auth string
	}
	if err := json.Unmarshal(data, &auths); err != nil {
		return nil, err
	}
	var entries []entry
	for where, auth := range auths {
		e := entry{Credential: Credential{auth.Username, auth.Password}}
		var err error
		if auth.Auth != "" {
			if e.Credential, err = parseAuth(auth.Auth); err != nil {
				return nil, fmt.Errorf("auth of %q: %w", where, err)
			}
		}
		if e.place, err = placeOf(where); err == nil {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(strings.Compare(a.place, b.place), strings.Compare(a.Username, b.Username), strings.Compare(a.Password, b.Password))
	})
	return entries, nil
}

// parseAuth reads base64 of "user:password", padded or not.
func parseAuth(auth string) (Credential, error) {
	plain, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(auth), "="))
	if err != nil {
		return Credential{}, errors.New("it is not base64")
	}
	user, password, found := strings.Cut(string(plain), ":")
	if !found {
		return Credential{}, errors.New("it must be base64 of user:password")
	}
	return Credential{user, password}, nil
}

// placeOf cuts the scheme off a key, and the version of the registry's API.
func placeOf(where string) (string, error) {
	if !strings.HasPrefix(where, "https://") && !strings.HasPrefix(where, "http://") {
		where = "https://" + where
	}
	parsed, err := url.Parse(where)
	if err != nil {
		return "", err
	}
	under := parsed.Path
	if strings.HasPrefix(under, "/v1/") || strings.HasPrefix(under, "/v2/") {
		under = under[3:]
	}
	if under == "/" {
		under = ""
	}
	return parsed.Host + under, nil
}

// hub is the place of Docker Hub's credentials, whose images bear docker.io.
const hub = "index.docker.io"

// Lookup returns the credentials for an image's repository, normalised and
// without tag ("docker.io/library/httpd"), in the order in which to try them:
// those for longer paths first. The same is not returned twice.
func (k *Keyring) Lookup(repository string) []Credential {
	found := k.matching(func(place string) bool { return covers(place, repository) })
	if domain, _, _ := strings.Cut(repository, "/"); len(found) == 0 && (domain == "docker.io" || domain == hub) {
		found = k.matching(func(place string) bool { return place == hub })
	}
	return found
}

func (k *Keyring) matching(match func(place string) bool) []Credential {
	var places []string
	for _, e := range k.entries {
		if match(e.place) && !slices.Contains(places, e.place) {
			places = append(places, e.place)
		}
	}
	slices.Sort(places)
	slices.Reverse(places)
	var found []Credential
	for _, place := range places {
		for _, e := range k.entries {
			if e.place == place && !slices.Contains(found, e.Credential) {
				found = append(found, e.Credential)
			}
		}
	}
	return found
}

// covers tells whether a place is that of a repository: the same port, a name
// whose every part matches ("*.example" has two), and a path that begins so.
func covers(place, repository string) bool {
	glob, err := url.Parse("https://" + place)
	if err != nil {
		return false
	}
	target, err := url.Parse("https://" + repository)
	if err != nil {
		return false
	}
	globParts, globPort := splitHost(glob.Host)
	parts, port := splitHost(target.Host)
	if globPort != port || len(globParts) != len(parts) || !strings.HasPrefix(target.Path, glob.Path) {
		return false
	}
	for i := range parts {
		if matched, err := path.Match(globParts[i], parts[i]); err != nil || !matched {
			return false
		}
	}
	return true
}

func splitHost(host string) (parts []string, port string) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, ""
	}
	return strings.Split(name, "."), port
}
