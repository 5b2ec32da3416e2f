package loss

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// deploy makes the Deployment and the Service of a cell.
func (r Runner) deploy(ctx context.Context, cell Cell, name string, nodePort, replicas int32) error {
	labels := map[string]string{"app": name}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Selector: labels,
			Ports: []corev1.ServicePort{{Port: 80, NodePort: nodePort}},
		},
	}
	if _, err := r.Client.CoreV1().Services(metav1.NamespaceDefault).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return err
	}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations(cell)},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "app", Image: Image, Env: environment(cell),
					Ports: []corev1.ContainerPort{{ContainerPort: 80}},
				}}},
			},
		},
	}
	_, err := r.Client.AppsV1().Deployments(metav1.NamespaceDefault).Create(ctx, deployment, metav1.CreateOptions{})
	return err
}

func annotations(cell Cell) map[string]string {
	set := map[string]string{}
	if cell.Drain != "" {
		set[v1alpha1.AnnotationDrain] = cell.Drain
	}
	if cell.DrainTimeout != "" {
		set[v1alpha1.AnnotationDrainTimeout] = cell.DrainTimeout
	}
	return set
}

// environment is what the app reads.
func environment(cell Cell) []corev1.EnvVar {
	protocol := map[Protocol]string{GRPC: "grpc", TCP: "tcp"}[cell.Protocol] // others: http
	return []corev1.EnvVar{
		{Name: "PROTOCOL", Value: protocol},
		{Name: "END", Value: string(cell.Ending)},
		{Name: "STARTUP", Value: cell.Startup.String()},
		{Name: "SLOW", Value: cell.Slow.String()},
		{Name: "STREAM", Value: cell.Stream.String()},
	}
}

// remove deletes the cell and waits until its pods are gone.
func (r Runner) remove(ctx context.Context, name string) error {
	if err := r.Client.CoreV1().Services(metav1.NamespaceDefault).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := r.Client.AppsV1().Deployments(metav1.NamespaceDefault).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return until(ctx, "the pods of "+name+" to go", func() (bool, error) {
		pods, err := r.Client.CoreV1().Pods(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
		return err == nil && len(pods.Items) == 0, err
	})
}
