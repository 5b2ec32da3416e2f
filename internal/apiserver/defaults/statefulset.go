package defaults

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// statefulSet fills in a StatefulSet: one replica, made and rolled one after the
// other, whose claims outlive it.
func statefulSet(s *appsv1.StatefulSet) {
	podSpec(&s.Spec.Template.Spec)
	orPointer(&s.Spec.Replicas, 1)
	orElse(&s.Spec.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	strategy := &s.Spec.UpdateStrategy
	orElse(&strategy.Type, appsv1.RollingUpdateStatefulSetStrategyType)
	if strategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		orPointer(&strategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
		orPointer(&strategy.RollingUpdate.Partition, 0)
		orPointer(&strategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
	}
	orPointer(&s.Spec.RevisionHistoryLimit, 10)
	orPointer(&s.Spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	retention := s.Spec.PersistentVolumeClaimRetentionPolicy
	orElse(&retention.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	orElse(&retention.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	for i := range s.Spec.VolumeClaimTemplates {
		persistentVolumeClaim(&s.Spec.VolumeClaimTemplates[i])
	}
}
