package apiserver

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"windlass.dev/windlass/internal/apiserver/columns"
)

// scale is the scale subresource of a kind with replicas: autoscaling/v1's Scale
// as a view of the object.
type scale struct {
	store *registry.Store
	paths managedfields.ResourcePathMappings
	kind  *kind
}

var (
	_ rest.Patcher                  = scale{}
	_ rest.GroupVersionKindProvider = scale{}
)

func newScale(r resource) scale {
	return scale{store: r.Store, kind: r.kind, paths: managedfields.ResourcePathMappings{
		r.kind.version().String(): fieldpath.MakePathOrDie("spec", "replicas"),
	}}
}

// GroupVersionKind implements rest.GroupVersionKindProvider.
func (scale) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return autoscalingv1.SchemeGroupVersion.WithKind("Scale")
}

// New implements rest.Storage.
func (scale) New() runtime.Object { return &autoscalingv1.Scale{} }

// Destroy implements rest.Storage.
func (scale) Destroy() {}

// Get implements rest.Getter.
func (s scale) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	obj, err := s.store.Get(ctx, name, options)
	if err != nil {
		return nil, err
	}
	view, err := scaleOf(obj)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return view, nil
}

// Update implements rest.Updater.
func (s scale) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	obj, _, err := s.store.Update(ctx, name, scaledObject{info, s},
		func(ctx context.Context, obj runtime.Object) error {
			return asScale(obj, func(v runtime.Object) error { return create(ctx, v) })
		},
		func(ctx context.Context, obj, old runtime.Object) error {
			return asScale(obj, func(v runtime.Object) error {
				return asScale(old, func(o runtime.Object) error { return update(ctx, v, o) })
			})
		}, false, options)
	if err != nil {
		return nil, false, err
	}
	view, err := scaleOf(obj)
	if err != nil {
		return nil, false, apierrors.NewBadRequest(err.Error())
	}
	return view, false, nil
}

// ConvertToTable implements rest.TableConvertor.
func (s scale) ConvertToTable(ctx context.Context, object, options runtime.Object) (*metav1.Table, error) {
	return columns.For(autoscalingv1.Resource("scales")).ConvertToTable(ctx, object, options)
}

func asScale(obj runtime.Object, check func(runtime.Object) error) error {
	view, err := scaleOf(obj)
	if err != nil {
		return err
	}
	return check(view)
}

// scaledObject turns an update of the scale into one of the object.
type scaledObject struct {
	rest.UpdatedObjectInfo
	scale scale
}

// UpdatedObject implements rest.UpdatedObjectInfo.
func (u scaledObject) UpdatedObject(ctx context.Context, existing runtime.Object) (runtime.Object, error) {
	obj := existing.DeepCopyObject()
	m := metaOf(obj)
	fields := managedfields.NewScaleHandler(m.GetManagedFields(), u.scale.kind.version(), u.scale.paths)
	before, err := scaleOf(obj)
	if err != nil {
		return nil, err
	}
	if before.ManagedFields, err = fields.ToSubresource(); err != nil {
		return nil, err
	}
	changed, err := u.UpdatedObjectInfo.UpdatedObject(ctx, before)
	if err != nil {
		return nil, err
	}
	wanted, ok := changed.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("expected input object type to be Scale, but %T", changed))
	}
	if wanted.Spec.Replicas < 0 {
		fault := field.Invalid(field.NewPath("spec", "replicas"), wanted.Spec.Replicas, "must be greater than or equal to 0").WithOrigin("minimum")
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: autoscalingv1.GroupName, Kind: "Scale"}, wanted.Name, field.ErrorList{fault})
	}
	if wanted.ResourceVersion != "" {
		m.SetResourceVersion(wanted.ResourceVersion)
	}
	if uid := wanted.UID; uid != "" && uid != m.GetUID() {
		return nil, apierrors.NewConflict(u.scale.kind.groupResource(), wanted.Name,
			fmt.Errorf("precondition failed: UID in precondition: %v, UID in object meta: %v", uid, m.GetUID()))
	}
	replicasOf(obj).set(wanted.Spec.Replicas)
	merged, err := fields.ToParent(wanted.ManagedFields)
	if err != nil {
		return nil, err
	}
	m.SetManagedFields(merged)
	return obj, nil
}

// replicas is what of an object its scale shows.
type replicas struct {
	wanted   **int32
	existing int32
	selector *metav1.LabelSelector
}

func (r replicas) set(n int32) { *r.wanted = &n }

// replicasOf returns the replicas of obj, which is of a kind that has a scale.
func replicasOf(obj runtime.Object) replicas {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		return replicas{&o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector}
	case *appsv1.StatefulSet:
		return replicas{&o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector}
	case *appsv1.ReplicaSet:
		return replicas{&o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector}
	case *corev1.ReplicationController:
		return replicas{&o.Spec.Replicas, o.Status.Replicas, &metav1.LabelSelector{MatchLabels: o.Spec.Selector}}
	}
	panic(fmt.Sprintf("apiserver: %T has no scale", obj))
}

func scaleOf(obj runtime.Object) (*autoscalingv1.Scale, error) {
	m, r := metaOf(obj), replicasOf(obj)
	selector, err := metav1.LabelSelectorAsSelector(r.selector)
	if err != nil {
		return nil, fmt.Errorf("selector: %w", err)
	}
	if selector.Empty() {
		selector = labels.Everything()
	}
	view := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: m.GetName(), Namespace: m.GetNamespace(), UID: m.GetUID(),
			ResourceVersion: m.GetResourceVersion(), CreationTimestamp: m.GetCreationTimestamp(),
		},
		Status: autoscalingv1.ScaleStatus{Replicas: r.existing, Selector: selector.String()},
	}
	if *r.wanted != nil {
		view.Spec.Replicas = **r.wanted
	}
	return view, nil
}
