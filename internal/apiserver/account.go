package apiserver

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/utils/ptr"
)

const (
	defaultAccount = "default"

	// accessPath is where a pod finds its ServiceAccount's token.
	accessPath = "/var/run/secrets/kubernetes.io/serviceaccount"

	// accessVolume begins the name of the volume with it.
	accessVolume = "kube-api-access-"

	// accessSeconds is the life of that token: an hour, and some seconds by which
	// one can tell it from others.
	accessSeconds = int64(60*60 + 7)
)

// giveAccount gives a new pod its ServiceAccount, and that account's token and
// image pull secrets. A ServiceAccount that is not there is refused, but for the
// default one: every namespace has it, or will in a moment.
func (p podAdmission) giveAccount(ctx context.Context, a admission.Attributes, spec *corev1.PodSpec) error {
	if spec.ServiceAccountName == "" {
		spec.ServiceAccountName = defaultAccount
	}
	account := &corev1.ServiceAccount{}
	found, err := p.accounts.Get(ctx, spec.ServiceAccountName, &metav1.GetOptions{})
	switch {
	case err == nil:
		account = found.(*corev1.ServiceAccount)
	case apierrors.IsNotFound(err) && spec.ServiceAccountName == defaultAccount:
	default:
		if apierrors.IsNotFound(err) { // the store tells the request's resource
			err = apierrors.NewNotFound(corev1.Resource("serviceaccounts"), spec.ServiceAccountName)
		}
		return admission.NewForbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.GetNamespace(), spec.ServiceAccountName, err))
	}
	if automounts(spec, account) {
		mountAccess(spec)
	}
	if len(spec.ImagePullSecrets) == 0 {
		spec.ImagePullSecrets = slices.Clone(account.ImagePullSecrets)
	}
	return nil
}

// automounts: what the pod says holds, else what its account says, else yes.
func automounts(spec *corev1.PodSpec, account *corev1.ServiceAccount) bool {
	for _, said := range []*bool{spec.AutomountServiceAccountToken, account.AutomountServiceAccountToken} {
		if said != nil {
			return *said
		}
	}
	return true
}

// mountAccess mounts the token into the containers that have nothing at its place.
func mountAccess(spec *corev1.PodSpec) {
	name, has := "", false
	for _, v := range spec.Volumes {
		if strings.HasPrefix(v.Name, accessVolume) {
			name, has = v.Name, true
			break
		}
	}
	if !has {
		name = names.SimpleNameGenerator.GenerateName(accessVolume)
	}
	mounted := false
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			c := &list[i]
			if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == accessPath }) {
				continue
			}
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: accessPath})
			mounted = true
		}
	}
	if mounted && !has {
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: access()}})
	}
}

// access is a token with what its bearer needs to use it.
func access() *corev1.ProjectedVolumeSource {
	return &corev1.ProjectedVolumeSource{
		DefaultMode: ptr.To(corev1.ProjectedVolumeSourceDefaultMode),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To(accessSeconds)}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}
}
