package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/agent/podlog"
	"windlass.dev/windlass/internal/agent/probe"
	"windlass.dev/windlass/internal/agent/volume"
	"windlass.dev/windlass/internal/condition"
)

// work does an act. It runs beside the worker and touches nothing of its; learn
// is called by the worker if err is nil.
type work func(ctx context.Context) (learn func(), err error)

// prepare takes from the worker what an act needs to know.
func (w *worker) prepare(act Act) work {
	spec := containerSpecOf(w.pod, act.Container)
	switch act.Kind {
	case ActSetupNetwork:
		return w.setupWork()
	case ActPrepareVolumes:
		return w.volumesWork()
	case ActEnsureImage:
		return w.imageWork(act, spec)
	case ActRecheckImage:
		return w.recheckWork(act, spec)
	case ActStart:
		return w.startWork(act)
	case ActProbe:
		return w.probeWork(act, spec)
	case ActLook:
		return w.lookWork()
	case ActAwait:
		return w.awaitWork(act)
	case ActPostStart:
		return w.postStartWork(act, spec)
	case ActPreStop:
		return w.preStopWork(act, spec)
	case ActStop, ActKill:
		return w.signalWork(act, spec)
	case ActResize:
		return w.resizeWork()
	case ActRemove:
		return w.removeWork(act)
	case ActTeardownNetwork:
		return w.teardownWork()
	case ActRemoveVolumes:
		return w.removeVolumesWork()
	case ActCleanUp:
		return w.cleanUpWork()
	case ActDeletePod:
		return w.deleteWork()
	}
	return func(context.Context) (func(), error) { return nil, fmt.Errorf("no such act: %s", act.Kind) }
}

func (w *worker) setupWork() work {
	a, pod := w.agent, w.pod
	return func(ctx context.Context) (func(), error) {
		users, err := a.usersOf(pod)
		if err != nil {
			return nil, err
		}
		network, err := a.cfg.Network.Setup(ctx, string(pod.UID), users)
		return func() { w.seen.Network, w.seen.NetworkStale = &network, false }, err
	}
}

func (w *worker) teardownWork() work {
	a, uid := w.agent, string(w.pod.UID)
	return func(ctx context.Context) (func(), error) {
		err := a.cfg.Network.Teardown(ctx, uid)
		return func() { w.seen.Network, w.seen.Looks = nil, nil }, err
	}
}

// lookWork looks at a pod's sockets. In the node's own network namespace these
// are the ones at the ports that the pod declares.
func (w *worker) lookWork() work {
	a, uid, ports := w.agent, string(w.pod.UID), podPorts(w.pod)
	host := w.pod.Spec.HostNetwork
	if host {
		uid = ""
	}
	return func(ctx context.Context) (func(), error) {
		look := Look{At: time.Now()}
		var err error
		look.Sockets, err = a.cfg.Network.Sockets(ctx, uid)
		if host {
			look.Sockets = slices.DeleteFunc(look.Sockets, func(s Socket) bool { return !slices.Contains(ports, s.LocalPort) })
		}
		return func() {
			before := w.seen.Looks[max(0, len(w.seen.Looks)-1):]
			w.seen.Looks = append(slices.Clone(before), look)
		}, err
	}
}

func (w *worker) awaitWork(act Act) work {
	a := w.agent
	return func(ctx context.Context) (func(), error) {
		err := a.await(ctx, act.Version)
		return func() { w.seen.Awaited = max(w.seen.Awaited, act.Version) }, err
	}
}

func (w *worker) removeVolumesWork() work {
	a, dir := w.agent, w.agent.volumesDir(w.pod)
	return func(context.Context) (func(), error) {
		var err error
		if !a.cfg.NoFiles {
			err = volume.Remove(dir)
		}
		return func() { w.seen.VolumesGone = true }, err
	}
}

func (w *worker) cleanUpWork() work {
	a, pod := w.agent, w.pod
	return func(context.Context) (func(), error) {
		err := a.cleanUp(pod)
		return func() { w.seen.CleanedUp = true }, err
	}
}

func (w *worker) deleteWork() work {
	a, pod, last := w.agent, w.pod, w.want
	return func(ctx context.Context) (func(), error) {
		err := a.deletePod(ctx, pod, last)
		return func() { w.seen.Deleted = true }, err
	}
}

func (w *worker) progress(id string, change func(*StopProgress)) {
	p := w.seen.Stops[id]
	change(&p)
	w.seen.Stops[id] = p
}

// configError is a spec that cannot be resolved: what it refers to is missing.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

// reasonOf is the waiting reason that tells of a failed act.
func reasonOf(kind ActKind, err error) string {
	var image *imageError
	var config *configError
	switch {
	case errors.As(err, &image):
		return image.reason
	case errors.As(err, &config):
		return ReasonConfigError
	case kind == ActStart:
		return ReasonRunError
	case kind == ActEnsureImage:
		return ReasonImagePull
	}
	return ReasonContainerCreating
}

// tellFailure tells of a failed act as Kubernetes does.
func (w *worker) tellFailure(act Act, failure Failure) {
	warn := func(container, reason, message string) {
		w.tell(Event{container, corev1.EventTypeWarning, reason, message})
	}
	switch act.Kind {
	case ActSetupNetwork:
		warn("", "FailedCreatePodSandBox", "Failed to create pod sandbox: "+failure.Message)
	case ActPrepareVolumes:
		warn("", "FailedMount", failure.Message)
	case ActEnsureImage:
		if failure.Reason == ReasonImagePull {
			image := containerSpecOf(w.pod, act.Container).Image
			warn(act.Container, "Failed", fmt.Sprintf("Failed to pull image %q: %s", image, failure.Message))
			warn(act.Container, "Failed", "Error: "+failure.Reason)
			return
		}
		reason := failure.Reason
		if reason == ReasonInvalidImageName || reason == ReasonImageInspect {
			reason = "InspectFailed"
		}
		warn(act.Container, reason, failure.Message)
		warn(act.Container, "Failed", "Error: "+failure.Reason)
	case ActResize:
		if failure.Count == 1 {
			warn("", "ResizeError", "Pod resize error: "+resizeSummary(withResources(w.pod, w.seen.Allotment.Containers), w.seen.Allotment.Generation, failure.Message))
		}
	case ActStart:
		warn(act.Container, "Failed", "Error: "+failure.Message)
	}
}

func (w *worker) startWork(act Act) work {
	a, pod, image, network := w.agent, withResources(w.pod, w.seen.Allotment.Containers), w.seen.Images[act.Container].Image, w.seen.Network
	spec, group := containerSpecOf(pod, act.Container), w.podGroup(nil)
	volumes := volumeImagesOf(spec, w.seen.Images)
	target, targetErr := w.target(act.Container)
	return func(ctx context.Context) (func(), error) {
		if targetErr != nil {
			return nil, &configError{targetErr}
		}
		if err := a.mountImageVolumes(pod, volumes); err != nil {
			return nil, &configError{err}
		}
		want, err := a.containerSpec(ctx, pod, spec, act, image, network)
		if err != nil {
			return nil, err
		}
		want.PIDOf, want.Pod, want.VolumeImageIDs = target, group, imageIDs(volumes)
		c, err := a.cfg.Runtime.Start(ctx, want)
		if err != nil {
			return nil, err
		}
		return func() {
			w.record(c)
			w.tell(Event{act.Container, corev1.EventTypeNormal, "Created", "Created container: " + act.Container})
			w.tell(Event{act.Container, corev1.EventTypeNormal, "Started", "Started container " + act.Container})
		}, nil
	}
}

// target is the ID of the container that an ephemeral container names as its
// target, whose processes it is to see; "" for one that has none.
func (w *worker) target(name string) (string, error) {
	for i := range w.pod.Spec.EphemeralContainers {
		e := &w.pod.Spec.EphemeralContainers[i]
		if e.Name != name || e.TargetContainerName == "" {
			continue
		}
		if last, _ := lastTwo(w.seen.Containers, e.TargetContainerName); last != nil && last.Phase == ContainerRunning {
			return last.ID, nil
		}
		return "", fmt.Errorf("the target container %q does not run", e.TargetContainerName)
	}
	return "", nil
}

func (w *worker) probeWork(act Act, spec *corev1.Container) work {
	a, p := w.agent, probeOf(spec, act.Probe)
	target := probe.Target{ID: act.ID, Address: w.probeAddress(), Ports: spec.Ports, Exec: func(ctx context.Context, command []string) (int, []byte, error) {
		return a.cfg.Runtime.Exec(ctx, act.ID, command)
	}}
	return func(ctx context.Context) (func(), error) {
		began := time.Now()
		failure := a.cfg.Prober.Probe(ctx, act.Probe, p, target)
		ended := time.Now()
		if ctx.Err() != nil {
			return nil, nil
		}
		return func() { w.probed(act, p, failure, began, ended) }, nil
	}
}

func (w *worker) probed(act Act, p *corev1.Probe, failure error, began, ended time.Time) {
	i := slices.IndexFunc(w.seen.Containers, func(c Container) bool { return c.ID == act.ID && c.Phase == ContainerRunning })
	if i < 0 {
		return
	}
	key, message, format := ProbeKey{act.ID, act.Probe}, "", "%s probe failed: %s"
	if failure != nil {
		message = failure.Error()
	}
	next, tell := w.seen.Probes[key], false
	if unknown := new(probe.Unknown); errors.As(failure, &unknown) {
		format = "%s probe errored and resulted in unknown state: %s"
		next, tell = next.Unmade(p, ended, ended.Sub(began))
	} else {
		next, tell = next.Next(p, failure == nil, message, w.seen.Containers[i].StartedAt, ended, ended.Sub(began))
	}
	w.seen.Probes[key] = next
	if tell {
		w.tell(Event{act.Container, corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf(format, act.Probe, message)})
	}
}

// probeAddress is where the pod's containers answer.
func (w *worker) probeAddress() string {
	if w.seen.Network != nil {
		return w.seen.Network.IP.String()
	}
	return w.agent.cfg.NodeIP.String()
}

func (w *worker) signalWork(act Act, spec *corev1.Container) work {
	a, imageID := w.agent, w.imageIDOf(act.ID)
	return func(ctx context.Context) (func(), error) {
		signal := syscall.SIGKILL
		if act.Kind == ActStop {
			signal = a.stopSignal(ctx, spec, imageID)
		}
		if err := a.cfg.Runtime.Signal(ctx, act.ID, signal); err != nil {
			return nil, err
		}
		now := time.Now()
		return func() {
			w.progress(act.ID, func(p *StopProgress) {
				if p.SignalledAt.IsZero() {
					p.SignalledAt = now
				}
				if act.Kind == ActKill {
					p.KilledAt = now
				}
			})
		}, nil
	}
}

func (w *worker) imageIDOf(id string) string {
	for _, c := range w.seen.Containers {
		if c.ID == id {
			return c.ImageID
		}
	}
	return ""
}

func (w *worker) removeWork(act Act) work {
	a, logPath := w.agent, ""
	keepLog := w.pod.DeletionTimestamp != nil || w.seen.Gone || condition.Ended(w.want.status.Phase) && !w.seen.Spare
	for _, c := range w.seen.Containers {
		if c.ID == act.ID {
			logPath = c.LogPath
		}
	}
	message := a.messageFile(w.pod, act.Container, act.Attempt)
	return func(ctx context.Context) (func(), error) {
		if err := a.cfg.Runtime.Remove(ctx, act.ID); err != nil {
			return nil, err
		}
		if !keepLog && logPath != "" {
			if err := podlog.Remove(logPath); err != nil {
				return nil, err
			}
			if err := os.Remove(message); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
		}
		return func() {
			if keepLog {
				w.seen.Removed[act.ID] = true
				w.seen.kill(act.ID, time.Now())
				return
			}
			w.seen.Containers = slices.DeleteFunc(w.seen.Containers, func(c Container) bool { return c.ID == act.ID })
		}, nil
	}
}

// kill: a container was removed while it ran, as those of a pod that is gone are.
func (seen *Observed) kill(id string, at time.Time) {
	for i := range seen.Containers {
		if c := &seen.Containers[i]; c.ID == id && c.Phase == ContainerRunning {
			c.Phase, c.ExitCode, c.FinishedAt = ContainerExited, exitKilled, at
		}
	}
}

// cleanUp removes a pod's directory and logs.
func (a *Agent) cleanUp(pod *corev1.Pod) error {
	if a.cfg.NoFiles {
		return nil
	}
	logs, err := filepath.Glob(filepath.Join(a.cfg.DataDir, "logs", "pods", "*_"+string(pod.UID)))
	if err != nil {
		return err
	}
	errs := []error{volume.Remove(a.podDir(pod.UID))}
	for _, dir := range logs {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// deletePod writes a pod's last status and has the API forget it.
func (a *Agent) deletePod(ctx context.Context, pod *corev1.Pod, last *report) error {
	if last.news(reported(pod)) || last.annotation() != pod.Annotations[v1alpha1.AnnotationMoments] {
		if _, err := a.writeStatus(ctx, pod, last); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("write the last status: %w", err)
		}
	}
	err := a.cfg.Client.Delete(ctx, pod.DeepCopy(), client.GracePeriodSeconds(0), client.Preconditions{UID: &pod.UID})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func containerSpecOf(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return asContainer(&pod.Spec.EphemeralContainers[i])
		}
	}
	for _, c := range imageVolumes(pod) {
		if c.Name == name {
			return c
		}
	}
	return &corev1.Container{Name: name}
}
