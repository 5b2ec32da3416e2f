package validation

import (
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// resourceClaims returns the faults of a pod's references to claims of devices.
func resourceClaims(fld *field.Path, facts podFacts) field.ErrorList {
	fld = fld.Child("resourceClaims")
	var errs field.ErrorList
	names := sets.New[string]()
	for i, claim := range facts.spec.ResourceClaims {
		at := fld.Index(i)
		errs = append(errs, requireFormat(at.Child("name"), claim.Name, validation.IsDNS1123Label)...)
		errs = append(errs, uniqueName(at, claim.Name, names)...)
		switch {
		case claim.ResourceClaimName == nil && claim.ResourceClaimTemplateName == nil:
			errs = append(errs, field.Invalid(at, claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		case claim.ResourceClaimName != nil && claim.ResourceClaimTemplateName != nil:
			errs = append(errs, field.Invalid(at, claim, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		}
		if name := claim.ResourceClaimName; name != nil {
			errs = append(errs, invalidFor(at.Child("resourceClaimName"), *name, isName(*name))...)
		}
		if name := claim.ResourceClaimTemplateName; name != nil {
			errs = append(errs, invalidFor(at.Child("resourceClaimTemplateName"), *name, isName(*name))...)
			// The claim made of the template is named after the pod and this reference.
			if facts.name != "" && claim.Name != "" {
				made := facts.name + "-" + claim.Name
				for _, message := range apivalidation.NameIsDNSSubdomain(made, true) {
					errs = append(errs, field.Invalid(at.Child("name"), made, "final ResourceClaim name: "+message))
				}
			}
		}
	}
	return errs
}
