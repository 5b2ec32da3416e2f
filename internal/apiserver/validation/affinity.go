package validation

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Words that the rules about selectors share, of objects, nodes and pods alike.
const (
	valuesRequired  = "must be specified when `operator` is 'In' or 'NotIn'"
	valuesForbidden = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
	unknownOperator = "not a valid selector operator"
)

// affinity returns the faults of a pod's wishes for nodes and for the company of pods.
func affinity(fld *field.Path, a *corev1.Affinity) field.ErrorList {
	if a == nil {
		return nil
	}
	var errs field.ErrorList
	if node := a.NodeAffinity; node != nil {
		errs = append(errs, nodeAffinity(fld.Child("nodeAffinity"), node)...)
	}
	if pods := a.PodAffinity; pods != nil {
		errs = append(errs, podTerms(fld.Child("podAffinity"),
			pods.RequiredDuringSchedulingIgnoredDuringExecution, pods.PreferredDuringSchedulingIgnoredDuringExecution)...)
	}
	if pods := a.PodAntiAffinity; pods != nil {
		errs = append(errs, podTerms(fld.Child("podAntiAffinity"),
			pods.RequiredDuringSchedulingIgnoredDuringExecution, pods.PreferredDuringSchedulingIgnoredDuringExecution)...)
	}
	return errs
}

func nodeAffinity(fld *field.Path, node *corev1.NodeAffinity) field.ErrorList {
	var errs field.ErrorList
	if required := node.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		errs = append(errs, nodeSelector(fld.Child("requiredDuringSchedulingIgnoredDuringExecution"), required)...)
	}
	for i, term := range node.PreferredDuringSchedulingIgnoredDuringExecution {
		at := fld.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
		errs = append(errs, weight(at.Child("weight"), term.Weight)...)
		errs = append(errs, nodeTerm(at.Child("preference"), term.Preference)...)
	}
	return errs
}

func nodeSelector(fld *field.Path, s *corev1.NodeSelector) field.ErrorList {
	var errs field.ErrorList
	terms := fld.Child("nodeSelectorTerms")
	if len(s.NodeSelectorTerms) == 0 {
		errs = append(errs, field.Required(terms, "must have at least one node selector term"))
	}
	for i, term := range s.NodeSelectorTerms {
		errs = append(errs, nodeTerm(terms.Index(i), term)...)
	}
	return errs
}

func weight(fld *field.Path, value int32) field.ErrorList {
	if value < 1 || value > 100 {
		return field.ErrorList{field.Invalid(fld, value, "must be in the range 1-100")}
	}
	return nil
}

func nodeTerm(fld *field.Path, term corev1.NodeSelectorTerm) field.ErrorList {
	var errs field.ErrorList
	for i, requirement := range term.MatchExpressions {
		errs = append(errs, nodeRequirement(fld.Child("matchExpressions").Index(i), requirement)...)
	}
	for i, requirement := range term.MatchFields {
		errs = append(errs, nodeFieldRequirement(fld.Child("matchFields").Index(i), requirement)...)
	}
	return errs
}

// nodeRequirement returns the faults of what is demanded of a node's labels.
func nodeRequirement(fld *field.Path, r corev1.NodeSelectorRequirement) field.ErrorList {
	values := fld.Child("values")
	var errs field.ErrorList
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) == 0 {
			errs = append(errs, field.Required(values, valuesRequired))
		}
		for i, value := range r.Values {
			errs = append(errs, invalidFor(values.Index(i), value, validation.IsValidLabelValue(value))...)
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			errs = append(errs, field.Forbidden(values, valuesForbidden))
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(r.Values) != 1 {
			errs = append(errs, field.Required(values, "must be specified single value when `operator` is 'Lt' or 'Gt'"))
		} else if _, err := strconv.ParseInt(r.Values[0], 10, 64); err != nil {
			errs = append(errs, field.Invalid(values.Index(0), r.Values[0], "must be an integer when `operator` is 'Lt' or 'Gt'"))
		}
	default:
		errs = append(errs, field.Invalid(fld.Child("operator"), r.Operator, unknownOperator))
	}
	return append(errs, metav1validation.ValidateLabelName(r.Key, fld.Child("key"))...)
}

// nodeFieldRequirement returns the faults of what is demanded of a node's fields, of which
// only the name can be asked for.
func nodeFieldRequirement(fld *field.Path, r corev1.NodeSelectorRequirement) field.ErrorList {
	values := fld.Child("values")
	var errs field.ErrorList
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) != 1 {
			errs = append(errs, field.Required(values, "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"))
		}
	default:
		errs = append(errs, field.Invalid(fld.Child("operator"), r.Operator, unknownOperator))
	}
	if r.Key != metav1.ObjectNameField {
		return append(errs, field.Invalid(fld.Child("key"), r.Key, "not a valid field selector key"))
	}
	for i, value := range r.Values {
		errs = append(errs, invalidFor(values.Index(i), value, isNodeName(value))...)
	}
	return errs
}

// podTerms returns the faults of the required and preferred terms about other pods.
func podTerms(fld *field.Path, required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) field.ErrorList {
	var errs field.ErrorList
	for i, term := range required {
		errs = append(errs, podTerm(fld.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i), term)...)
	}
	for i, term := range preferred {
		at := fld.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
		errs = append(errs, weight(at.Child("weight"), term.Weight)...)
		errs = append(errs, podTerm(at.Child("podAffinityTerm"), term.PodAffinityTerm)...)
	}
	return errs
}

func podTerm(fld *field.Path, term corev1.PodAffinityTerm) field.ErrorList {
	errs := selector(fld.Child("labelSelector"), term.LabelSelector)
	errs = append(errs, selector(fld.Child("namespaceSelector"), term.NamespaceSelector)...)
	for i, namespace := range term.Namespaces {
		errs = append(errs, invalidFor(fld.Child("namespaces").Index(i), namespace, apivalidation.ValidateNamespaceName(namespace, false))...)
	}
	errs = append(errs, matchLabelKeys(fld.Child("matchLabelKeys"), term.MatchLabelKeys, "matchLabelKeys", term.LabelSelector)...)
	errs = append(errs, matchLabelKeys(fld.Child("mismatchLabelKeys"), term.MismatchLabelKeys, "mismatchLabelKeys", term.LabelSelector)...)
	mismatches := sets.New(term.MismatchLabelKeys...)
	for i, key := range term.MatchLabelKeys {
		if mismatches.Has(key) {
			errs = append(errs, field.Invalid(fld.Child("matchLabelKeys").Index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys"))
		}
	}
	return append(errs, topologyKey(fld.Child("topologyKey"), term.TopologyKey)...)
}

func selector(fld *field.Path, s *metav1.LabelSelector) field.ErrorList {
	return metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, fld)
}

func topologyKey(fld *field.Path, key string) field.ErrorList {
	if key == "" {
		return field.ErrorList{field.Required(fld, "can not be empty")}
	}
	return metav1validation.ValidateLabelName(key, fld)
}

// matchLabelKeys returns the faults of keys whose values a pod's own labels give to a
// selector: the selector must be there, and must not have the keys itself.
func matchLabelKeys(fld *field.Path, keys []string, name string, s *metav1.LabelSelector) field.ErrorList {
	if len(keys) == 0 {
		return nil
	}
	if s == nil {
		return field.ErrorList{field.Forbidden(fld, "must not be specified when labelSelector is not set")}
	}
	own := sets.KeySet(s.MatchLabels)
	for _, expression := range s.MatchExpressions {
		own.Insert(expression.Key)
	}
	var errs field.ErrorList
	for i, key := range keys {
		errs = append(errs, metav1validation.ValidateLabelName(key, fld.Index(i))...)
		if own.Has(key) {
			errs = append(errs, field.Invalid(fld.Index(i), key, "exists in both "+name+" and labelSelector"))
		}
	}
	return errs
}
