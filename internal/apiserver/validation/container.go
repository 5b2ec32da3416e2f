package validation

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// containers returns the faults of the containers that make up a pod.
func containers(fld *field.Path, facts podFacts) field.ErrorList {
	fld = fld.Child("containers")
	list := facts.spec.Containers
	if len(list) == 0 {
		return field.ErrorList{field.Required(fld, "")}
	}
	var errs field.ErrorList
	names, hostPorts := sets.New[string](), sets.New[string]()
	for i := range list {
		c, at := &list[i], fld.Index(i)
		errs = append(errs, container(at, c, facts)...)
		errs = append(errs, uniqueName(at, c.Name, names)...)
		errs = append(errs, lifecycleAndProbes(at, c, facts)...)
		errs = append(errs, uniqueHostPorts(at, c.Ports, hostPorts)...)
	}
	return errs
}

// initContainers returns the faults of the containers that run before the others.
func initContainers(fld *field.Path, facts podFacts) field.ErrorList {
	fld = fld.Child("initContainers")
	var errs field.ErrorList
	names := sets.New[string]()
	for _, c := range facts.spec.Containers {
		names.Insert(c.Name)
	}
	for i := range facts.spec.InitContainers {
		c, at := &facts.spec.InitContainers[i], fld.Index(i)
		errs = append(errs, container(at, c, facts)...)
		errs = append(errs, uniqueName(at, c.Name, names)...)
		// They run one after the other, so only one's own ports can be in each other's way.
		errs = append(errs, uniqueHostPorts(at, c.Ports, sets.New[string]())...)
		if isSidecar(c) {
			errs = append(errs, lifecycleAndProbes(at, c, facts)...)
			continue
		}
		const sidecarsOnly = "may not be set for init containers without restartPolicy=Always"
		errs = append(errs, forbidSet(at, sidecarsOnly, map[string]bool{
			"lifecycle":      c.Lifecycle != nil,
			"livenessProbe":  c.LivenessProbe != nil,
			"readinessProbe": c.ReadinessProbe != nil,
			"startupProbe":   c.StartupProbe != nil,
		})...)
		if len(c.ResizePolicy) > 0 {
			errs = append(errs, field.Invalid(at.Child("resizePolicy"), c.ResizePolicy, "must not be set for init containers"))
		}
	}
	return errs
}

// isSidecar tells whether an init container goes on beside the containers that follow.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// ephemeralContainers returns the faults of the containers put into a running pod. They are
// visitors: what would make the pod depend on them is refused.
func ephemeralContainers(fld *field.Path, facts podFacts) field.ErrorList {
	fld = fld.Child("ephemeralContainers")
	var errs field.ErrorList
	names := sets.New[string]()
	for _, c := range slices.Concat(facts.spec.Containers, facts.spec.InitContainers) {
		names.Insert(c.Name)
	}
	targets := names.Clone()
	for i := range facts.spec.EphemeralContainers {
		ephemeral, at := &facts.spec.EphemeralContainers[i], fld.Index(i)
		c := corev1.Container(ephemeral.EphemeralContainerCommon)
		errs = append(errs, container(at, &c, facts)...)
		errs = append(errs, uniqueName(at, c.Name, names)...)
		if target := ephemeral.TargetContainerName; target != "" && !targets.Has(target) {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), target))
		}
		errs = append(errs, visitorsOnly(at, &c)...)
	}
	return errs
}

func visitorsOnly(fld *field.Path, c *corev1.Container) field.ErrorList {
	const message = "cannot be set for an Ephemeral Container"
	errs := forbidSet(fld, message, map[string]bool{
		"ports":              c.Ports != nil,
		"resources":          c.Resources.Limits != nil || c.Resources.Requests != nil || c.Resources.Claims != nil,
		"resizePolicy":       c.ResizePolicy != nil,
		"restartPolicy":      c.RestartPolicy != nil,
		"restartPolicyRules": c.RestartPolicyRules != nil,
		"livenessProbe":      c.LivenessProbe != nil,
		"readinessProbe":     c.ReadinessProbe != nil,
		"startupProbe":       c.StartupProbe != nil,
		"lifecycle":          c.Lifecycle != nil,
	})
	for i, mount := range c.VolumeMounts {
		errs = append(errs, forbidSet(fld.Child("volumeMounts").Index(i), message, map[string]bool{
			"subPath":     mount.SubPath != "",
			"subPathExpr": mount.SubPathExpr != "",
		})...)
	}
	return errs
}

// forbidSet refuses, with one message, those of the fields below fld that are set.
func forbidSet(fld *field.Path, message string, isSet map[string]bool) field.ErrorList {
	var errs field.ErrorList
	for _, name := range sets.List(sets.KeySet(isSet)) {
		if isSet[name] {
			errs = append(errs, field.Forbidden(fld.Child(name), message))
		}
	}
	return errs
}

// uniqueName refuses a container's name that is among names, and adds it to them.
func uniqueName(fld *field.Path, name string, names sets.Set[string]) field.ErrorList {
	if name != "" && names.Has(name) {
		return field.ErrorList{field.Duplicate(fld.Child("name"), name)}
	}
	names.Insert(name)
	return nil
}

// container returns the faults of what all kinds of containers have.
func container(fld *field.Path, c *corev1.Container, facts podFacts) field.ErrorList {
	errs := requireFormat(fld.Child("name"), c.Name, validation.IsDNS1123Label)
	errs = append(errs, requireText(fld.Child("image"), c.Image)...)
	errs = append(errs, requireChoice(fld.Child("imagePullPolicy"), c.ImagePullPolicy,
		corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	errs = append(errs, requireChoice(fld.Child("terminationMessagePolicy"), c.TerminationMessagePolicy,
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, containerPorts(fld.Child("ports"), c.Ports)...)
	errs = append(errs, environment(fld.Child("env"), c.Env, facts)...)
	errs = append(errs, environmentSources(fld.Child("envFrom"), c.EnvFrom)...)
	errs = append(errs, volumeMounts(fld.Child("volumeMounts"), c, facts)...)
	errs = append(errs, volumeDevices(fld.Child("volumeDevices"), c, facts)...)
	errs = append(errs, containerResources(fld.Child("resources"), &c.Resources, facts)...)
	errs = append(errs, resizePolicy(fld.Child("resizePolicy"), c.ResizePolicy, facts.spec.RestartPolicy)...)
	errs = append(errs, containerSecurity(fld.Child("securityContext"), c.SecurityContext, facts)...)
	return append(errs, containerRestarts(fld, c)...)
}

// containerPorts returns the faults of the ports of one container.
func containerPorts(fld *field.Path, ports []corev1.ContainerPort) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, port := range ports {
		at := fld.Index(i)
		if port.Name != "" {
			errs = append(errs, invalidFor(at.Child("name"), port.Name, validation.IsValidPortName(port.Name))...)
			errs = append(errs, uniqueName(at, port.Name, names)...)
		}
		if port.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, invalidFor(at.Child("containerPort"), port.ContainerPort, validation.IsValidPortNum(int(port.ContainerPort)))...)
		}
		if port.HostPort != 0 {
			errs = append(errs, invalidFor(at.Child("hostPort"), port.HostPort, validation.IsValidPortNum(int(port.HostPort)))...)
		}
		errs = append(errs, requireChoice(at.Child("protocol"), port.Protocol,
			corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
	}
	return errs
}

// uniqueHostPorts refuses the host ports that are among taken, and adds them to these.
func uniqueHostPorts(fld *field.Path, ports []corev1.ContainerPort, taken sets.Set[string]) field.ErrorList {
	var errs field.ErrorList
	for i, port := range ports {
		if port.HostPort == 0 {
			continue
		}
		key := fmt.Sprintf("%s/%s/%d", port.Protocol, port.HostIP, port.HostPort)
		if taken.Has(key) {
			errs = append(errs, field.Duplicate(fld.Child("ports").Index(i).Child("hostPort"), key))
		}
		taken.Insert(key)
	}
	return errs
}

// The most restart rules of a container, and the most exit codes in one of them.
const (
	maxRestartRules     = 20
	maxRestartExitCodes = 255
)

// containerRestarts returns the faults of a container's own restart policy and its rules.
func containerRestarts(fld *field.Path, c *corev1.Container) field.ErrorList {
	errs := optionalChoice(fld.Child("restartPolicy"), c.RestartPolicy,
		corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)
	rules := fld.Child("restartPolicyRules")
	if len(c.RestartPolicyRules) > 0 && c.RestartPolicy == nil {
		errs = append(errs, field.Required(fld.Child("restartPolicy"), "must specify restartPolicy when restart rules are used"))
	}
	if len(c.RestartPolicyRules) > maxRestartRules {
		errs = append(errs, field.TooMany(rules, len(c.RestartPolicyRules), maxRestartRules))
	}
	for i, rule := range c.RestartPolicyRules {
		errs = append(errs, requireChoice(rules.Index(i).Child("action"), rule.Action,
			corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)...)
		if rule.ExitCodes == nil {
			errs = append(errs, field.Required(rules.Index(i).Child("exitCodes"), "must be specified"))
			continue
		}
		errs = append(errs, restartExitCodes(rules.Index(i).Child("exitCodes"), rule.ExitCodes)...)
	}
	return errs
}

func restartExitCodes(fld *field.Path, codes *corev1.ContainerRestartRuleOnExitCodes) field.ErrorList {
	errs := requireChoice(fld.Child("operator"), codes.Operator,
		corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)
	values := fld.Child("values")
	if len(codes.Values) == 0 {
		errs = append(errs, field.Required(values, "must specify at least one exit code"))
	}
	if len(codes.Values) > maxRestartExitCodes {
		errs = append(errs, field.TooMany(values, len(codes.Values), maxRestartExitCodes))
	}
	seen := sets.New[int32]()
	for i, code := range codes.Values {
		if seen.Has(code) {
			errs = append(errs, field.Duplicate(values.Index(i), code))
		}
		seen.Insert(code)
	}
	return errs
}
