package validation

import (
	"math"
	"path"
	"slices"
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// fileModeMessage says which permission bits a projected file may have.
const fileModeMessage = "must be a number between 0 and 0777 (octal), both inclusive"

// invalidFor returns one Invalid error about value for each of messages.
func invalidFor(fld *field.Path, value any, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, message := range messages {
		errs = append(errs, field.Invalid(fld, value, message))
	}
	return errs
}

// requireText refuses an empty string.
func requireText(fld *field.Path, value string) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(fld, "")}
	}
	return nil
}

// requireFormat refuses an empty string, and one that format finds messages against.
func requireFormat(fld *field.Path, value string, format func(string) []string) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(fld, "")}
	}
	return invalidFor(fld, value, format(value))
}

// optionalFormat refuses a non-empty string that format finds messages against.
func optionalFormat(fld *field.Path, value string, format func(string) []string) field.ErrorList {
	if value == "" {
		return nil
	}
	return invalidFor(fld, value, format(value))
}

// wholeName turns a rule about names, which may be prefixes, into one about whole names.
func wholeName(rule apivalidation.ValidateNameFunc) func(string) []string {
	return func(name string) []string { return rule(name, false) }
}

// isName and isNodeName are the formats of references to most objects and to nodes.
var (
	isName     = wholeName(apivalidation.NameIsDNSSubdomain)
	isNodeName = isName
)

// requireChoice refuses an empty value, and one that is not among allowed.
func requireChoice[T ~string](fld *field.Path, value T, allowed ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(fld, "")}
	}
	return choice(fld, value, allowed...)
}

// choice refuses a value that is not among allowed, the empty one too.
func choice[T ~string](fld *field.Path, value T, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(fld, value, allowed)}
}

// optionalChoice refuses a value that is set and not among allowed.
func optionalChoice[T ~string](fld *field.Path, value *T, allowed ...T) field.ErrorList {
	if value == nil {
		return nil
	}
	return choice(fld, *value, allowed...)
}

// inRange refuses a number outside of low to high, both inclusive.
func inRange(fld *field.Path, value int64, low, high int) field.ErrorList {
	if value >= int64(low) && value <= int64(high) {
		return nil
	}
	return field.ErrorList{field.Invalid(fld, value, validation.InclusiveRangeError(low, high))}
}

// userID refuses an optional user number that Linux cannot have.
func userID(fld *field.Path, id *int64) field.ErrorList {
	if id == nil {
		return nil
	}
	return invalidFor(fld, *id, validation.IsValidUserID(*id))
}

// groupID refuses an optional group number that Linux cannot have.
func groupID(fld *field.Path, id *int64) field.ErrorList {
	if id == nil {
		return nil
	}
	return invalidFor(fld, *id, validation.IsValidGroupID(*id))
}

// fileMode refuses optional permission bits outside of 0 to 0777.
func fileMode(fld *field.Path, mode *int32) field.ErrorList {
	if mode == nil || (*mode >= 0 && *mode <= 0o777) {
		return nil
	}
	return field.ErrorList{field.Invalid(fld, *mode, fileModeMessage)}
}

// portNumberOrName refuses what cannot name a port: a number outside of 1 to 65535 or
// a word that is no IANA service name.
func portNumberOrName(fld *field.Path, port intstr.IntOrString) field.ErrorList {
	if port.Type == intstr.Int {
		return invalidFor(fld, port.IntValue(), validation.IsValidPortNum(port.IntValue()))
	}
	return invalidFor(fld, port.StrVal, validation.IsValidPortName(port.StrVal))
}

// noBacksteps refuses a path that has '..' for one of its elements.
func noBacksteps(fld *field.Path, target string) field.ErrorList {
	if slices.Contains(strings.Split(target, "/"), "..") {
		return field.ErrorList{field.Invalid(fld, target, "must not contain '..'")}
	}
	return nil
}

// descendingPath refuses a path that is absolute or has '..' for one of its elements.
func descendingPath(fld *field.Path, target string) field.ErrorList {
	var errs field.ErrorList
	if path.IsAbs(target) {
		errs = append(errs, field.Invalid(fld, target, "must be a relative path"))
	}
	return append(errs, noBacksteps(fld, target)...)
}

// filePath requires the path of a file inside of a projected volume: relative, without
// '..' elements, and not beginning with '..', which is kept for atomic updates.
func filePath(fld *field.Path, target string) field.ErrorList {
	errs := append(requireText(fld, target), descendingPath(fld, target)...)
	if strings.HasPrefix(target, "..") && !strings.HasPrefix(target, "../") && target != ".." {
		errs = append(errs, field.Invalid(fld, target, "must not start with '..'"))
	}
	return errs
}

// seconds32 refuses an optional duration outside of 1 to 2^31-1 seconds.
func seconds32(fld *field.Path, seconds *int64) field.ErrorList {
	if seconds == nil {
		return nil
	}
	return inRange(fld, *seconds, 1, math.MaxInt32)
}
