package columns

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
)

// For returns the convertor that makes tables of the resource gr. A resource
// without columns of its own gets the library's default, name and creation time.
// Ages are counted to the present.
//
// The rows carry the whole object; the API server's response handler cuts it down
// to what the request's includeObject asks for.
func For(gr schema.GroupResource) rest.TableConvertor {
	return forAt(gr, time.Now)
}

// forAt is For with ages counted to the time that now returns, asked once per table.
func forAt(gr schema.GroupResource, now func() time.Time) rest.TableConvertor {
	other := rest.NewDefaultTableConvertor(gr)
	kind, known := tables()[gr]
	if !known {
		return other
	}
	return convertor{table: kind, now: now, other: other}
}

// tables lists the resources that have columns of their own.
func tables() map[schema.GroupResource]table {
	return map[schema.GroupResource]table{
		{Resource: "configmaps"}:                                              configMaps,
		{Resource: "endpoints"}:                                               endpoints,
		{Resource: "events"}:                                                  events,
		{Resource: "namespaces"}:                                              namespaces,
		{Resource: "nodes"}:                                                   nodes,
		{Resource: "persistentvolumeclaims"}:                                  persistentVolumeClaims,
		{Resource: "persistentvolumes"}:                                       persistentVolumes,
		{Resource: "pods"}:                                                    pods,
		{Resource: "replicationcontrollers"}:                                  replicationControllers,
		{Resource: "secrets"}:                                                 secrets,
		{Resource: "serviceaccounts"}:                                         serviceAccounts,
		{Resource: "services"}:                                                services,
		{Group: "apps", Resource: "controllerrevisions"}:                      controllerRevisions,
		{Group: "apps", Resource: "deployments"}:                              deployments,
		{Group: "autoscaling", Resource: "scales"}:                            scales,
		{Group: "apps", Resource: "replicasets"}:                              replicaSets,
		{Group: "apps", Resource: "statefulsets"}:                             statefulSets,
		{Group: "coordination.k8s.io", Resource: "leases"}:                    leases,
		{Group: "discovery.k8s.io", Resource: "endpointslices"}:               endpointSlices,
		{Group: "events.k8s.io", Resource: "events"}:                          events,
		{Group: "policy", Resource: "poddisruptionbudgets"}:                   disruptionBudgets,
		{Group: "scheduling.k8s.io", Resource: "priorityclasses"}:             priorityClasses,
		{Group: "rbac.authorization.k8s.io", Resource: "rolebindings"}:        roleBindings,
		{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"}: clusterRoleBindings,
		{Group: "storage.k8s.io", Resource: "storageclasses"}:                 storageClasses,
		{Group: "windlass.dev", Resource: "rolloutrecords"}:                   rolloutRecords,
	}
}

// table is how one resource is printed: its columns, and for an object the cells under
// them. Row returns no cells for an object of another type.
type table struct {
	columns []metav1.TableColumnDefinition
	row     func(obj runtime.Object, now time.Time) metav1.TableRow
}

// tableOf builds a table from the cells of an object of type T.
func tableOf[T runtime.Object](cells func(obj T, now time.Time) []any, columns ...metav1.TableColumnDefinition) table {
	return table{columns: columns, row: func(obj runtime.Object, now time.Time) metav1.TableRow {
		if obj, ok := obj.(T); ok {
			return metav1.TableRow{Cells: cells(obj, now)}
		}
		return metav1.TableRow{}
	}}
}

type convertor struct {
	table
	now   func() time.Time
	other rest.TableConvertor
}

// ConvertToTable makes the table of an object or of the items of a list. What the
// resource does not consist of, as a subresource's object, gets the default columns.
func (c convertor) ConvertToTable(ctx context.Context, object, options runtime.Object) (*metav1.Table, error) {
	objects := []runtime.Object{object}
	if meta.IsListType(object) {
		objects = objects[:0]
		if err := meta.EachListItem(object, func(item runtime.Object) error {
			objects = append(objects, item)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	now := c.now()
	made := &metav1.Table{Rows: make([]metav1.TableRow, 0, len(objects))}
	for _, obj := range objects {
		row := c.row(obj, now)
		if row.Cells == nil {
			return c.other.ConvertToTable(ctx, object, options)
		}
		row.Object = runtime.RawExtension{Object: obj}
		made.Rows = append(made.Rows, row)
	}
	if asked, ok := options.(*metav1.TableOptions); !ok || asked == nil || !asked.NoHeaders {
		made.ColumnDefinitions = c.columns
	}
	copyListMeta(made, object)
	return made, nil
}

// copyListMeta keeps what a client needs to go on: the version to watch from and the
// next page of a list.
func copyListMeta(to *metav1.Table, object runtime.Object) {
	if list, err := meta.ListAccessor(object); err == nil {
		to.ResourceVersion = list.GetResourceVersion()
		to.Continue = list.GetContinue()
		to.RemainingItemCount = list.GetRemainingItemCount()
	} else if one, err := meta.CommonAccessor(object); err == nil {
		to.ResourceVersion = one.GetResourceVersion()
	}
}
