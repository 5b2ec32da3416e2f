package validation

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What Windows bounds: a credential specification in bytes, and the parts of a user's name.
const (
	maxCredentialSpec = 64 << 10
	maxWindowsDomain  = 255
	maxWindowsUser    = 104
	badUserCharacters = `"/\:;|=,+*?<>@[]`
)

// A Windows domain is named as NetBIOS does, or as DNS does.
var (
	netBIOSName   = regexp.MustCompile(`^[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}$`)
	windowsDomain = regexp.MustCompile(`^([a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)(\.[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)*$`)
)

// windowsOptions returns the faults of the security options that only Windows has.
func windowsOptions(fld *field.Path, options *corev1.WindowsSecurityContextOptions) field.ErrorList {
	if options == nil {
		return nil
	}
	var errs field.ErrorList
	if name := options.GMSACredentialSpecName; name != nil {
		errs = append(errs, invalidFor(fld.Child("gmsaCredentialSpecName"), *name, isName(*name))...)
	}
	if spec := options.GMSACredentialSpec; spec != nil {
		switch {
		case *spec == "":
			errs = append(errs, field.Invalid(fld.Child("gmsaCredentialSpec"), *spec, "gmsaCredentialSpec cannot be an empty string"))
		case len(*spec) > maxCredentialSpec:
			errs = append(errs, field.TooLong(fld.Child("gmsaCredentialSpec"), *spec, maxCredentialSpec))
		}
	}
	if name := options.RunAsUserName; name != nil {
		errs = append(errs, windowsUserName(fld.Child("runAsUserName"), *name)...)
	}
	return errs
}

// windowsUserName returns the faults of a name of the form user or domain\user.
func windowsUserName(fld *field.Path, name string) field.ErrorList {
	switch {
	case name == "":
		return field.ErrorList{field.Invalid(fld, name, "runAsUserName cannot be an empty string")}
	case strings.ContainsFunc(name, unicode.IsControl):
		return field.ErrorList{field.Invalid(fld, name, "runAsUserName cannot contain control characters")}
	case strings.Count(name, `\`) > 1:
		return field.ErrorList{field.Invalid(fld, name, "runAsUserName cannot contain more than one backslash")}
	}
	var errs field.ErrorList
	domain, user, hasDomain := strings.Cut(name, `\`)
	if !hasDomain {
		user = name
	} else if len(domain) > maxWindowsDomain {
		errs = append(errs, field.Invalid(fld, name, fmt.Sprintf("runAsUserName's Domain length must be under %d characters", maxWindowsDomain+1)))
	} else if !netBIOSName.MatchString(domain) && !windowsDomain.MatchString(domain) {
		errs = append(errs, field.Invalid(fld, name, "runAsUserName's Domain doesn't match the NetBios nor the DNS format"))
	}
	switch {
	case user == "":
		errs = append(errs, field.Invalid(fld, name, "runAsUserName's User cannot be empty"))
	case len(user) > maxWindowsUser:
		errs = append(errs, field.Invalid(fld, name, fmt.Sprintf("runAsUserName's User length must not be longer than %d characters", maxWindowsUser)))
	case strings.Trim(user, ". ") == "":
		errs = append(errs, field.Invalid(fld, name, "runAsUserName's User cannot contain only periods or spaces"))
	case strings.ContainsAny(user, badUserCharacters):
		errs = append(errs, field.Invalid(fld, name, "runAsUserName's User cannot contain the following characters: "+badUserCharacters))
	}
	return errs
}

// podOS returns the faults of a pod's operating system, and of fields that it does not have.
func podOS(fld *field.Path, facts podFacts) field.ErrorList {
	errs := hostProcesses(fld, facts)
	if facts.spec.OS == nil {
		return errs
	}
	name := fld.Child("os", "name")
	switch facts.spec.OS.Name {
	case "":
		return append(errs, field.Required(name, "cannot be empty"))
	case corev1.Linux:
		return append(errs, linuxOnly(fld, facts.spec)...)
	case corev1.Windows:
		return append(errs, windowsOnly(fld, facts.spec)...)
	}
	return append(errs, choice(name, facts.spec.OS.Name, corev1.Linux, corev1.Windows)...)
}

// linuxOnly refuses what a pod on Linux cannot have.
func linuxOnly(fld *field.Path, spec *corev1.PodSpec) field.ErrorList {
	const message = "windows options cannot be set for a linux pod"
	var errs field.ErrorList
	if sc := spec.SecurityContext; sc != nil && sc.WindowsOptions != nil {
		errs = append(errs, field.Forbidden(fld.Child("securityContext", "windowsOptions"), message))
	}
	eachContainer(fld, spec, func(fld *field.Path, c *corev1.Container) {
		if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil {
			errs = append(errs, field.Forbidden(fld.Child("securityContext", "windowsOptions"), message))
		}
	})
	return errs
}

// windowsOnly refuses what a pod on Windows cannot have.
func windowsOnly(fld *field.Path, spec *corev1.PodSpec) field.ErrorList {
	const message = "cannot be set for a windows pod"
	errs := forbidSet(fld, message, map[string]bool{
		"hostPID":               spec.HostPID,
		"hostIPC":               spec.HostIPC,
		"hostUsers":             spec.HostUsers != nil,
		"resources":             spec.Resources != nil,
		"shareProcessNamespace": spec.ShareProcessNamespace != nil,
	})
	if sc := spec.SecurityContext; sc != nil {
		errs = append(errs, forbidSet(fld.Child("securityContext"), message, map[string]bool{
			"appArmorProfile":          sc.AppArmorProfile != nil,
			"seLinuxOptions":           sc.SELinuxOptions != nil,
			"seLinuxChangePolicy":      sc.SELinuxChangePolicy != nil,
			"seccompProfile":           sc.SeccompProfile != nil,
			"fsGroup":                  sc.FSGroup != nil,
			"fsGroupChangePolicy":      sc.FSGroupChangePolicy != nil,
			"sysctls":                  len(sc.Sysctls) > 0,
			"runAsUser":                sc.RunAsUser != nil,
			"runAsGroup":               sc.RunAsGroup != nil,
			"supplementalGroups":       sc.SupplementalGroups != nil,
			"supplementalGroupsPolicy": sc.SupplementalGroupsPolicy != nil,
		})...)
	}
	eachContainer(fld, spec, func(fld *field.Path, c *corev1.Container) {
		sc := c.SecurityContext
		if sc == nil {
			return
		}
		errs = append(errs, forbidSet(fld.Child("securityContext"), message, map[string]bool{
			"appArmorProfile":          sc.AppArmorProfile != nil,
			"seLinuxOptions":           sc.SELinuxOptions != nil,
			"seccompProfile":           sc.SeccompProfile != nil,
			"capabilities":             sc.Capabilities != nil,
			"readOnlyRootFilesystem":   sc.ReadOnlyRootFilesystem != nil,
			"privileged":               sc.Privileged != nil,
			"allowPrivilegeEscalation": sc.AllowPrivilegeEscalation != nil,
			"procMount":                sc.ProcMount != nil,
			"runAsUser":                sc.RunAsUser != nil,
			"runAsGroup":               sc.RunAsGroup != nil,
		})...)
	})
	return errs
}

// hostProcesses returns the faults of Windows pods that run as processes of the host: all
// their containers must, and in the host's network.
func hostProcesses(fld *field.Path, facts podFacts) field.ErrorList {
	spec := facts.spec
	var byDefault *bool
	if sc := spec.SecurityContext; sc != nil && sc.WindowsOptions != nil {
		byDefault = sc.WindowsOptions.HostProcess
	}
	var errs field.ErrorList
	with, without := 0, 0
	eachContainer(fld, spec, func(at *field.Path, c *corev1.Container) {
		own := byDefault
		if sc := c.SecurityContext; sc != nil && sc.WindowsOptions != nil && sc.WindowsOptions.HostProcess != nil {
			own = sc.WindowsOptions.HostProcess
			if byDefault != nil && *own != *byDefault {
				errs = append(errs, field.Invalid(at.Child("securityContext", "windowsOptions", "hostProcess"), *own,
					fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", *byDefault)))
			}
		}
		if own != nil && *own {
			with++
		} else {
			without++
		}
	})
	if with == 0 {
		return errs
	}
	if without > 0 {
		errs = append(errs, field.Invalid(fld, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers"))
	}
	if !spec.HostNetwork {
		errs = append(errs, field.Invalid(fld.Child("hostNetwork"), spec.HostNetwork, "hostNetwork must be true if pod contains any hostProcess containers"))
	}
	return errs
}

// eachContainer calls do with every container of all three kinds and where it stands.
func eachContainer(fld *field.Path, spec *corev1.PodSpec, do func(*field.Path, *corev1.Container)) {
	for i := range spec.InitContainers {
		do(fld.Child("initContainers").Index(i), &spec.InitContainers[i])
	}
	for i := range spec.Containers {
		do(fld.Child("containers").Index(i), &spec.Containers[i])
	}
	for i := range spec.EphemeralContainers {
		c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		do(fld.Child("ephemeralContainers").Index(i), &c)
	}
}
