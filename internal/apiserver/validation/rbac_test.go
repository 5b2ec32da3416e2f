package validation

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestRoles(t *testing.T) {
	meta, global := metav1.ObjectMeta{Namespace: "ns", Name: "a:b"}, metav1.ObjectMeta{Name: "a:b"}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"}
	ann := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: "ann"}
	role := func(rule rbacv1.PolicyRule) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{rule}}
	}
	binding := func(ref rbacv1.RoleRef, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects}
	}
	get, core, pods := []string{"get"}, []string{""}, []string{"pods"}
	for _, test := range []struct {
		obj  runtime.Object
		want string
	}{
		{role(rbacv1.PolicyRule{Verbs: get, APIGroups: core, Resources: pods}), ""},
		{role(rbacv1.PolicyRule{APIGroups: core, Resources: pods}), "rules[0].verbs: Required value: verbs must contain at least one value"},
		{role(rbacv1.PolicyRule{Verbs: get, Resources: pods}), "rules[0].apiGroups: Required value: resource rules must supply at least one api group"},
		{role(rbacv1.PolicyRule{Verbs: get, APIGroups: core}), "rules[0].resources: Required value"},
		{role(rbacv1.PolicyRule{Verbs: get, NonResourceURLs: []string{"/x"}}), "namespaced rules cannot apply to non-resource URLs"},
		{&rbacv1.ClusterRole{ObjectMeta: global, Rules: []rbacv1.PolicyRule{{Verbs: get, NonResourceURLs: []string{"/x"}}}}, ""},
		{&rbacv1.ClusterRole{ObjectMeta: global, Rules: []rbacv1.PolicyRule{{Verbs: get, NonResourceURLs: []string{"/x"}, Resources: pods}}}, "cannot apply to both"},
		{&rbacv1.ClusterRole{ObjectMeta: global, AggregationRule: &rbacv1.AggregationRule{}}, "at least one clusterRoleSelector required"},
		{binding(ref, ann), ""},
		{binding(rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Pod", Name: "x"}, ann), `roleRef.kind: Unsupported value: "Pod"`},
		{binding(rbacv1.RoleRef{APIGroup: "x", Kind: "Role", Name: "x"}, ann), `roleRef.apiGroup: Unsupported value: "x"`},
		{binding(rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role"}, ann), "roleRef.name: Required value"},
		{binding(ref, rbacv1.Subject{Kind: "Robot", Name: "x"}), `subjects[0].kind: Unsupported value: "Robot"`},
		{binding(ref, rbacv1.Subject{Kind: "ServiceAccount", Name: "A_b"}), "subjects[0].name: Invalid value"},
		{&rbacv1.ClusterRoleBinding{ObjectMeta: global, RoleRef: ref, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "x"}}}, "subjects[0].namespace: Required value"},
		{&rbacv1.ClusterRoleBinding{ObjectMeta: global, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "x"}}, `roleRef.kind: Unsupported value: "Role"`},
	} {
		got := ""
		if err := Create(test.obj).ToAggregate(); err != nil {
			got = err.Error()
		}
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%+v: %q, want %q", test.obj, got, test.want)
		}
	}
	changed := binding(ref, ann)
	changed.RoleRef.Name = "edit"
	old := binding(ref, ann)
	old.ResourceVersion, changed.ResourceVersion = "1", "1"
	if err := Update(changed, old).ToAggregate(); err == nil || !strings.Contains(err.Error(), "cannot change roleRef") {
		t.Errorf("another role: %v", err)
	}
}
