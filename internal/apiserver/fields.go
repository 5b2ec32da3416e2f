package apiserver

import (
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The fields that field selectors may name, kind by kind, as in Kubernetes'
// documentation of field selectors.

func namespaceFields(obj runtime.Object) fields.Set {
	n := obj.(*corev1.Namespace)
	return fields.Set{"status.phase": string(n.Status.Phase), "name": n.Name}
}

func podFields(obj runtime.Object) fields.Set {
	p := obj.(*corev1.Pod)
	return fields.Set{
		"spec.nodeName":            p.Spec.NodeName,
		"spec.restartPolicy":       string(p.Spec.RestartPolicy),
		"spec.schedulerName":       p.Spec.SchedulerName,
		"spec.serviceAccountName":  p.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(p.Spec.HostNetwork),
		"status.phase":             string(p.Status.Phase),
		"status.podIP":             p.Status.PodIP,
		"status.nominatedNodeName": p.Status.NominatedNodeName,
	}
}

func serviceFields(obj runtime.Object) fields.Set {
	s := obj.(*corev1.Service)
	return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
}

func secretFields(obj runtime.Object) fields.Set {
	return fields.Set{"type": string(obj.(*corev1.Secret).Type)}
}

func nodeFields(obj runtime.Object) fields.Set {
	return fields.Set{"spec.unschedulable": strconv.FormatBool(obj.(*corev1.Node).Spec.Unschedulable)}
}

func controllerFields(obj runtime.Object) fields.Set {
	return fields.Set{"status.replicas": strconv.Itoa(int(obj.(*corev1.ReplicationController).Status.Replicas))}
}

func replicaSetFields(obj runtime.Object) fields.Set {
	return fields.Set{"status.replicas": strconv.Itoa(int(obj.(*appsv1.ReplicaSet).Status.Replicas))}
}

func eventFields(obj runtime.Object) fields.Set {
	e := obj.(*corev1.Event)
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	return fields.Set{
		"involvedObject.kind":            e.InvolvedObject.Kind,
		"involvedObject.namespace":       e.InvolvedObject.Namespace,
		"involvedObject.name":            e.InvolvedObject.Name,
		"involvedObject.uid":             string(e.InvolvedObject.UID),
		"involvedObject.apiVersion":      e.InvolvedObject.APIVersion,
		"involvedObject.resourceVersion": e.InvolvedObject.ResourceVersion,
		"involvedObject.fieldPath":       e.InvolvedObject.FieldPath,
		"reason":                         e.Reason,
		"reportingComponent":             e.ReportingController,
		"source":                         source,
		"type":                           e.Type,
	}
}

// oldFieldLabels are names that Kubernetes keeps accepting for others.
var oldFieldLabels = map[string]string{"spec.host": "spec.nodeName"}

// eventViewLabels are what selectors on events.k8s.io call the fields of events.
var eventViewLabels = map[string]string{
	"regarding.kind":            "involvedObject.kind",
	"regarding.namespace":       "involvedObject.namespace",
	"regarding.name":            "involvedObject.name",
	"regarding.uid":             "involvedObject.uid",
	"regarding.apiVersion":      "involvedObject.apiVersion",
	"regarding.resourceVersion": "involvedObject.resourceVersion",
	"regarding.fieldPath":       "involvedObject.fieldPath",
	"reportingController":       "reportingComponent",
}

// addFieldLabels registers which fields selectors may name, for each kind.
func addFieldLabels(scheme *runtime.Scheme) error {
	for _, k := range kinds() {
		if err := scheme.AddFieldLabelConversionFunc(kindOf(scheme, k), labelConversion(k, oldFieldLabels)); err != nil {
			return err
		}
		if k.resource == "events" {
			view := eventsv1.SchemeGroupVersion.WithKind("Event")
			if err := scheme.AddFieldLabelConversionFunc(view, labelConversion(k, eventViewLabels)); err != nil {
				return err
			}
		}
	}
	return nil
}

// labelConversion accepts the fields of k, and the aliases of them.
func labelConversion(k *kind, aliases map[string]string) runtime.FieldLabelConversionFunc {
	_, supported, _ := k.attributes(k.newObject())
	return func(label, value string) (string, string, error) {
		if name, ok := aliases[label]; ok {
			label = name
		}
		if _, ok := supported[label]; !ok {
			return "", "", fmt.Errorf("field label not supported: %s", label)
		}
		return label, value, nil
	}
}

// kindOf returns the public group, version and kind of an object of k.
func kindOf(scheme *runtime.Scheme, k *kind) schema.GroupVersionKind {
	known, _, err := scheme.ObjectKinds(k.newObject())
	if err != nil {
		panic("apiserver: unregistered kind: " + err.Error())
	}
	return k.version().WithKind(known[0].Kind)
}
