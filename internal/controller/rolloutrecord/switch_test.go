package rolloutrecord

import (
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/api/v1alpha1"
)

// TestSwitchScripts plays the scripts in testdata/switches: a Service's selector
// and endpoints change, and a decision prints what is written about it.
func TestSwitchScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/switches", func(t *testing.T, path string) {
		f := SwitchFacts{Now: clock(t, "10:00:00"), Ready: map[types.UID]int32{}, Service: &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "kubia", Namespace: "default", UID: "service"}}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return f.do(t, d) })
	})
}

func (f *SwitchFacts) do(t *testing.T, d *datadriven.TestData) string {
	labels, args, name := map[string]string{}, map[string]string{}, ""
	for i, arg := range d.CmdArgs {
		switch value := strings.Join(arg.Vals, ","); {
		case i == 0 && value == "":
			name = arg.Key
		case arg.Key == "replicas" || arg.Key == "group" || arg.Key == "rev":
			args[arg.Key] = value
		default:
			labels[arg.Key] = value
		}
	}
	switch d.Cmd {
	case "at":
		f.Now = clock(t, name)
	case "controller":
		f.Controllers = append(f.Controllers, Controller{Name: name, UID: types.UID("uid-" + name), Group: types.UID("uid-" + name + args["group"]),
			Replicas: number(t, args["replicas"]), Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}}})
		c := &f.Controllers[len(f.Controllers)-1]
		if args["group"] != "" {
			c.Group, c.Revision = types.UID(args["group"]), int64(number(t, args["rev"]))
		}
	case "remove":
		for i, c := range f.Controllers {
			if c.Name == name {
				f.Controllers = append(f.Controllers[:i:i], f.Controllers[i+1:]...)
				break
			}
		}
	case "select", "select-unseen":
		service := f.Service.DeepCopy()
		if d.Cmd == "select" && f.Was == nil && f.Service.Spec.Selector != nil {
			f.Was, f.ChangedAt = f.Service.Spec.Selector, f.Now
		}
		service.Spec.Selector = labels
		f.Service = service
	case "ready":
		f.Ready = map[types.UID]int32{}
		for k, v := range labels {
			f.Ready[types.UID("uid-"+k)] = number(t, v)
		}
	case "decide":
		plan := DecideSwitch(*f)
		f.carryOut(plan)
		return plan.String()
	default:
		t.Fatalf("%s: no command %q", d.Pos, d.Cmd)
	}
	return ""
}

func (f *SwitchFacts) carryOut(plan SwitchPlan) {
	if !plan.Unclear {
		f.Was = nil
	}
	var records []*v1alpha1.RolloutRecord
	for _, r := range f.Records {
		for _, s := range plan.Statuses {
			if s.Record == r.Name {
				r = r.DeepCopy()
				r.Status = s.Status
			}
		}
		keep := true
		for _, name := range plan.Delete {
			keep = keep && name != r.Name
		}
		if keep {
			records = append(records, r)
		}
	}
	if plan.Create != nil {
		records = append(records, plan.Create)
	}
	f.Records = records
}
