package columns

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/cli-runtime/pkg/printers"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/randfill"

	"windlass.dev/windlass/api/v1alpha1"
)

// allKinds has Kubernetes' kinds and ours.
var allKinds = func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		panic(err)
	}
	return scheme
}()

// noon is the present of all tests.
func noon() time.Time { return time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC) }

// TestGolden prints, for each block of testdata, its manifests as kubectl get would,
// first narrow, then with -o wide.
func TestGolden(t *testing.T) {
	decoder := serializer.NewCodecFactory(allKinds, serializer.EnableStrict).UniversalDeserializer()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			convertor := forAt(schema.ParseGroupResource(d.Cmd), noon)
			table := &metav1.Table{}
			for manifest := range strings.SplitSeq(d.Input, "\n---\n") {
				obj, _, err := decoder.Decode([]byte(manifest), nil, nil)
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				one, err := convertor.ConvertToTable(context.Background(), obj, nil)
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				table.ColumnDefinitions = one.ColumnDefinitions
				table.Rows = append(table.Rows, one.Rows...)
			}
			var out bytes.Buffer
			for _, wide := range []bool{false, true} {
				if err := printers.NewTablePrinter(printers.PrintOptions{Wide: wide}).PrintObj(table.DeepCopy(), &out); err != nil {
					d.Fatalf(t, "%v", err)
				}
			}
			// What a terminal does not show, a golden file should not hold.
			lines := strings.Split(out.String(), "\n")
			for i := range lines {
				lines[i] = strings.TrimRight(lines[i], " ")
			}
			return strings.Join(lines, "\n")
		})
	})
}

// TestList holds what a table of a list carries over: rows with their objects, the version
// to watch from, the next page; and that headers are left out on demand.
func TestList(t *testing.T) {
	rest := int64(7)
	list := &corev1.PodList{
		ListMeta: metav1.ListMeta{ResourceVersion: "42", Continue: "next", RemainingItemCount: &rest},
		Items:    []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, {ObjectMeta: metav1.ObjectMeta{Name: "b"}, Status: corev1.PodStatus{Phase: corev1.PodFailed}}},
	}
	convertor := forAt(schema.GroupResource{Resource: "pods"}, noon)
	table, err := convertor.ConvertToTable(context.Background(), list, &metav1.TableOptions{NoHeaders: true})
	if err != nil {
		t.Fatal(err)
	}
	if table.ResourceVersion != "42" || table.Continue != "next" || *table.RemainingItemCount != rest {
		t.Errorf("list metadata %+v", table.ListMeta)
	}
	if len(table.ColumnDefinitions) != 0 {
		t.Errorf("headers although none were wanted")
	}
	if len(table.Rows) != 2 || table.Rows[1].Object.Object.(*corev1.Pod).Name != "b" {
		t.Fatalf("rows %+v", table.Rows)
	}
	if conditions := table.Rows[1].Conditions; len(conditions) != 1 || conditions[0].Type != metav1.RowCompleted {
		t.Errorf("a failed pod's conditions %+v", conditions)
	}
	list.Items = nil
	if table, err = convertor.ConvertToTable(context.Background(), list, &metav1.TableOptions{}); err != nil || len(table.ColumnDefinitions) == 0 || table.Rows == nil {
		t.Errorf("an empty list gave %+v, %v", table, err)
	}
}

// TestOtherObjects holds that what a resource does not consist of gets default columns.
func TestOtherObjects(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}}
	for _, resource := range []string{"pods", "unheardof"} {
		table, err := For(schema.GroupResource{Resource: resource}).ConvertToTable(context.Background(), secret, nil)
		if err != nil || len(table.Rows) != 1 || table.Rows[0].Cells[0] != "s" {
			t.Errorf("%s: %+v, %v", resource, table, err)
		}
	}
}

// TestEveryColumnIsDescribed holds that no description was asked of a field that does not
// exist, and that every row has as many cells as there are columns, whatever the object.
func TestEveryColumnIsDescribed(t *testing.T) {
	for gr, table := range tables() {
		for _, column := range table.columns {
			if column.Description == "" {
				t.Errorf("%s: column %s has no description", gr, column.Name)
			}
		}
		for kind := range allKinds.AllKnownTypes() {
			obj, err := allKinds.New(kind)
			if err != nil {
				t.Fatal(err)
			}
			if cells := table.row(obj, noon()).Cells; cells != nil && len(cells) != len(table.columns) {
				t.Errorf("%s: %d cells under %d columns", gr, len(cells), len(table.columns))
			}
		}
	}
}

// FuzzTables holds that no object, however strange, panics a printer.
func FuzzTables(f *testing.F) {
	for seed := range int64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed int64) {
		filler := randfill.NewWithSeed(seed).NilChance(.3).NumElements(0, 4).MaxDepth(12).Funcs(
			func(*runtime.RawExtension, randfill.Continue) {}, func(*metav1.FieldsV1, randfill.Continue) {})
		for gr := range tables() {
			for _, obj := range objectsOf(gr) {
				filler.Fill(obj)
				if _, err := For(gr).ConvertToTable(context.Background(), obj, nil); err != nil {
					t.Errorf("%s: %v", gr, err)
				}
			}
		}
	})
}

// objectsOf makes an empty object of each type that a resource's table prints.
func objectsOf(gr schema.GroupResource) []runtime.Object {
	var objects []runtime.Object
	for kind := range allKinds.AllKnownTypes() {
		obj, err := allKinds.New(kind)
		if err == nil && tables()[gr].row(obj, noon()).Cells != nil {
			objects = append(objects, obj)
		}
	}
	return objects
}
