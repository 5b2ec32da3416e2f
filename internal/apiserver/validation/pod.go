package validation

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podFacts is what the rules about one part of a pod must know of its other parts.
type podFacts struct {
	spec *corev1.PodSpec
	// name is the pod's; empty in templates and where it is still to be generated.
	name string
	// isPod tells a pod from a template. Some rules only hold for pods, since templates
	// were stored before the rules were made, or get the values when a pod is made.
	isPod bool
	// volumes has the volumes by their names, faulty ones too.
	volumes map[string]*corev1.VolumeSource
	// claims has the names of the resource claims.
	claims sets.Set[string]
}

func factsOf(spec *corev1.PodSpec, name string, isPod bool) podFacts {
	facts := podFacts{spec: spec, name: name, isPod: isPod, volumes: map[string]*corev1.VolumeSource{}, claims: sets.New[string]()}
	for i := range spec.Volumes {
		facts.volumes[spec.Volumes[i].Name] = &spec.Volumes[i].VolumeSource
	}
	for _, claim := range spec.ResourceClaims {
		facts.claims.Insert(claim.Name)
	}
	return facts
}

// ValidatePod returns the faults of a pod that is about to be created, as the API reference
// of Pod states the rules (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/).
func ValidatePod(pod *corev1.Pod) field.ErrorList {
	errs := wholePod(pod)
	spec := field.NewPath("spec")
	if len(pod.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if pod.Spec.NodeName != "" && len(pod.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return errs
}

// wholePod returns the faults of a pod's metadata and specification, at creation and at
// every later write.
func wholePod(pod *corev1.Pod) field.ErrorList {
	meta, spec := field.NewPath("metadata"), field.NewPath("spec")
	errs := apivalidation.ValidateObjectMeta(&pod.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, meta)
	errs = append(errs, podAnnotations(meta.Child("annotations"), pod.Annotations, &pod.Spec)...)
	errs = append(errs, podSpec(spec, factsOf(&pod.Spec, pod.Name, true))...)
	for i, volume := range pod.Spec.Volumes {
		if volume.Projected == nil || pod.Spec.ServiceAccountName != "" {
			continue
		}
		for j, source := range volume.Projected.Sources {
			if source.ServiceAccountToken != nil {
				fld := spec.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken")
				errs = append(errs, field.Forbidden(fld, "must not be specified when serviceAccountName is not set"))
			}
		}
	}
	errs = append(errs, paddedImages(spec.Child("containers"), pod.Spec.Containers)...)
	return append(errs, paddedImages(spec.Child("initContainers"), pod.Spec.InitContainers)...)
}

// paddedImages refuses image names with white space around them. Templates may have them:
// some systems store a blank there and fill it in when a pod is made.
func paddedImages(fld *field.Path, containers []corev1.Container) field.ErrorList {
	var errs field.ErrorList
	for i, c := range containers {
		if strings.TrimSpace(c.Image) != c.Image {
			errs = append(errs, field.Invalid(fld.Index(i).Child("image"), c.Image, "must not have leading or trailing whitespace"))
		}
	}
	return errs
}

// ValidatePodTemplate returns the faults of the template of a workload's pods, which stands
// at fld. The restart policy that a kind of workload demands is that kind's rule.
func ValidatePodTemplate(template *corev1.PodTemplateSpec, fld *field.Path) field.ErrorList {
	meta, spec := fld.Child("metadata"), fld.Child("spec")
	errs := metav1validation.ValidateLabels(template.Labels, meta.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(template.Annotations, meta.Child("annotations"))...)
	errs = append(errs, podAnnotations(meta.Child("annotations"), template.Annotations, &template.Spec)...)
	errs = append(errs, ValidatePodSpec(&template.Spec, spec)...)
	if len(template.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// ValidatePodSpec returns the faults of the specification of pods still to be made, which
// stands at fld. For a pod that has a name there are a few rules more: see ValidatePod.
func ValidatePodSpec(spec *corev1.PodSpec, fld *field.Path) field.ErrorList {
	return podSpec(fld, factsOf(spec, "", false))
}

// podSpec returns the faults of a pod's specification, part by part.
func podSpec(fld *field.Path, facts podFacts) field.ErrorList {
	var errs field.ErrorList
	for _, part := range []func(*field.Path, podFacts) field.ErrorList{
		volumes,
		resourceClaims,
		containers,
		initContainers,
		ephemeralContainers,
		podResources,
		podLifetime,
		podReferences,
		podNetwork,
		hostNamespaces,
		podSecurity,
		podOS,
		podScheduling,
		podEviction,
	} {
		errs = append(errs, part(fld, facts)...)
	}
	return errs
}

// podLifetime returns the faults of what says how long a pod runs.
func podLifetime(fld *field.Path, facts podFacts) field.ErrorList {
	spec := facts.spec
	errs := requireChoice(fld.Child("restartPolicy"), spec.RestartPolicy,
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	errs = append(errs, seconds32(fld.Child("activeDeadlineSeconds"), spec.ActiveDeadlineSeconds)...)
	for i, gate := range spec.ReadinessGates {
		errs = append(errs, invalidFor(fld.Child("readinessGates").Index(i).Child("conditionType"),
			gate.ConditionType, validation.IsQualifiedName(string(gate.ConditionType)))...)
	}
	return errs
}

// podReferences returns the faults of the names by which a pod means other objects.
func podReferences(fld *field.Path, facts podFacts) field.ErrorList {
	spec := facts.spec
	errs := optionalFormat(fld.Child("serviceAccountName"), spec.ServiceAccountName, isName)
	errs = append(errs, optionalFormat(fld.Child("nodeName"), spec.NodeName, isNodeName)...)
	errs = append(errs, optionalFormat(fld.Child("priorityClassName"), spec.PriorityClassName, isName)...)
	if spec.RuntimeClassName != nil {
		errs = append(errs, invalidFor(fld.Child("runtimeClassName"), *spec.RuntimeClassName, isName(*spec.RuntimeClassName))...)
	}
	return errs
}

// podEviction returns the faults of the list of those that help a pod out of the way.
func podEviction(fld *field.Path, facts podFacts) field.ErrorList {
	fld = fld.Child("evictionResponders")
	responders := facts.spec.EvictionResponders
	var errs field.ErrorList
	if len(responders) > 10 {
		errs = append(errs, field.TooMany(fld, len(responders), 10))
	}
	if len(responders) > 0 && facts.spec.SchedulingGroup != nil {
		errs = append(errs, field.Forbidden(fld, "may not be specified when `schedulingGroup` is set"))
	}
	names := sets.New[string]()
	for i, responder := range responders {
		errs = append(errs, evictionResponder(fld.Index(i), responder)...)
		if names.Has(responder.Name) {
			errs = append(errs, field.Duplicate(fld.Index(i).Child("name"), responder.Name))
		}
		names.Insert(responder.Name)
	}
	return errs
}

// Priorities of eviction responders: the whole range, and what is kept for Kubernetes' own.
const (
	maxResponderPriority      = 100000
	reservedResponderPriority = 999
)

func evictionResponder(fld *field.Path, responder corev1.EvictionResponder) field.ErrorList {
	errs := validation.IsDomainPrefixedKey(fld.Child("name"), responder.Name)
	domain, _, _ := strings.Cut(responder.Name, "/")
	if len(errs) == 0 && isKubernetesDomain(domain) {
		errs = append(errs, field.Invalid(fld.Child("name"), responder.Name, "domain names *.k8s.io and *.kubernetes.io are reserved"))
	}
	if responder.Priority == nil {
		return append(errs, field.Required(fld.Child("priority"), ""))
	}
	priority := int64(*responder.Priority)
	if priority >= 0 && priority <= reservedResponderPriority {
		message := fmt.Sprintf("the interval 0-%d is reserved for responders with *.k8s.io suffix", reservedResponderPriority)
		return append(errs, field.Invalid(fld.Child("priority"), priority, message))
	}
	return append(errs, inRange(fld.Child("priority"), priority, 0, maxResponderPriority)...)
}

// isKubernetesDomain tells whether a domain is kept for Kubernetes' own things.
func isKubernetesDomain(domain string) bool {
	for _, own := range []string{"k8s.io", "kubernetes.io"} {
		if domain == own || strings.HasSuffix(domain, "."+own) {
			return true
		}
	}
	return false
}
