package agent

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

func TestBusy(t *testing.T) {
	const ms = time.Millisecond
	established := func(change func(*Socket)) Socket {
		s := Socket{State: SocketEstablished, LocalPort: 80, BytesReceived: 100, BytesSent: 100, LastReceived: 5 * time.Second, LastSent: 4 * time.Second}
		change(&s)
		return s
	}
	for _, test := range []struct {
		name   string
		socket Socket
		want   bool
	}{
		{"answered, kept alive", established(func(*Socket) {}), false},
		{"asked, not answered", established(func(s *Socket) { s.LastReceived = 3 * time.Second }), true},
		{"asked and answered at once", established(func(s *Socket) { s.LastReceived, s.LastSent = 19*ms, 19*ms }), true},
		{"asked and answered at once, a while ago", established(func(s *Socket) { s.LastReceived, s.LastSent = 20*ms, 20*ms }), false},
		{"asked as soon as connected, not answered", established(func(s *Socket) { s.BytesSent, s.LastReceived, s.LastSent = 0, time.Second, time.Second }), true},
		{"has not said anything yet", established(func(s *Socket) { s.BytesReceived, s.LastReceived, s.LastSent = 0, 999*ms, 999*ms }), true},
		{"has not said anything for long", established(func(s *Socket) { s.BytesReceived, s.LastReceived, s.LastSent = 0, time.Second, time.Second }), false},
		{"unread bytes", established(func(s *Socket) { s.ReceiveQueue = 1 }), true},
		{"unacknowledged bytes", established(func(s *Socket) { s.SendQueue = 1 }), true},
		{"half closed, waiting for its answer", established(func(s *Socket) { s.State, s.LastReceived = SocketCloseWait, ms }), true},
		{"half closed, answered", established(func(s *Socket) { s.State = SocketCloseWait }), false},
		{"closed without a word", established(func(s *Socket) { s.State, s.BytesReceived, s.LastReceived, s.LastSent = SocketCloseWait, 0, ms, ms }), false},
		{"handshake", Socket{State: SocketSynReceived, LocalPort: 80}, true},
		{"the end on its way", Socket{State: SocketClosing, LocalPort: 80, SendQueue: 1}, true},
		{"time wait", Socket{State: SocketOther, LocalPort: 80}, false},
		{"not accepted", Socket{State: SocketListen, LocalPort: 80, ReceiveQueue: 1}, true},
		{"the pod's own request to elsewhere", established(func(s *Socket) { s.LocalPort, s.LastReceived = 40000, ms }), false},
	} {
		sockets := []Socket{{State: SocketListen, LocalPort: 80}, test.socket}
		if got := busyConnections(sockets, false) == 1; got != test.want {
			t.Errorf("%s: busy is %v", test.name, got)
		}
		open := test.socket.LocalPort == 80 && (test.socket.State == SocketEstablished || test.socket.State == SocketCloseWait)
		if got := busyConnections(sockets, true) == 1; got != (test.want || open) {
			t.Errorf("%s: where idle connections count it is %v", test.name, got)
		}
	}
}

func TestDrainTimeout(t *testing.T) {
	for _, test := range []struct {
		annotation string
		grace      time.Duration
		want       time.Duration
	}{
		{"", 30 * time.Second, 28 * time.Second},
		{"", 3 * time.Second, 1500 * time.Millisecond},
		{"", time.Second, 500 * time.Millisecond},
		{"", 0, 0},
		{"10s", 30 * time.Second, 10 * time.Second},
		{"60s", 30 * time.Second, 30 * time.Second},
		{"0s", 30 * time.Second, 0},
		{"-1s", 30 * time.Second, 28 * time.Second},
		{"soon", 30 * time.Second, 28 * time.Second},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationDrainTimeout: test.annotation}}}
		if got := drainTimeout(pod, test.grace); got != test.want {
			t.Errorf("%q of %s: %s, want %s", test.annotation, test.grace, got, test.want)
		}
	}
}

// Every way of a drain to go wrong ends at its deadline and says why.
func TestDrainDeadline(t *testing.T) {
	task := drainTask{began: stepEpoch, deadline: stepEpoch.Add(time.Second), routed: true, sockets: true}
	busy := []Socket{{State: SocketListen, LocalPort: 80}, {State: SocketSynReceived, LocalPort: 80}}
	for _, test := range []struct {
		name, want string
		routes     Routes
		looks      []Look
	}{
		{"no slice", "waiting for an endpoint slice of Service a to show the pod as leaving", Routes{Services: []string{"a"}}, nil},
		{"proxy behind", "waiting for the service proxy of n1, n2 to confirm version 7", Routes{
			Services: []string{"a"}, Slices: []Slice{{Service: "a", Version: 7, Terminating: true}},
			Proxies: []Proxy{{"n2", 0}, {"n1", 6}, {"n3", 7}},
		}, nil},
		{"busy", "waiting for 1 busy connection(s)", Routes{}, []Look{{At: task.deadline, Sockets: busy}}},
		{"no look", "waiting for two looks that find no busy connection", Routes{}, nil},
	} {
		d, wants := Drain{}.step(stepEpoch, task, test.routes, nil)
		if !d.DoneAt.IsZero() || wants.wake != task.deadline {
			t.Errorf("%s: at first %+v, wake at %s", test.name, d, wants.wake)
		}
		d, _ = d.step(task.deadline, task, test.routes, test.looks)
		if d.DoneAt != task.deadline || !d.Expired || d.Why != test.want {
			t.Errorf("%s: at the deadline %+v, want why %q", test.name, d, test.want)
		}
	}
}
