package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// How much Trouble tells, in bytes: a log that is kept of a failed run may be
// cut after a few kilobytes.
const (
	troubleList     = 1200 // of one list
	troubleDescribe = 1500 // of one pod or claim
	troubleEvents   = 1500
	troubleLog      = 1500 // of one process
)

// Trouble says what is wrong in a cluster, in a few kilobytes and the likeliest
// causes first: the pods that are not Ready, the claims and volumes that are not
// Bound, the nodes, the last warnings, and then more of the first of those pods and
// claims. Of all namespaces, unless one is named. It says what cannot be learned.
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
	pods := unwell(ask(append([]string{"get", "pods", "-o", "wide"}, scope...)...), podIsWell)
	claims := unwell(ask(append([]string{"get", "pvc"}, scope...)...), isBound)
	say("pods that are not Ready", pods, troubleList)
	say("claims that are not Bound", claims, troubleList)
	say("volumes that are not Bound", unwell(ask("get", "pv"), isBound), troubleList)
	say("nodes", ask("get", "nodes"), troubleList)
	warnings := ask(append([]string{"get", "events", "--field-selector=type=Warning", "--sort-by=.lastTimestamp", "--no-headers"}, scope...)...)
	say("warnings, the last at the end", tail(warnings, troubleEvents), troubleEvents)
	describe := func(kind, list string, most int) {
		for i, name := range names(list, namespace) {
			if i == most {
				break
			}
			// First what it is, at the end its events.
			text := ask("describe", kind, "--namespace", name[0], name[1])
			if len(text) > troubleDescribe {
				text = head(text, troubleDescribe/3) + "\n" + tail(text, troubleDescribe*2/3)
			}
			say(kind+" "+name[1], text, len(text))
		}
	}
	describe("pod", pods, 2)
	describe("pvc", claims, 1)
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

// unwell keeps of a list, as kubectl prints it, the heading and the rows of what
// is not well; nothing where all is.
func unwell(list string, well func(row []string) bool) string {
	var kept []string
	for i, row := range strings.Split(strings.TrimSpace(list), "\n") {
		if i == 0 || !well(strings.Fields(row)) {
			kept = append(kept, row)
		}
	}
	if len(kept) == 1 && !strings.Contains(kept[0], ": ") { // a heading, not an error
		return ""
	}
	return strings.Join(kept, "\n")
}

// podIsWell says whether a row, "… 2/2 Running …" or "… Completed …", is of a pod
// that is Ready or has completed.
func podIsWell(row []string) bool {
	for i, field := range row[:max(0, len(row)-1)] {
		if ready, all, ok := strings.Cut(field, "/"); ok {
			return row[i+1] == "Completed" || ready == all && row[i+1] == "Running"
		}
	}
	return false
}

// isBound says whether a row is of a claim or a volume that is Bound.
func isBound(row []string) bool { return slices.Contains(row, "Bound") }

// names returns namespace and name of each row of a list as kubectl prints it, of
// all namespaces or of one.
func names(list, namespace string) (names [][2]string) {
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
