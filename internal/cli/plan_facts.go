package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/foresight"
	"windlass.dev/windlass/internal/image"
)

// registryTimeout bounds the time that a registry has to answer.
const registryTimeout = 5 * time.Second

// read adds what the cluster knows to the facts about a Deployment. A kind that
// is not served, and a namespace that is not there, have no objects.
func (p *planner) read(ctx context.Context, facts *foresight.Facts) error {
	facts.Now = p.now
	if facts.After == nil {
		return nil
	}
	namespace := facts.Namespace
	all := metav1.ListOptions{}
	if list, err := p.client.CoreV1().Nodes().List(ctx, all); err != nil {
		return fmt.Errorf("read the nodes: %w", err)
	} else {
		facts.Nodes = pointers[corev1.Node](list.Items)
	}
	if list, err := p.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, all); err != nil {
		return fmt.Errorf("read the pods: %w", err)
	} else {
		facts.Pods = pointers[corev1.Pod](list.Items)
	}
	if list, err := p.client.AppsV1().ReplicaSets(namespace).List(ctx, all); err != nil {
		return fmt.Errorf("read the ReplicaSets: %w", err)
	} else {
		facts.ReplicaSets = pointers[appsv1.ReplicaSet](list.Items)
	}
	if err := p.storage(ctx, facts); err != nil {
		return fmt.Errorf("read claims, volumes and classes: %w", err)
	}
	if err := p.readStateful(ctx, facts); err != nil {
		return err
	}
	if list, err := p.client.CoreV1().ResourceQuotas(namespace).List(ctx, all); err == nil {
		facts.Quotas = list.Items
	} else if !apierrors.IsNotFound(err) {
		return fmt.Errorf("read the quotas: %w", err)
	}
	switch ns, err := p.client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{}); {
	case err == nil:
		facts.OnFailure = v1alpha1.FailurePolicy(ns.Annotations[v1alpha1.AnnotationOnFailure])
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("read the namespace: %w", err)
	}
	var err error
	if facts.Records, err = p.records(ctx, namespace); err != nil {
		return fmt.Errorf("read the records of earlier rollouts: %w", err)
	}
	facts.Found = p.find(ctx, facts)
	facts.Registry = p.ask(ctx, foresight.ToPull(facts))
	return nil
}

// storage reads what decides where pods with claims can be.
func (p *planner) storage(ctx context.Context, facts *foresight.Facts) error {
	all := metav1.ListOptions{}
	claims, err := p.client.CoreV1().PersistentVolumeClaims(facts.Namespace).List(ctx, all)
	if err == nil {
		facts.Claims = pointers[corev1.PersistentVolumeClaim](claims.Items)
	}
	volumes, volumesErr := p.client.CoreV1().PersistentVolumes().List(ctx, all)
	if volumesErr == nil {
		facts.Volumes = pointers[corev1.PersistentVolume](volumes.Items)
	}
	classes, classesErr := p.client.StorageV1().StorageClasses().List(ctx, all)
	if classesErr == nil {
		facts.Classes = pointers[storagev1.StorageClass](classes.Items)
	}
	for _, err := range []error{err, volumesErr, classesErr} {
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// readStateful adds what is particular about a StatefulSet.
func (p *planner) readStateful(ctx context.Context, facts *foresight.Facts) error {
	if facts.Stateful == nil {
		return nil
	}
	revisions, err := p.client.AppsV1().ControllerRevisions(facts.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("read the ControllerRevisions: %w", err)
	}
	facts.Stateful.Revisions = pointers[appsv1.ControllerRevision](revisions.Items)
	return nil
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}

// records returns the RolloutRecords of a namespace, none if the cluster keeps
// none.
func (p *planner) records(ctx context.Context, namespace string) ([]v1alpha1.RolloutRecord, error) {
	path := []string{"/apis", v1alpha1.GroupVersion.Group, v1alpha1.GroupVersion.Version, "namespaces", namespace, "rolloutrecords"}
	answer, err := p.client.Discovery().RESTClient().Get().AbsPath(path...).DoRaw(ctx)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	var list v1alpha1.RolloutRecordList
	if err == nil {
		err = json.Unmarshal(answer, &list)
	}
	return list.Items, err
}

// find looks for what the new pods refer to: in the files, then in the cluster.
func (p *planner) find(ctx context.Context, facts *foresight.Facts) map[foresight.Object]foresight.Found {
	found := map[foresight.Object]foresight.Found{}
	for _, ref := range foresight.References(&facts.After.Spec.Template) {
		if _, done := found[ref.Object]; done {
			continue
		}
		f, given := p.files[facts.Namespace][ref.Object]
		if !given {
			f = p.look(ctx, facts.Namespace, ref.Object)
		}
		found[ref.Object] = f
	}
	return found
}

// look reads one object, and keeps no more of it than the names of its keys.
func (p *planner) look(ctx context.Context, namespace string, object foresight.Object) foresight.Found {
	var keys []string
	var err error
	core, get := p.client.CoreV1(), metav1.GetOptions{}
	switch object.Kind {
	case "Secret":
		var o *corev1.Secret
		if o, err = core.Secrets(namespace).Get(ctx, object.Name, get); err == nil {
			keys = slices.Collect(maps.Keys(o.Data))
		}
	case "ConfigMap":
		var o *corev1.ConfigMap
		if o, err = core.ConfigMaps(namespace).Get(ctx, object.Name, get); err == nil {
			keys = slices.AppendSeq(slices.Collect(maps.Keys(o.Data)), maps.Keys(o.BinaryData))
		}
	case "ServiceAccount":
		_, err = core.ServiceAccounts(namespace).Get(ctx, object.Name, get)
	case "PersistentVolumeClaim":
		_, err = core.PersistentVolumeClaims(namespace).Get(ctx, object.Name, get)
		if apierrors.IsNotFound(err) && !p.serves("persistentvolumeclaims") {
			return foresight.Found{Presence: foresight.Unserved}
		}
	}
	switch {
	case err == nil:
		return foresight.Found{Presence: foresight.Present, Keys: keys}
	case apierrors.IsNotFound(err):
		return foresight.Found{Presence: foresight.Absent}
	}
	return foresight.Found{Why: err.Error()}
}

// serves says whether the API has a resource of the core group. If that cannot be
// found out it is taken to have it.
func (p *planner) serves(name string) bool {
	list, err := p.client.Discovery().ServerResourcesForGroupVersion("v1")
	return err != nil || slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == name })
}

// ask asks the registries of images for them.
func (p *planner) ask(ctx context.Context, images []string) map[string]foresight.Answer {
	answers := map[string]foresight.Answer{}
	for _, ref := range images {
		bounded, cancel := context.WithTimeout(ctx, registryTimeout)
		err := image.InRegistry(bounded, image.Config{DataDir: p.options.dataDir}, ref)
		cancel()
		switch {
		case err == nil:
			answers[ref] = foresight.Answer{Presence: foresight.Present}
		case errors.Is(err, image.ErrNotInRegistry):
			answers[ref] = foresight.Answer{Presence: foresight.Absent, Why: err.Error()}
		default:
			var network *net.OpError
			if answers[ref] = (foresight.Answer{Why: err.Error()}); errors.As(err, &network) {
				answers[ref] = foresight.Answer{Why: network.Error()} // it names the host; the rest names the image again
			}
		}
	}
	return answers
}
