package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kubectl/pkg/cmd/apply"
	"k8s.io/kubectl/pkg/util"

	"windlass.dev/windlass/internal/foresight"
)

// planner asks a cluster what changes would do.
type planner struct {
	client  kubernetes.Interface
	options *planOptions
	now     time.Time

	// files are the objects that the files make or change, by namespace; fresh
	// are the namespaces that they make.
	files map[string]map[foresight.Object]foresight.Found
	fresh []string
}

// change is an object before and after a change, as the API server would have it.
type change struct {
	info          *resource.Info
	before, after runtime.Object // nil when there is none, or the change is refused
	refused       *metav1.Status
}

// planFiles plans what kubectl apply would do with files.
func (p *planner) planFiles(ctx context.Context) (*foresight.Plan, error) {
	namespace, enforced, err := p.options.cluster.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, err
	}
	infos, err := resource.NewBuilder(p.options.cluster.flags).
		Unstructured().
		NamespaceParam(namespace).DefaultNamespace().
		FilenameParam(enforced, &p.options.files).
		Flatten().
		Do().Infos()
	if err != nil {
		return nil, err
	}
	if len(infos) == 0 {
		return nil, errors.New("the files have no objects")
	}
	slices.SortStableFunc(infos, func(a, b *resource.Info) int { return namespacesFirst(a) - namespacesFirst(b) })
	var changes []change
	for _, info := range infos {
		c, err := p.apply(info)
		if err != nil {
			return nil, err
		}
		p.note(c)
		changes = append(changes, c)
	}
	plan := &foresight.Plan{}
	for _, c := range changes {
		facts, is := c.facts()
		if !is {
			plan.AddOther(other(c))
			continue
		}
		facts.Namespace, facts.Name = c.info.Namespace, c.info.Name
		if err := p.read(ctx, &facts); err != nil {
			return nil, err
		}
		plan.Add(foresight.Of(facts))
	}
	return plan, nil
}

func namespacesFirst(info *resource.Info) int {
	if isNamespace(info) {
		return 0
	}
	return 1
}

func isNamespace(info *resource.Info) bool {
	return info.Mapping.GroupVersionKind == corev1.SchemeGroupVersion.WithKind("Namespace")
}

// apply does what kubectl apply does to an object, as a dry run: it makes it, or
// patches it by the difference of three: the object last applied, the one in the
// file and the one that is there.
func (p *planner) apply(info *resource.Info) (change, error) {
	helper := resource.NewHelper(info.Client, info.Mapping).
		DryRun(true).
		WithFieldManager("kubectl-client-side-apply").
		WithFieldValidation(metav1.FieldValidationStrict)
	given := info.Object.DeepCopyObject()
	modified, err := util.GetModifiedConfiguration(given, true, unstructured.UnstructuredJSONScheme)
	if err != nil {
		return change{}, fmt.Errorf("%s: %w", info.Source, err)
	}
	var after runtime.Object
	c := change{info: info}
	switch err := info.Get(); {
	case apierrors.IsNotFound(err):
		if err := util.CreateApplyAnnotation(given, unstructured.UnstructuredJSONScheme); err != nil {
			return change{}, fmt.Errorf("%s: %w", info.Source, err)
		}
		after, err = p.create(helper, info, given)
		return c.answered(after, err)
	case err != nil:
		return change{}, err
	}
	if c.before, err = typed(info.Object); err != nil {
		return change{}, err
	}
	patcher := &apply.Patcher{Mapping: info.Mapping, Helper: helper, Overwrite: true, Retries: -1}
	_, after, err = patcher.Patch(info.Object, modified, info.Source, info.Namespace, info.Name, io.Discard)
	return c.answered(after, err)
}

// create makes an object, as a dry run. In a namespace that the files make, and
// that is not there yet, nothing can be tried: there the object is tried in the
// namespace default, under a name that is free.
func (p *planner) create(helper *resource.Helper, info *resource.Info, object runtime.Object) (runtime.Object, error) {
	u, ok := object.(*unstructured.Unstructured)
	if !ok || !slices.Contains(p.fresh, info.Namespace) {
		return helper.Create(info.Namespace, true, object)
	}
	u.SetNamespace(metav1.NamespaceDefault)
	u.SetName("")
	u.SetGenerateName(info.Name + "-")
	made, err := helper.Create(metav1.NamespaceDefault, true, u)
	if made, ok := made.(*unstructured.Unstructured); ok && err == nil {
		made.SetName(info.Name)
		made.SetNamespace(info.Namespace)
		made.SetGenerateName("")
	}
	return made, err
}

// answered takes in what the API server said of a change. An error that is not
// the server's word on it is returned.
func (c change) answered(after runtime.Object, err error) (change, error) {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		c.after, err = typed(after)
		return c, err
	case errors.As(err, &status) && refuses(err):
		c.refused = new(metav1.Status)
		*c.refused = status.Status()
		return c, nil
	}
	return c, err
}

// refuses says whether an error is the API server's judgement of an object.
func refuses(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsForbidden(err) || apierrors.IsConflict(err) ||
		apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) || apierrors.IsRequestEntityTooLargeError(err)
}

// typed makes an object the type that client-go has for it, if there is one.
func typed(object runtime.Object) (runtime.Object, error) {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil
	}
	into, err := scheme.Scheme.New(u.GroupVersionKind())
	if runtime.IsNotRegisteredError(err) {
		return u, nil
	}
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, into)
	}
	return into, err
}

// note remembers what the files bring along, so that nothing of it is missed.
func (p *planner) note(c change) {
	if isNamespace(c.info) && c.before == nil {
		p.fresh = append(p.fresh, c.info.Name)
	}
	var keys []string
	switch o := c.after.(type) {
	case *corev1.ConfigMap:
		keys = slices.AppendSeq(slices.Collect(maps.Keys(o.Data)), maps.Keys(o.BinaryData))
	case *corev1.Secret:
		keys = slices.AppendSeq(slices.Collect(maps.Keys(o.Data)), maps.Keys(o.StringData))
	case nil:
		return
	}
	in := p.files[c.info.Namespace]
	if in == nil {
		in = map[foresight.Object]foresight.Found{}
		p.files[c.info.Namespace] = in
	}
	object := foresight.Object{Kind: c.info.Mapping.GroupVersionKind.Kind, Name: c.info.Name}
	in[object] = foresight.Found{Presence: foresight.Present, Keys: keys}
}

// other says what becomes of an object that is no Deployment.
func other(c change) foresight.Other {
	o := foresight.Other{Kind: c.info.Mapping.GroupVersionKind.Kind, Namespace: c.info.Namespace, Name: c.info.Name}
	switch {
	case c.refused != nil:
		o.Action, o.Blocks = foresight.Refused, foresight.Refusals(c.refused)
	case c.before == nil:
		o.Action = foresight.Created
	default:
		o.Action = foresight.Unchanged
		if o.Changes = foresight.ObjectChanges(c.before, c.after); len(o.Changes) > 0 {
			o.Action = foresight.Changed
		}
	}
	return o
}

// facts returns the first facts about a change of a Deployment or StatefulSet;
// false when it is of something else.
func (c change) facts() (facts foresight.Facts, is bool) {
	switch c.info.Mapping.GroupVersionKind.GroupKind() {
	case target{kind: kindDeployment}.groupKind():
		facts.Refused = c.refused
		facts.Before, _ = c.before.(*appsv1.Deployment)
		facts.After, _ = c.after.(*appsv1.Deployment)
		return facts, true
	case target{kind: kindStatefulSet}.groupKind():
		before, _ := c.before.(*appsv1.StatefulSet)
		after, _ := c.after.(*appsv1.StatefulSet)
		return foresight.StatefulFacts(before, after, c.refused), true
	}
	return facts, false
}

// planWorkload plans what kubectl set image and kubectl scale would do with a
// Deployment or StatefulSet.
func (p *planner) planWorkload(ctx context.Context, namespace string, args []string) (*foresight.Plan, error) {
	target, err := rolloutTarget(args)
	if err != nil {
		return nil, err
	}
	facts, err := p.tryPatch(ctx, namespace, target)
	if err != nil {
		return nil, err
	}
	facts.Namespace, facts.Name = namespace, target.name
	if err := p.read(ctx, &facts); err != nil {
		return nil, err
	}
	plan := &foresight.Plan{}
	plan.Add(foresight.Of(facts))
	return plan, nil
}

// patch is the change of a Deployment that --image and --replicas ask for, as a
// strategic merge patch.
func (o *planOptions) patch(spec *corev1.PodSpec) ([]byte, error) {
	type container struct {
		Name  string `json:"name"`
		Image string `json:"image"`
	}
	pods := map[string][]container{}
	for _, arg := range o.images {
		list, c, err := containerOf(spec, arg)
		if err != nil {
			return nil, err
		}
		_, image, named := strings.Cut(arg, "=")
		if !named {
			image = arg
		}
		pods[list] = append(pods[list], container{c, image})
	}
	fields := map[string]any{}
	if len(pods) > 0 {
		fields["template"] = map[string]any{"spec": pods}
	}
	if o.resized {
		fields["replicas"] = o.replicas
	}
	return json.Marshal(map[string]any{"spec": fields})
}

// containerOf finds the container that an --image is for, and the list it is in.
func containerOf(spec *corev1.PodSpec, arg string) (list, name string, err error) {
	name, image, named := strings.Cut(arg, "=")
	if !named && len(spec.Containers) == 1 {
		image, name = arg, spec.Containers[0].Name
	}
	var names []string
	for _, in := range []struct {
		list       string
		containers []corev1.Container
	}{{"containers", spec.Containers}, {"initContainers", spec.InitContainers}} {
		for _, c := range in.containers {
			if names = append(names, c.Name); c.Name == name && image != "" {
				return in.list, name, nil
			}
		}
	}
	return "", "", fmt.Errorf("--image %s: write CONTAINER=IMAGE; the containers are %s", arg, strings.Join(names, ", "))
}

// tryPatch has the API server patch a workload, as a dry run.
func (p *planner) tryPatch(ctx context.Context, namespace string, target target) (foresight.Facts, error) {
	options := metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: "kubectl-set", FieldValidation: metav1.FieldValidationStrict}
	if target.kind == kindStatefulSet {
		sets := p.client.AppsV1().StatefulSets(namespace)
		before, err := sets.Get(ctx, target.name, metav1.GetOptions{})
		if err != nil {
			return foresight.Facts{}, err
		}
		patch, err := p.options.patch(&before.Spec.Template.Spec)
		if err != nil {
			return foresight.Facts{}, err
		}
		after, err := sets.Patch(ctx, target.name, types.StrategicMergePatchType, patch, options)
		c, err := change{}.answered(after, err)
		if c.refused != nil {
			after = nil
		}
		return foresight.StatefulFacts(before, after, c.refused), err
	}
	deployments := p.client.AppsV1().Deployments(namespace)
	before, err := deployments.Get(ctx, target.name, metav1.GetOptions{})
	if err != nil {
		return foresight.Facts{}, err
	}
	patch, err := p.options.patch(&before.Spec.Template.Spec)
	if err != nil {
		return foresight.Facts{}, err
	}
	after, err := deployments.Patch(ctx, target.name, types.StrategicMergePatchType, patch, options)
	c, err := change{}.answered(after, err)
	if c.refused != nil {
		after = nil
	}
	return foresight.Facts{Before: before, After: after, Refused: c.refused}, err
}
