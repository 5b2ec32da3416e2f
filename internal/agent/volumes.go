package agent

import (
	"context"
	"fmt"
	"maps"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/agent/volume"
)

// freshen has the volumes of a pod that runs follow what they are made of.
func (l *life) freshen() {
	if len(l.running()) == 0 || !volume.Follows(l.pod) {
		return
	}
	due := l.seen.VolumesDue
	switch {
	case !l.seen.Volumes:
		l.do(Act{Kind: ActPrepareVolumes, Why: "what they are made of may have changed while no agent ran"})
	case l.seen.VolumesAt != l.seen.VolumeChanges:
		l.do(Act{Kind: ActPrepareVolumes, Why: "what the pod's volumes are made of has changed"})
	case !due.IsZero() && !l.now.Before(due):
		l.do(Act{Kind: ActPrepareVolumes, Why: "a token is to be renewed"})
	case !due.IsZero():
		l.wake(due)
	}
}

func (w *worker) volumesWork() work {
	a, pod, first, at := w.agent, w.pod, !w.seen.Volumes, w.seen.VolumeChanges
	return func(ctx context.Context) (func(), error) {
		due, err := a.prepareVolumes(ctx, pod, first)
		return func() { w.seen.Volumes, w.seen.VolumesAt, w.seen.VolumesDue = true, at, due }, err
	}
}

// prepareVolumes makes a pod's volumes, or brings those up to date that follow
// what they are made of, and returns when that is due again.
func (a *Agent) prepareVolumes(ctx context.Context, pod *corev1.Pod, first bool) (time.Time, error) {
	from := volume.Sources{
		Objects: apiSource{ctx, a.volumeReader(), pod.Namespace, ""},
		Claims:  a.claims(ctx, pod),
		Tokens:  tokenSource{ctx, a.cfg.Client, pod},
		Facts:   a.facts(""),
	}
	switch {
	case a.cfg.NoFiles:
		return time.Time{}, volume.Check(pod, from)
	case first:
		return volume.Prepare(a.volumesDir(pod), pod, from)
	}
	return volume.Refresh(a.volumesDir(pod), pod, from)
}

// volumeReader reads what volumes are made of past the cache, which may be behind
// the watches that tell of changes.
func (a *Agent) volumeReader() client.Reader {
	if a.cfg.NoFiles || a.cfg.Direct == nil {
		return a.cfg.Client
	}
	return a.cfg.Direct
}

// follow and unfollow begin and end the watches of what a pod's volumes are made of.
func (a *Agent) follow(w *worker) {
	if a.follower != nil {
		a.follower.follow(a.ctx, w.materials)
	}
}

func (a *Agent) unfollow(w *worker) {
	if a.follower != nil {
		a.follower.leave(w.materials)
	}
}

// tokenSource has the API issue tokens of a pod's ServiceAccount that end with
// the pod.
type tokenSource struct {
	ctx    context.Context // it lives as long as one act
	client client.Client
	pod    *corev1.Pod
}

// Token implements volume.Tokens.
func (s tokenSource) Token(audience string, seconds int64) (string, error) {
	name := s.pod.Spec.ServiceAccountName
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: s.pod.Name, UID: s.pod.UID},
	}}
	if audience != "" {
		request.Spec.Audiences = []string{audience}
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.pod.Namespace, Name: name}}
	if err := s.client.SubResource("token").Create(s.ctx, account, request); err != nil {
		return "", fmt.Errorf("failed to fetch token: %w", err)
	}
	return request.Status.Token, nil
}

// materialChanged tells the workers whose volumes are made of a ConfigMap or
// Secret that it has come, changed or gone.
func (a *Agent) materialChanged(material volume.Material) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		if w.materials[material] {
			w.post(func() {
				w.seen.VolumeChanges++
				delete(w.seen.Failures, Act{Kind: ActPrepareVolumes}.Key()) // it may be what was missing
			})
		}
	}
}

// retold: the downward API tells something else of a pod than before.
func retold(old, pod *corev1.Pod) bool {
	return !maps.Equal(old.Labels, pod.Labels) || !maps.Equal(old.Annotations, pod.Annotations) ||
		!equality.Semantic.DeepEqual(old.Spec.Containers, pod.Spec.Containers)
}
