package apiserver_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const accessPath = "/var/run/secrets/kubernetes.io/serviceaccount"

func TestPodsGetTheirAccount(t *testing.T) {
	client, _ := start(t)
	for name, automount := range map[string]*bool{"plain": nil, "shy": ptr.To(false)} {
		must[*corev1.ServiceAccount](t)(client.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{
			ObjectMeta: metav1.ObjectMeta{Name: name}, AutomountServiceAccountToken: automount,
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
		}, metav1.CreateOptions{}))
	}
	own := []corev1.LocalObjectReference{{Name: "own"}}
	for _, test := range []struct {
		name    string
		change  func(*corev1.PodSpec)
		mounted []string // containers that the token is mounted into
		pull    string
	}{
		{"default", func(*corev1.PodSpec) {}, []string{"init", "main"}, ""}, // no such account yet
		{"plain", func(s *corev1.PodSpec) { s.ServiceAccountName = "plain" }, []string{"init", "main"}, "pull"},
		{"refuses", func(s *corev1.PodSpec) { s.ServiceAccountName, s.AutomountServiceAccountToken = "plain", ptr.To(false) }, nil, "pull"},
		{"shy", func(s *corev1.PodSpec) { s.ServiceAccountName = "shy" }, nil, "pull"},
		{"insists", func(s *corev1.PodSpec) { s.ServiceAccountName, s.AutomountServiceAccountToken = "shy", ptr.To(true) }, []string{"init", "main"}, "pull"},
		{"own", func(s *corev1.PodSpec) { s.ServiceAccountName, s.ImagePullSecrets = "plain", own }, []string{"init", "main"}, "own"},
		{"taken", func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{Name: "mine", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
			s.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "mine", MountPath: accessPath}}
		}, []string{"init"}, ""},
	} {
		p := pod(test.name)
		p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "busybox"}}
		test.change(&p.Spec)
		made := must[*corev1.Pod](t)(client.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{}))
		var mounted []string
		volume := ""
		for _, c := range slices.Concat(made.Spec.InitContainers, made.Spec.Containers) {
			for _, m := range c.VolumeMounts {
				if strings.HasPrefix(m.Name, "kube-api-access-") && m.MountPath == accessPath && m.ReadOnly {
					mounted, volume = append(mounted, c.Name), m.Name
				}
			}
		}
		if !slices.Equal(mounted, test.mounted) {
			t.Errorf("%s: mounted into %q, want %q", test.name, mounted, test.mounted)
		}
		i := slices.IndexFunc(made.Spec.Volumes, func(v corev1.Volume) bool { return strings.HasPrefix(v.Name, "kube-api-access-") })
		if (i >= 0) != (test.mounted != nil) {
			t.Errorf("%s: volumes %+v", test.name, made.Spec.Volumes)
		}
		if i >= 0 {
			v := made.Spec.Volumes[i]
			if v.Name != volume || v.Projected == nil || len(v.Projected.Sources) != 3 || *v.Projected.Sources[0].ServiceAccountToken.ExpirationSeconds != 3607 || *v.Projected.DefaultMode != 0o644 {
				t.Errorf("%s: %+v", test.name, v)
			}
		}
		pull := ""
		if len(made.Spec.ImagePullSecrets) > 0 {
			pull = made.Spec.ImagePullSecrets[0].Name
		}
		if pull != test.pull {
			t.Errorf("%s: image pull secrets %v, want %q", test.name, made.Spec.ImagePullSecrets, test.pull)
		}
	}
}
