package columns

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

var eventDocs = corev1.Event{}.SwaggerDoc()

var events = table{
	columns: []metav1.TableColumnDefinition{
		text("Last Seen", eventDocs["lastTimestamp"]),
		text("Type", eventDocs["type"]),
		text("Reason", eventDocs["reason"]),
		text("Object", eventDocs["involvedObject"]),
		wide(text("Subobject", corev1.ObjectReference{}.SwaggerDoc()["fieldPath"])),
		wide(text("Source", eventDocs["source"])),
		text("Message", eventDocs["message"]),
		wide(text("First Seen", eventDocs["firstTimestamp"])),
		wide(text("Count", eventDocs["count"])),
		wide(nameColumn),
	},
	row: func(obj runtime.Object, now time.Time) metav1.TableRow {
		switch event := obj.(type) {
		case *corev1.Event:
			return metav1.TableRow{Cells: eventCells(event, now)}
		case *eventsv1.Event:
			return metav1.TableRow{Cells: eventCells(coreEvent(event), now)}
		}
		return metav1.TableRow{}
	},
}

func eventCells(e *corev1.Event, now time.Time) []any {
	first := e.FirstTimestamp.Time
	if first.IsZero() {
		first = e.EventTime.Time
	}
	last, count := e.LastTimestamp.Time, max(e.Count, 1)
	if last.IsZero() {
		last = first
	}
	if e.Series != nil {
		last, count = e.Series.LastObservedTime.Time, e.Series.Count
	}
	object := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		object += "/" + e.InvolvedObject.Name
	}
	return []any{
		since(last, now),
		e.Type,
		e.Reason,
		object,
		e.InvolvedObject.FieldPath,
		eventSource(e),
		strings.TrimSpace(e.Message),
		since(first, now),
		int64(count),
		e.Name,
	}
}

// eventSource is who reports, and where it runs when that is known.
func eventSource(e *corev1.Event) string {
	component, instance := or(e.Source.Component, e.ReportingController), or(e.Source.Host, e.ReportingInstance)
	if instance == "" {
		return component
	}
	return component + ", " + instance
}

// coreEvent is an event of the events.k8s.io group in the form of the core group, as far
// as it is printed.
func coreEvent(e *eventsv1.Event) *corev1.Event {
	core := &corev1.Event{
		ObjectMeta:          e.ObjectMeta,
		InvolvedObject:      e.Regarding,
		Reason:              e.Reason,
		Message:             e.Note,
		Source:              e.DeprecatedSource,
		FirstTimestamp:      e.DeprecatedFirstTimestamp,
		LastTimestamp:       e.DeprecatedLastTimestamp,
		Count:               e.DeprecatedCount,
		Type:                e.Type,
		EventTime:           e.EventTime,
		ReportingController: e.ReportingController,
		ReportingInstance:   e.ReportingInstance,
	}
	if e.Series != nil {
		core.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return core
}
