package validation

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// lifecycleAndProbes returns the faults of what is done to a container while it runs.
func lifecycleAndProbes(fld *field.Path, c *corev1.Container, facts podFacts) field.ErrorList {
	var errs field.ErrorList
	if c.Lifecycle != nil {
		errs = append(errs, lifecycle(fld.Child("lifecycle"), c.Lifecycle, facts)...)
	}
	if c.LivenessProbe != nil {
		errs = append(errs, restartProbe(fld.Child("livenessProbe"), c.LivenessProbe)...)
	}
	if c.StartupProbe != nil {
		errs = append(errs, restartProbe(fld.Child("startupProbe"), c.StartupProbe)...)
	}
	if c.ReadinessProbe != nil {
		at := fld.Child("readinessProbe")
		errs = append(errs, probe(at, c.ReadinessProbe)...)
		if seconds := c.ReadinessProbe.TerminationGracePeriodSeconds; seconds != nil {
			errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *seconds, "must not be set for readinessProbes"))
		}
	}
	return errs
}

// restartProbe returns the faults of a probe whose failure restarts the container: one
// success is the end of it, and it may bring its own grace period.
func restartProbe(fld *field.Path, p *corev1.Probe) field.ErrorList {
	errs := probe(fld, p)
	if p.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(fld.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	if seconds := p.TerminationGracePeriodSeconds; seconds != nil && *seconds <= 0 {
		errs = append(errs, field.Invalid(fld.Child("terminationGracePeriodSeconds"), *seconds, "must be greater than 0"))
	}
	return errs
}

// probe returns the faults of what all probes have.
func probe(fld *field.Path, p *corev1.Probe) field.ErrorList {
	errs := handler(fld, action{Exec: p.Exec, HTTPGet: p.HTTPGet, TCPSocket: p.TCPSocket, GRPC: p.GRPC}, nil)
	for _, number := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds},
		{"timeoutSeconds", p.TimeoutSeconds},
		{"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold},
		{"failureThreshold", p.FailureThreshold},
	} {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(number.value), fld.Child(number.name))...)
	}
	return errs
}

// lifecycle returns the faults of the hooks of a container and of its stop signal.
func lifecycle(fld *field.Path, l *corev1.Lifecycle, facts podFacts) field.ErrorList {
	var errs field.ErrorList
	grace := facts.spec.TerminationGracePeriodSeconds
	if h := l.PostStart; h != nil {
		errs = append(errs, handler(fld.Child("postStart"), action{Exec: h.Exec, HTTPGet: h.HTTPGet, TCPSocket: h.TCPSocket, Sleep: h.Sleep}, grace)...)
	}
	if h := l.PreStop; h != nil {
		errs = append(errs, handler(fld.Child("preStop"), action{Exec: h.Exec, HTTPGet: h.HTTPGet, TCPSocket: h.TCPSocket, Sleep: h.Sleep}, grace)...)
	}
	if l.StopSignal != nil {
		errs = append(errs, stopSignal(fld.Child("stopSignal"), *l.StopSignal, facts.spec.OS)...)
	}
	return errs
}

// action is what a probe or a hook may do; one of its members is to be set.
type action struct {
	Exec      *corev1.ExecAction
	HTTPGet   *corev1.HTTPGetAction
	TCPSocket *corev1.TCPSocketAction
	GRPC      *corev1.GRPCAction
	Sleep     *corev1.SleepAction
}

// handler returns the faults of an action. A sleep must fit in the grace period, in seconds.
func handler(fld *field.Path, a action, grace *int64) field.ErrorList {
	var errs field.ErrorList
	kinds := 0
	one := func(name string, isSet bool, faults func(*field.Path) field.ErrorList) {
		switch {
		case !isSet:
			return
		case kinds > 0:
			errs = append(errs, field.Forbidden(fld.Child(name), "may not specify more than 1 handler type"))
		default:
			errs = append(errs, faults(fld.Child(name))...)
		}
		kinds++
	}
	one("exec", a.Exec != nil, func(fld *field.Path) field.ErrorList {
		if len(a.Exec.Command) == 0 {
			return field.ErrorList{field.Required(fld.Child("command"), "")}
		}
		return nil
	})
	one("httpGet", a.HTTPGet != nil, func(fld *field.Path) field.ErrorList { return httpGet(fld, a.HTTPGet) })
	one("tcpSocket", a.TCPSocket != nil, func(fld *field.Path) field.ErrorList {
		return portNumberOrName(fld.Child("port"), a.TCPSocket.Port)
	})
	one("grpc", a.GRPC != nil, func(fld *field.Path) field.ErrorList {
		errs := invalidFor(fld.Child("port"), a.GRPC.Port, validation.IsValidPortNum(int(a.GRPC.Port)))
		return append(errs, optionalChoice(fld.Child("mode"), a.GRPC.Mode, corev1.GRPCProbeModePlaintext, corev1.GRPCProbeModeTLS)...)
	})
	one("sleep", a.Sleep != nil, func(fld *field.Path) field.ErrorList { return sleep(fld, a.Sleep, grace) })
	if kinds == 0 {
		errs = append(errs, field.Required(fld, "must specify a handler type"))
	}
	return errs
}

func httpGet(fld *field.Path, get *corev1.HTTPGetAction) field.ErrorList {
	errs := requireText(fld.Child("path"), get.Path)
	errs = append(errs, portNumberOrName(fld.Child("port"), get.Port)...)
	errs = append(errs, choice(fld.Child("scheme"), get.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
	for i, header := range get.HTTPHeaders {
		errs = append(errs, invalidFor(fld.Child("httpHeaders").Index(i).Child("name"), header.Name, validation.IsHTTPHeaderName(header.Name))...)
	}
	errs = append(errs, optionalChoice(fld.Child("protocol"), get.Protocol, corev1.HTTPProtocolHTTP1, corev1.HTTPProtocolHTTP2)...)
	if get.Protocol != nil && *get.Protocol == corev1.HTTPProtocolHTTP2 && get.Scheme != corev1.URISchemeHTTP {
		errs = append(errs, field.Invalid(fld.Child("protocol"), *get.Protocol, "may only be HTTP2 when scheme is HTTP"))
	}
	return errs
}

func sleep(fld *field.Path, s *corev1.SleepAction, grace *int64) field.ErrorList {
	limit := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if grace != nil {
		limit = *grace
	}
	if s.Seconds >= 0 && s.Seconds <= limit {
		return nil
	}
	message := fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", limit)
	return field.ErrorList{field.Invalid(fld.Child("seconds"), s.Seconds, message)}
}

// linuxSignals are the signals by which a container on Linux may be stopped.
var linuxSignals = func() sets.Set[corev1.Signal] {
	signals := sets.New[corev1.Signal]()
	for _, name := range strings.Fields(`ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR
		QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX`) {
		signals.Insert(corev1.Signal("SIG" + name))
	}
	for i := 1; i <= 15; i++ {
		signals.Insert(corev1.Signal(fmt.Sprintf("SIGRTMIN+%d", i)))
	}
	for i := 1; i <= 14; i++ {
		signals.Insert(corev1.Signal(fmt.Sprintf("SIGRTMAX-%d", i)))
	}
	return signals
}()

// stopSignal returns the faults of a stop signal, which only has a meaning for a known
// operating system.
func stopSignal(fld *field.Path, signal corev1.Signal, os *corev1.PodOS) field.ErrorList {
	switch {
	case os == nil || os.Name == "":
		return field.ErrorList{field.Forbidden(fld, "may not be set for containers with empty `spec.os.name`")}
	case os.Name == corev1.Windows:
		return choice(fld, signal, corev1.SIGKILL, corev1.SIGTERM)
	default:
		return choice(fld, signal, sets.List(linuxSignals)...)
	}
}
