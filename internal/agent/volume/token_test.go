package volume

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// issuer gives tokens that are so old and good for so long, and counts them.
type issuer struct {
	age, life time.Duration
	issued    int
	fails     bool
}

func (i *issuer) Token(audience string, seconds int64) (string, error) {
	if i.fails {
		return "", errors.New("no token today")
	}
	i.issued++
	begin := time.Now().Add(-i.age).Unix()
	return unsigned(fmt.Sprintf(`{"iat":%d,"exp":%d,"aud":[%q],"jti":"%d","seconds":%d}`, begin, begin+int64(i.life.Seconds()), audience, i.issued, seconds)), nil
}

func unsigned(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func tokenPod() *corev1.Pod {
	seconds := int64(600)
	return podWith(corev1.Volume{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}}},
	}}})
}

// A token stays until it has lived four fifths of its life, whoever looks.
func TestTokenRenewal(t *testing.T) {
	dir, i := t.TempDir(), &issuer{life: 10 * time.Minute}
	refresh := func() time.Time {
		t.Helper()
		due, err := Refresh(dir, tokenPod(), Sources{Tokens: i})
		if err != nil {
			t.Fatal(err)
		}
		return due
	}
	due := refresh()
	if left := time.Until(due); left < 7*time.Minute || left > 8*time.Minute {
		t.Errorf("renewal in %s, want 8m", left)
	}
	if again := refresh(); !again.Equal(due) || i.issued != 1 {
		t.Errorf("renewal at %s, then at %s; %d issued, want 1", due, again, i.issued)
	}
	old := &issuer{age: 9 * time.Minute, life: 10 * time.Minute}
	dir, i = t.TempDir(), old
	refresh()
	if refresh(); i.issued != 2 {
		t.Errorf("%d issued, want 2: the first is old", i.issued)
	}
	i.fails = true // what is still good stays, for a while
	if left := time.Until(refresh()); left > tokenPatience {
		t.Errorf("tried again in %s", left)
	}
	dir = t.TempDir()
	if _, err := Refresh(dir, tokenPod(), Sources{Tokens: i}); err == nil {
		t.Error("no error without a token")
	}
	year := &issuer{life: 365 * 24 * time.Hour}
	i = year
	if left := time.Until(refresh()); left > tokenAge {
		t.Errorf("a token of a year stays %s", left)
	}
}

// A token may be read by the user and group of the pod only, if these are known.
func TestTokenOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("giving files away needs root")
	}
	user, other := int64(77), int64(78)
	for want, change := range map[string]func(*corev1.Pod){
		"0:0 -rw-r--r--":  func(*corev1.Pod) {},
		"77:0 -rw-------": func(pod *corev1.Pod) { pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user} },
		"0:5 -rw-r-----":  func(pod *corev1.Pod) { withGroup(pod, 5, corev1.FSGroupChangeAlways) },
		"77:5 -rw-r-----": func(pod *corev1.Pod) {
			withGroup(pod, 5, corev1.FSGroupChangeAlways).Spec.SecurityContext.RunAsUser = &user
		},
		"0:6 -rw-r-----": func(pod *corev1.Pod) {
			withGroup(pod, 6, corev1.FSGroupChangeAlways).Spec.SecurityContext.RunAsUser = &user
			pod.Spec.Containers[1].SecurityContext = &corev1.SecurityContext{RunAsUser: &other}
		},
	} {
		pod, dir := tokenPod(), t.TempDir()
		pod.Spec.Containers = make([]corev1.Container, 2)
		change(pod)
		if _, err := Refresh(dir, pod, Sources{Tokens: &issuer{life: time.Hour}}); err != nil {
			t.Fatal(err)
		}
		path, err := filepath.EvalSymlinks(filepath.Join(dir, "t", "token"))
		if err != nil {
			t.Fatal(err)
		}
		if got := owner(t, path); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func FuzzTokenTimes(f *testing.F) {
	f.Add(unsigned(`{"iat":1,"exp":2}`))
	f.Add(unsigned(`{"iat":-1e300,"exp":1e300}`))
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		if life, ok := tokenTimes(text); ok && (life.end.Before(life.begin) || life.renewal().After(life.end)) {
			t.Errorf("%v is renewed at %s", life, life.renewal())
		}
	})
}
