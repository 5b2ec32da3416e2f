package harness

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// How much Trouble tells, in bytes: a log that is kept of a failed run may be
// cut after a few kilobytes.
const (
	troubleList     = 1500 // of one list: its pods, its claims and volumes, its nodes
	troubleDescribe = 1800 // of one pod that is not Ready
	troubleEvents   = 2000
	troubleLog      = 1500 // of one process
)

// Trouble says what is wrong in a cluster, in a few kilobytes and the likeliest
// causes first: the pods that are not Ready, the claims and volumes, the nodes,
// the last warnings, and then what the first pods that are not Ready are. Of all
// namespaces, unless one is named. What cannot be learned it says so of.
func (c *Cluster) Trouble(ctx context.Context, namespace string) string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	scope := []string{"--all-namespaces"}
	if namespace != "" {
		scope = []string{"--namespace", namespace}
	}
	ask := func(args ...string) string {
		out, err := c.KubectlRun(ctx, args...)
		if err != nil {
			out += err.Error()
		}
		return out
	}
	var b strings.Builder
	say := func(what, text string, atMost int) {
		if text = strings.TrimSpace(text); text != "" {
			fmt.Fprintf(&b, "--- %s:\n%s\n", what, head(text, atMost))
		}
	}
	pods := unready(ask(append([]string{"get", "pods", "-o", "wide"}, scope...)...))
	say("pods that are not Ready", pods, troubleList)
	say("claims and volumes", ask(append([]string{"get", "pvc,pv"}, scope...)...), troubleList)
	say("nodes", ask("get", "nodes"), troubleList)
	warnings := ask(append([]string{"get", "events", "--field-selector=type=Warning", "--sort-by=.lastTimestamp", "--no-headers"}, scope...)...)
	say("warnings, the last at the end", tail(warnings, troubleEvents), troubleEvents)
	for i, fields := range podNames(pods, namespace) {
		if i == 2 {
			break
		}
		// First what it is, at the end its events.
		text := ask("describe", "pod", "--namespace", fields[0], fields[1])
		if len(text) > troubleDescribe {
			text = head(text, troubleDescribe/3) + "\n" + tail(text, troubleDescribe*2/3)
		}
		say("pod "+fields[1], text, len(text))
	}
	return b.String()
}

// Trouble is that of the fleet's cluster, and then the last complaints of its
// server and of its agents.
func (f *Fleet) Trouble(ctx context.Context) string {
	var b strings.Builder
	b.WriteString(f.Server.Trouble(ctx, ""))
	fmt.Fprintf(&b, "--- complaints of the server:\n%s\n", f.Server.Complaints())
	for _, m := range f.Agents {
		fmt.Fprintf(&b, "--- complaints of %s:\n%s\n", m.Name, complaints(m.Log()))
	}
	return b.String()
}

// Complaints are the last lines of the server's log that are no mere information.
func (c *Cluster) Complaints() string { return complaints(c.Log()) }

// unready keeps of a list of pods, as kubectl prints it, the heading and those
// that neither are Ready nor have completed; nothing where there are none.
func unready(list string) string {
	var kept []string
	rows := strings.Split(strings.TrimSpace(list), "\n")
	for i, row := range rows {
		if i == 0 || !wellRow(strings.Fields(row)) {
			kept = append(kept, row)
		}
	}
	if len(kept) < 2 && strings.Contains(kept[0], "READY") {
		return ""
	}
	return strings.Join(kept, "\n")
}

// wellRow says whether a row of kubectl's, "… 2/2 Running …" or "… Completed …", is
// of a pod that is as it should be.
func wellRow(fields []string) bool {
	for i, field := range fields {
		ready, all, ok := strings.Cut(field, "/")
		if ok && i+1 < len(fields) {
			status := fields[i+1]
			return status == "Completed" || ready == all && status == "Running"
		}
	}
	return false
}

// podNames returns namespace and name of the pods in a list as kubectl prints it,
// of all namespaces or of one.
func podNames(list, namespace string) (names [][2]string) {
	for i, row := range strings.Split(list, "\n") {
		fields := strings.Fields(row)
		switch {
		case i == 0 || len(fields) < 2:
		case namespace == "":
			names = append(names, [2]string{fields[0], fields[1]})
		default:
			names = append(names, [2]string{namespace, fields[0]})
		}
	}
	return names
}

// complaints are the last lines of a log that are no mere information, in so many bytes.
func complaints(log string) string {
	var kept []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, "level=INFO") || strings.Contains(line, "level=DEBUG") || strings.Contains(line, "apply request took too long") {
			continue
		}
		kept = append(kept, line)
	}
	return tail(strings.Join(kept, ""), troubleLog)
}

// head is the first lines of a text, of at most so many bytes.
func head(text string, atMost int) string {
	if len(text) <= atMost {
		return text
	}
	text = text[:atMost]
	return text[:strings.LastIndexByte(text, '\n')+1] + "…"
}

// tail is the last lines of a text, of at most so many bytes.
func tail(text string, atMost int) string {
	if len(text) <= atMost {
		return text
	}
	text = text[len(text)-atMost:]
	return "…" + text[max(0, strings.IndexByte(text, '\n')):]
}
