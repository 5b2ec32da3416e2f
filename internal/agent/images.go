package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/agent/keyring"
	"windlass.dev/windlass/internal/condition"
)

// imageRecheckEvery is how often it is looked whether an image that could not be
// had may be had now, while its back-off lasts.
const imageRecheckEvery = 2 * time.Second

// recheckImage looks whether what kept an image from being had has changed.
func (l *life) recheckImage(n needed) {
	failure, failed := l.failure(ActEnsureImage, n.spec.Name)
	if !failed || failure.Reason == ReasonInvalidImageName || l.seen.InFlight[Act{Kind: ActEnsureImage, Container: n.spec.Name}.Key()] {
		return
	}
	due := failure.At.Add(imageRecheckEvery)
	if checked := l.seen.ImageChecked[n.spec.Name]; checked.After(failure.At) {
		due = checked.Add(imageRecheckEvery)
	}
	if l.now.Before(due) {
		l.wake(due)
		return
	}
	l.do(Act{Kind: ActRecheckImage, Container: n.spec.Name, Attempt: n.attempt, Why: "image " + n.spec.Image + " could not be had"})
}

// imageError is an image that cannot be had, with the reason for the status.
type imageError struct {
	reason string
	err    error
}

func (e *imageError) Error() string { return e.err.Error() }
func (e *imageError) Unwrap() error { return e.err }

func (w *worker) imageWork(act Act, spec *corev1.Container) work {
	pod := w.pod
	return func(ctx context.Context) (func(), error) {
		image, err := w.ensureImage(ctx, pod, spec)
		return func() { w.seen.Images[act.Container] = FoundImage{act.Attempt, image} }, err
	}
}

// ensureImage finds or pulls a container's image, as its imagePullPolicy says.
func (w *worker) ensureImage(ctx context.Context, pod *corev1.Pod, spec *corev1.Container) (*Image, error) {
	if _, err := reference.ParseAnyReference(spec.Image); err != nil {
		return nil, &imageError{ReasonInvalidImageName, fmt.Errorf("Failed to apply default image tag %q: couldn't parse image name %q: %w", spec.Image, spec.Image, err)}
	}
	if spec.ImagePullPolicy != corev1.PullAlways {
		image, err := w.agent.cfg.Images.Find(ctx, spec.Image)
		switch {
		case err == nil:
			w.tellLater(spec, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine", spec.Image)
			return image, nil
		case !errors.Is(err, ErrImageNotFound):
			return nil, &imageError{ReasonImageInspect, fmt.Errorf("Failed to inspect image %q: %w", spec.Image, err)}
		case spec.ImagePullPolicy == corev1.PullNever:
			return nil, &imageError{ReasonImageNeverPull, fmt.Errorf("Container image %q is not present with pull policy of Never", spec.Image)}
		}
	}
	secrets, err := w.readPullSecrets(ctx, pod)
	if err != nil {
		return nil, &imageError{ReasonImagePull, err}
	}
	image, err := w.pullImage(ctx, spec, secrets)
	if err != nil {
		return nil, &imageError{ReasonImagePull, err}
	}
	return image, nil
}

// tellLater records an Event about a container from beside the worker.
func (w *worker) tellLater(spec *corev1.Container, eventType, reason, format string, args ...any) {
	event := Event{spec.Name, eventType, reason, fmt.Sprintf(format, args...)}
	w.post(func() { w.tell(event) })
}

// readPullSecrets reads the pod's pull secrets. Of those that are missing an
// Event tells, and the pull is tried without.
func (w *worker) readPullSecrets(ctx context.Context, pod *corev1.Pod) (pullSecrets, error) {
	secrets, err := w.agent.pullSecrets(ctx, pod)
	if err != nil {
		return pullSecrets{}, err
	}
	w.post(func() {
		w.pullSecrets = secrets.version
		if len(secrets.missing) > 0 {
			w.tell(Event{"", corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret", fmt.Sprintf(
				"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(secrets.missing, ", "))})
		}
	})
	return secrets, nil
}

// pullImage pulls a container's image and tells of it.
func (w *worker) pullImage(ctx context.Context, spec *corev1.Container, secrets pullSecrets) (*Image, error) {
	ring, err := secrets.keyring()
	if err != nil {
		return nil, err
	}
	w.tellLater(spec, corev1.EventTypeNormal, "Pulling", "Pulling image %q", spec.Image)
	var at atomic.Pointer[PullProgress]
	asked, began := time.Now(), atomic.Pointer[time.Time]{}
	reporting, stop := context.WithCancel(ctx)
	defer stop()
	go w.reportPull(reporting, spec, asked, &at)
	image, err := w.agent.cfg.Images.Pull(ctx, spec.Image, PullOptions{
		Credentials: ring.Lookup(repositoryOf(spec.Image)),
		Progress: func(p PullProgress) {
			now := time.Now()
			began.CompareAndSwap(nil, &now)
			at.Store(&p)
		},
	})
	if err != nil {
		return nil, err
	}
	waited := time.Since(asked).Round(time.Millisecond)
	took := waited
	if turn := began.Load(); turn != nil {
		took = time.Since(*turn).Round(time.Millisecond)
	}
	w.tellLater(spec, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %s (%s including waiting). Image size: %d bytes.", spec.Image, took, waited, image.Size)
	return image, nil
}

// repositoryOf is the name of an image without its tag or digest, normalised.
func repositoryOf(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image // an ID: it is in no registry
	}
	return named.Name()
}

// reportPull tells of a pull that takes long: after ten seconds, and then each
// time that twice as long has passed.
func (w *worker) reportPull(ctx context.Context, spec *corev1.Container, began time.Time, at *atomic.Pointer[PullProgress]) {
	for pause := 10 * time.Second; ; pause *= 2 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(began.Add(pause))):
			w.tellLater(spec, corev1.EventTypeNormal, "Pulling", "%s", pullReport(spec.Image, time.Since(began), at.Load()))
		}
	}
}

// pullReport says how far a pull is; at is nil while it waits for its turn.
func pullReport(image string, elapsed time.Duration, at *PullProgress) string {
	elapsed = elapsed.Round(time.Second)
	if at == nil {
		return fmt.Sprintf("Still waiting to pull image %q after %s: other pulls are under way", image, elapsed)
	}
	return fmt.Sprintf("Still pulling image %q after %s: %d of %d layers, %.1f of %.1f MB", image, elapsed,
		at.LayersDone, at.Layers, float64(at.BytesDone)/1e6, float64(at.Bytes)/1e6)
}

// recheckWork looks whether an image that could not be had may be had now: it
// has come onto the node, or the pod's pull secrets have changed. Then the
// back-off is over.
func (w *worker) recheckWork(act Act, spec *corev1.Container) work {
	a, pod, tried := w.agent, w.pod, w.pullSecrets
	return func(ctx context.Context) (func(), error) {
		changed := false
		if spec.ImagePullPolicy != corev1.PullAlways {
			_, err := a.cfg.Images.Find(ctx, spec.Image)
			changed = err == nil
		}
		if !changed && spec.ImagePullPolicy != corev1.PullNever && len(pod.Spec.ImagePullSecrets) > 0 {
			secrets, err := a.pullSecrets(ctx, pod)
			if err != nil {
				return nil, err
			}
			changed = secrets.version != tried
		}
		return func() { w.seen.Recheck(act.Container, changed, time.Now()) }, nil
	}
}

// Recheck takes in whether what kept an image from being had has changed. If so
// its back-off is over, and begins anew with the next failure.
func (seen *Observed) Recheck(container string, changed bool, at time.Time) {
	seen.ImageChecked[container] = at
	key := Act{Kind: ActEnsureImage, Container: container}.Key()
	if failure, ok := seen.Failures[key]; ok && changed {
		failure.At, failure.Count = time.Time{}, 0
		seen.Failures[key] = failure
	}
}

// pullSecrets are a pod's image pull secrets as they are.
type pullSecrets struct {
	found   []*corev1.Secret
	missing []string
	version string // changes when one of them does
}

// pullSecrets reads a pod's image pull secrets from the API.
func (a *Agent) pullSecrets(ctx context.Context, pod *corev1.Pod) (pullSecrets, error) {
	var all pullSecrets
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue // the API allows it, it means nothing
		}
		secret := &corev1.Secret{}
		err := a.cfg.Client.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: ref.Name}, secret)
		switch {
		case apierrors.IsNotFound(err):
			all.missing = append(all.missing, ref.Name)
			all.version += ref.Name + " missing\n"
		case err != nil:
			return pullSecrets{}, fmt.Errorf("get image pull secret %q: %w", ref.Name, err)
		default:
			all.found = append(all.found, secret)
			all.version += ref.Name + " " + string(secret.UID) + " " + secret.ResourceVersion + "\n"
		}
	}
	return all, nil
}

func (s pullSecrets) keyring() (*keyring.Keyring, error) {
	ring := &keyring.Keyring{}
	for _, secret := range s.found {
		if err := ring.Add(secret); err != nil {
			return nil, fmt.Errorf("image pull %w", err)
		}
	}
	return ring, nil
}

// imageCollectEvery is how often the disk is looked at for images to delete, as
// the kubelet does.
const imageCollectEvery = 5 * time.Minute

// keepImages deletes images that nobody uses when the disk is full, until ctx
// ends, and tells when that is not enough.
func (a *Agent) keepImages(ctx context.Context) {
	for ctx.Err() == nil {
		if err := a.cfg.Images.Collect(ctx); err != nil && ctx.Err() == nil {
			a.cfg.Log.Error("Image garbage collection", "err", err)
			for _, reason := range collectReasons(err) {
				a.cfg.Recorder.Event(a.nodeReference(), corev1.EventTypeWarning, reason, err.Error())
			}
		}
		rest(ctx, imageCollectEvery)
	}
}

// collectReasons are the reasons of the Events that tell why images could not be
// collected, as the kubelet's.
func collectReasons(err error) []string {
	if errors.Is(err, ErrNotEnoughFreed) {
		return []string{"FreeDiskSpaceFailed", "ImageGCFailed"}
	}
	return []string{"ImageGCFailed"}
}

// ImagesInUse returns the images that must stay on a node, by ID ("sha256:…") or
// reference, each with who uses it: those of all containers that its runtime has
// a record of, and those of its pods that have not finished. pods lists all pods
// of the cluster; it may be nil for none.
func ImagesInUse(ctx context.Context, runtime Runtime, pods client.Reader, nodeName string) (map[string][]string, error) {
	containers, err := runtime.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var list corev1.PodList
	if pods != nil {
		if err := pods.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list pods: %w", err)
		}
	}
	used, titles := map[string][]string{}, map[string]string{}
	for i := range list.Items {
		pod := &list.Items[i]
		if pod.Spec.NodeName != nodeName {
			continue
		}
		title := "pod " + pod.Namespace + "/" + pod.Name
		titles[string(pod.UID)] = title
		if condition.Ended(pod.Status.Phase) {
			continue
		}
		for _, image := range imagesOfPod(pod) {
			used[image] = append(used[image], title)
		}
	}
	for _, c := range containers {
		for _, id := range append(slices.Clone(c.VolumeImageIDs), c.ImageID) {
			used[id] = append(used[id], cmp.Or(titles[c.PodUID], "container "+c.Name))
		}
	}
	return used, nil
}

// imagesOfPod are the references of all images that a pod needs.
func imagesOfPod(pod *corev1.Pod) []string {
	var images []string
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		images = append(images, c.Image)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		images = append(images, c.Image)
	}
	for _, v := range pod.Spec.Volumes {
		if v.Image != nil {
			images = append(images, v.Image.Reference)
		}
	}
	return images
}
