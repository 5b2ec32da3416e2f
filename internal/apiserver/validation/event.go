package validation

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// How long the words of an event may be, in bytes.
const (
	maxEventWord = 128
	maxEventNote = 1024
)

// eventCreate returns the faults of an event of the core group. One without eventTime is of
// the old form, of which only the namespace is checked.
func eventCreate(e *corev1.Event) field.ErrorList {
	return append(namespaced(&e.ObjectMeta, pathName), eventRules(e)...)
}

func eventUpdate(e, old *corev1.Event) field.ErrorList {
	return append(metadataUpdate(&e.ObjectMeta, &old.ObjectMeta), eventRules(e)...)
}

func eventRules(e *corev1.Event) field.ErrorList {
	fld := field.NewPath("involvedObject", "namespace")
	if e.EventTime.IsZero() {
		return involvedNamespace(fld, e.InvolvedObject.Namespace, e.Namespace, metav1.NamespaceNone, metav1.NamespaceDefault)
	}
	errs := involvedNamespace(fld, e.InvolvedObject.Namespace, e.Namespace, metav1.NamespaceDefault, metav1.NamespaceSystem)
	errs = append(errs, eventReporter(field.NewPath("reportingComponent"), e.ReportingController, e.ReportingInstance)...)
	return append(errs, eventWords(e.Action, e.Reason, "message", e.Message)...)
}

// involvedNamespace requires an event to be where its object is, and one about an object
// outside of all namespaces to be in one of homes.
func involvedNamespace(fld *field.Path, involved, namespace string, homes ...string) field.ErrorList {
	if involved == namespace || involved == "" && slices.Contains(homes, namespace) {
		return nil
	}
	return field.ErrorList{field.Invalid(fld, involved, "does not match event.namespace")}
}

func eventReporter(fld *field.Path, controller, instance string) field.ErrorList {
	errs := requireFormat(fld, controller, validation.IsQualifiedName)
	return append(errs, eventWord(field.NewPath("reportingInstance"), instance)...)
}

func eventWords(action, reason, notePath, note string) field.ErrorList {
	errs := eventWord(field.NewPath("action"), action)
	errs = append(errs, eventWord(field.NewPath("reason"), reason)...)
	if len(note) > maxEventNote {
		errs = append(errs, field.TooLong(field.NewPath(notePath), "", maxEventNote))
	}
	return errs
}

func eventWord(fld *field.Path, word string) field.ErrorList {
	if len(word) > maxEventWord {
		return field.ErrorList{field.TooLong(fld, "", maxEventWord)}
	}
	return requireText(fld, word)
}

// newEventCreate returns the faults of an event of the events.k8s.io group.
func newEventCreate(e *eventsv1.Event) field.ErrorList {
	errs := namespaced(&e.ObjectMeta, subdomainName)
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	errs = append(errs, involvedNamespace(field.NewPath("regarding", "namespace"), e.Regarding.Namespace, e.Namespace, metav1.NamespaceDefault, metav1.NamespaceSystem)...)
	errs = append(errs, eventReporter(field.NewPath("reportingController"), e.ReportingController, e.ReportingInstance)...)
	errs = append(errs, eventWords(e.Action, e.Reason, "note", e.Note)...)
	errs = append(errs, eventSeries(e.Series)...)
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), e.Type, "has invalid value: "+e.Type))
	}
	return append(errs, noDeprecated(e)...)
}

func eventSeries(series *eventsv1.EventSeries) field.ErrorList {
	if series == nil {
		return nil
	}
	var errs field.ErrorList
	fld := field.NewPath("series")
	if series.Count < 2 {
		errs = append(errs, field.Invalid(fld.Child("count"), series.Count, "should be at least 2"))
	}
	if series.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(fld.Child("lastObservedTime"), ""))
	}
	return errs
}

// noDeprecated refuses the fields that only events of the core group may have.
func noDeprecated(e *eventsv1.Event) field.ErrorList {
	var errs field.ErrorList
	for _, deprecated := range []struct {
		name string
		set  bool
	}{
		{"deprecatedFirstTimestamp", !e.DeprecatedFirstTimestamp.IsZero()},
		{"deprecatedLastTimestamp", !e.DeprecatedLastTimestamp.IsZero()},
		{"deprecatedCount", e.DeprecatedCount != 0},
		{"deprecatedSource", e.DeprecatedSource != corev1.EventSource{}},
	} {
		if deprecated.set {
			errs = append(errs, field.Invalid(field.NewPath(deprecated.name), "", "needs to be unset"))
		}
	}
	return errs
}

// newEventUpdate allows only the series to change.
func newEventUpdate(e, old *eventsv1.Event) field.ErrorList {
	errs := metadataUpdate(&e.ObjectMeta, &old.ObjectMeta)
	for _, fixed := range []struct {
		name       string
		value, old any
	}{
		{"eventTime", e.EventTime.Time.UnixMicro(), old.EventTime.Time.UnixMicro()},
		{"reportingController", e.ReportingController, old.ReportingController},
		{"reportingInstance", e.ReportingInstance, old.ReportingInstance},
		{"action", e.Action, old.Action},
		{"reason", e.Reason, old.Reason},
		{"regarding", e.Regarding, old.Regarding},
		{"related", e.Related, old.Related},
		{"note", e.Note, old.Note},
		{"type", e.Type, old.Type},
		{"deprecatedSource", e.DeprecatedSource, old.DeprecatedSource},
		{"deprecatedFirstTimestamp", e.DeprecatedFirstTimestamp, old.DeprecatedFirstTimestamp},
		{"deprecatedLastTimestamp", e.DeprecatedLastTimestamp, old.DeprecatedLastTimestamp},
		{"deprecatedCount", e.DeprecatedCount, old.DeprecatedCount},
	} {
		errs = append(errs, immutable(field.NewPath(fixed.name), fixed.value, fixed.old)...)
	}
	return append(errs, eventSeries(e.Series)...)
}
