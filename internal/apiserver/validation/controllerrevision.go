package validation

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func controllerRevisionCreate(r *appsv1.ControllerRevision) field.ErrorList {
	errs := append(namespaced(&r.ObjectMeta, subdomainName), nonNegative(field.NewPath("revision"), r.Revision)...)
	if len(r.Data.Raw) == 0 && r.Data.Object == nil {
		errs = append(errs, field.Required(field.NewPath("data"), "data is mandatory"))
	}
	return errs
}

// controllerRevisionUpdate lets the number change, when what it holds is wanted
// again, and never what it holds.
func controllerRevisionUpdate(r, old *appsv1.ControllerRevision) field.ErrorList {
	errs := metadataUpdate(&r.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, nonNegative(field.NewPath("revision"), r.Revision)...)
	return append(errs, immutable(field.NewPath("data"), r.Data, old.Data)...)
}
