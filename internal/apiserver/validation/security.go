package validation

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/node/util/sysctl"
)

// maxAppArmorProfile is the length in bytes of the longest name of an AppArmor profile.
const maxAppArmorProfile = 4095

func isPrivileged(sc *corev1.SecurityContext) bool {
	return sc != nil && sc.Privileged != nil && *sc.Privileged
}

// sharesHostUsers tells whether a pod runs in the host's user namespace, as is the default.
func sharesHostUsers(spec *corev1.PodSpec) bool {
	return spec.HostUsers == nil || *spec.HostUsers
}

// containerSecurity returns the faults of a container's security context.
func containerSecurity(fld *field.Path, sc *corev1.SecurityContext, facts podFacts) field.ErrorList {
	if sc == nil {
		return nil
	}
	errs := userID(fld.Child("runAsUser"), sc.RunAsUser)
	errs = append(errs, groupID(fld.Child("runAsGroup"), sc.RunAsGroup)...)
	errs = append(errs, optionalChoice(fld.Child("procMount"), sc.ProcMount, corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
	if sc.ProcMount != nil && *sc.ProcMount == corev1.UnmaskedProcMount && sharesHostUsers(facts.spec) {
		errs = append(errs, field.Invalid(fld.Child("procMount"), *sc.ProcMount, "`hostUsers` must be false to use `Unmasked`"))
	}
	if sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation {
		if isPrivileged(sc) {
			errs = append(errs, field.Invalid(fld, sc, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if sc.Capabilities != nil && slices.Contains(sc.Capabilities.Add, "CAP_SYS_ADMIN") {
			errs = append(errs, field.Invalid(fld, sc, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
		}
	}
	errs = append(errs, seccompProfile(fld.Child("seccompProfile"), sc.SeccompProfile)...)
	errs = append(errs, appArmorProfile(fld.Child("appArmorProfile"), sc.AppArmorProfile)...)
	return append(errs, windowsOptions(fld.Child("windowsOptions"), sc.WindowsOptions)...)
}

// podSecurity returns the faults of a pod's security context.
func podSecurity(fld *field.Path, facts podFacts) field.ErrorList {
	sc := facts.spec.SecurityContext
	if sc == nil {
		return nil
	}
	fld = fld.Child("securityContext")
	errs := userID(fld.Child("runAsUser"), sc.RunAsUser)
	errs = append(errs, groupID(fld.Child("runAsGroup"), sc.RunAsGroup)...)
	errs = append(errs, groupID(fld.Child("fsGroup"), sc.FSGroup)...)
	for i := range sc.SupplementalGroups {
		errs = append(errs, groupID(fld.Child("supplementalGroups").Index(i), &sc.SupplementalGroups[i])...)
	}
	errs = append(errs, optionalChoice(fld.Child("fsGroupChangePolicy"), sc.FSGroupChangePolicy,
		corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
	errs = append(errs, optionalChoice(fld.Child("supplementalGroupsPolicy"), sc.SupplementalGroupsPolicy,
		corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	errs = append(errs, optionalChoice(fld.Child("seLinuxChangePolicy"), sc.SELinuxChangePolicy,
		corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)...)
	errs = append(errs, sysctls(fld.Child("sysctls"), facts.spec)...)
	errs = append(errs, seccompProfile(fld.Child("seccompProfile"), sc.SeccompProfile)...)
	errs = append(errs, appArmorProfile(fld.Child("appArmorProfile"), sc.AppArmorProfile)...)
	return append(errs, windowsOptions(fld.Child("windowsOptions"), sc.WindowsOptions)...)
}

// The form of a kernel parameter's name: words joined by dots or slashes.
const (
	maxSysctlName = 253
	sysctlWord    = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
	sysctlForm    = "(" + sysctlWord + "[\\./])*" + sysctlWord
)

var sysctlName = regexp.MustCompile("^" + sysctlForm + "$")

// sysctls returns the faults of a pod's kernel parameters.
func sysctls(fld *field.Path, spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, parameter := range spec.SecurityContext.Sysctls {
		at := fld.Index(i).Child("name")
		name := sysctl.NormalizeName(parameter.Name)
		switch {
		case parameter.Name == "":
			errs = append(errs, field.Required(at, ""))
			continue
		case len(name) > maxSysctlName || !sysctlName.MatchString(parameter.Name):
			errs = append(errs, field.Invalid(at, parameter.Name, fmt.Sprintf("must have at most %d characters and match regex %s", maxSysctlName, sysctlForm)))
		case names.Has(name):
			errs = append(errs, field.Duplicate(at, parameter.Name))
		}
		names.Insert(name)
		switch namespace, _, _ := sysctl.GetNamespace(parameter.Name); {
		case namespace == sysctl.NetNamespace && spec.HostNetwork:
			errs = append(errs, field.Invalid(at, parameter.Name, "may not be specified when 'hostNetwork' is set to true"))
		case namespace == sysctl.IPCNamespace && spec.HostIPC:
			errs = append(errs, field.Invalid(at, parameter.Name, "may not be specified when 'hostIPC' is set to true"))
		}
	}
	return errs
}

func seccompProfile(fld *field.Path, profile *corev1.SeccompProfile) field.ErrorList {
	if profile == nil {
		return nil
	}
	local := fld.Child("localhostProfile")
	var errs field.ErrorList
	if profile.Type == "" {
		errs = append(errs, field.Required(fld.Child("type"), "type is required when seccompProfile is set"))
	} else {
		errs = append(errs, choice(fld.Child("type"), profile.Type,
			corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)...)
	}
	switch {
	case profile.Type != corev1.SeccompProfileTypeLocalhost && profile.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(local, *profile.LocalhostProfile, "can only be set when seccomp type is Localhost"))
	case profile.Type == corev1.SeccompProfileTypeLocalhost && profile.LocalhostProfile == nil:
		errs = append(errs, field.Required(local, "must be set when seccomp type is Localhost"))
	case profile.Type == corev1.SeccompProfileTypeLocalhost:
		errs = append(errs, descendingPath(local, *profile.LocalhostProfile)...)
	}
	return errs
}

func appArmorProfile(fld *field.Path, profile *corev1.AppArmorProfile) field.ErrorList {
	if profile == nil {
		return nil
	}
	local := fld.Child("localhostProfile")
	var errs field.ErrorList
	if profile.Type == "" {
		errs = append(errs, field.Required(fld.Child("type"), "type is required when appArmorProfile is set"))
	} else {
		errs = append(errs, choice(fld.Child("type"), profile.Type,
			corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)...)
	}
	if profile.Type != corev1.AppArmorProfileTypeLocalhost {
		if profile.LocalhostProfile != nil {
			errs = append(errs, field.Invalid(local, *profile.LocalhostProfile, "can only be set when AppArmor type is Localhost"))
		}
		return errs
	}
	if profile.LocalhostProfile == nil || *profile.LocalhostProfile == "" {
		return append(errs, field.Required(local, "must be set when AppArmor type is Localhost"))
	}
	name := *profile.LocalhostProfile
	if strings.TrimSpace(name) != name {
		errs = append(errs, field.Invalid(local, name, "must not be padded with whitespace"))
	}
	if len(name) > maxAppArmorProfile {
		errs = append(errs, field.TooLong(local, name, maxAppArmorProfile))
	}
	return errs
}

// hostNamespaces returns the faults of what a pod shares with its host, or between its
// containers.
func hostNamespaces(fld *field.Path, facts podFacts) field.ErrorList {
	spec := facts.spec
	var errs field.ErrorList
	if spec.HostPID && spec.ShareProcessNamespace != nil && *spec.ShareProcessNamespace {
		errs = append(errs, field.Invalid(fld.Child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	if sharesHostUsers(spec) {
		return errs
	}
	const message = "when `hostUsers` is false"
	errs = append(errs, forbidSet(fld, message, map[string]bool{
		"hostNetwork": spec.HostNetwork,
		"hostPID":     spec.HostPID,
		"hostIPC":     spec.HostIPC,
	})...)
	for i, c := range spec.InitContainers {
		errs = append(errs, forbidSet(fld.Child("initContainers").Index(i), message, map[string]bool{"volumeDevices": len(c.VolumeDevices) > 0})...)
	}
	for i, c := range spec.Containers {
		errs = append(errs, forbidSet(fld.Child("containers").Index(i), message, map[string]bool{"volumeDevices": len(c.VolumeDevices) > 0})...)
	}
	return errs
}
