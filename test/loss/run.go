package loss

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/api/v1alpha1"
)

const (
	rounds       = 3
	roundAtMost  = 3 * time.Minute
	recordAtMost = 10 * time.Second
	askEvery     = 50 * time.Millisecond
)

// Runner rolls cells on a cluster whose node ports are on 127.0.0.1 and which
// has the image of the app.
type Runner struct {
	Client kubernetes.Interface
}

// Result is what came of a cell.
type Result struct {
	Cell    Cell
	Tally   Tally
	Elapsed time.Duration // of the three rollouts
	Kernel  v1alpha1.TrafficCount
	Records []v1alpha1.RolloutRecord // of the three rollouts
	Missing string                   // what the records should tell and do not, "" for nothing
}

// Run deploys the cell under a name and a node port of the caller's, with so
// many replicas, rolls it three times under load, and deletes it.
func (r Runner) Run(ctx context.Context, cell Cell, name string, nodePort, replicas int32) (result Result, err error) {
	result.Cell = cell
	if err := r.deploy(ctx, cell, name, nodePort, replicas); err != nil {
		return result, err
	}
	defer func() {
		if gone := r.remove(context.WithoutCancel(ctx), name); err == nil {
			err = gone
		}
	}()
	address := fmt.Sprintf("127.0.0.1:%d", nodePort)
	if err := r.rolled(ctx, name); err != nil {
		return result, err
	}
	if err := answers(ctx, cell, address); err != nil {
		return result, err
	}
	load := startLoad(ctx, cell, address)
	result.Elapsed, err = r.rounds(ctx, name, load)
	result.Tally = load.stop()
	if err != nil {
		return result, err
	}
	result.Missing, err = r.records(ctx, name, &result)
	return result, err
}

// rounds rolls three times; before, between and after them every client asks
// once more on average.
func (r Runner) rounds(ctx context.Context, name string, load *load) (elapsed time.Duration, err error) {
	more := func() error {
		from := load.sent()
		return until(ctx, "the clients to ask", func() (bool, error) { return load.sent() >= from+load.number, nil })
	}
	for round := range rounds {
		if err := more(); err != nil {
			return elapsed, err
		}
		began := time.Now()
		patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"round":"%d"}}}}}`, round)
		if _, err := r.Client.AppsV1().Deployments(metav1.NamespaceDefault).Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			return elapsed, err
		}
		if err := r.rolled(ctx, name); err != nil {
			return elapsed, fmt.Errorf("round %d: %w", round+1, err)
		}
		elapsed += time.Since(began)
	}
	return elapsed, more()
}

// rolled waits until the rollout is complete and no old pod is left.
func (r Runner) rolled(ctx context.Context, name string) error {
	return until(ctx, "the rollout", func() (bool, error) {
		deployment, err := r.Client.AppsV1().Deployments(metav1.NamespaceDefault).Get(ctx, name, metav1.GetOptions{})
		if err != nil || !complete(deployment) {
			return false, err
		}
		pods, err := r.Client.CoreV1().Pods(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
		return err == nil && len(pods.Items) == int(*deployment.Spec.Replicas), err
	})
}

func complete(d *appsv1.Deployment) bool {
	want := *d.Spec.Replicas
	return d.Status.ObservedGeneration >= d.Generation &&
		d.Status.Replicas == want && d.Status.UpdatedReplicas == want && d.Status.AvailableReplicas == want
}

// answers waits for the first answer: the Service is there for the clients.
func answers(ctx context.Context, cell Cell, address string) error {
	asker := newAsker(cell, address)
	defer asker.close()
	return until(ctx, "the first answer", func() (bool, error) { return asker.ask(ctx) == nil, nil })
}

// records reads what Windlass has noted of the rollouts, without the first,
// which made the Deployment. It waits a while for them to be whole, and returns
// what is missing then.
func (r Runner) records(ctx context.Context, name string, result *Result) (missing string, err error) {
	path := "/apis/" + v1alpha1.GroupVersion.String() + "/namespaces/" + metav1.NamespaceDefault + "/rolloutrecords"
	deadline := time.Now().Add(recordAtMost)
	err = until(ctx, "the records", func() (bool, error) {
		raw, err := r.Client.Discovery().RESTClient().Get().AbsPath(path).
			Param("labelSelector", v1alpha1.LabelTargetName+"="+name).DoRaw(ctx)
		if err != nil {
			return false, err
		}
		var list v1alpha1.RolloutRecordList
		if err := json.Unmarshal(raw, &list); err != nil {
			return false, err
		}
		missing = result.note(list.Items)
		return missing == "" || time.Now().After(deadline), nil
	})
	return missing, err
}

// note takes what the records tell, and returns what they do not.
func (r *Result) note(records []v1alpha1.RolloutRecord) (missing string) {
	r.Records, r.Kernel = nil, v1alpha1.TrafficCount{}
	for _, record := range records {
		if record.Spec.From == nil {
			continue
		}
		r.Records = append(r.Records, record)
		count, counted := record.Status.Count()
		r.Kernel.Connections += count.Connections
		r.Kernel.Refused += count.Refused
		r.Kernel.Reset += count.Reset
		if !counted {
			missing = record.Name + " has no traffic"
		}
		if !record.Status.Phase.Over() {
			missing = record.Name + " is " + string(record.Status.Phase)
		}
		for _, pod := range record.Status.Pods {
			if pod.Set == record.Spec.From.Name && pod.Stopped == nil {
				missing = fmt.Sprintf("%s does not know when %s stopped", record.Name, pod.Name)
			}
		}
	}
	if len(r.Records) != rounds {
		missing = fmt.Sprintf("there are %d records of %d rollouts", len(r.Records), rounds)
	}
	return missing
}

// until asks again and again until done says so, for three minutes at most.
func until(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, roundAtMost)
	defer cancel()
	for {
		if ok, err := done(); err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-time.After(askEvery):
		}
	}
}
