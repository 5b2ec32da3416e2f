package loss

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/test/loss/wire"
)

// What a server does with each request of a connection, in order; after the last
// it closes.
const (
	answer = "answer"
	half   = "half"  // of an answer
	reset  = "reset" // without an answer
)

// A request is lost when its answer does not come whole, and it has crossed the
// end of its connection when nothing of it came on one that had answered.
func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		name   string
		script []string // one connection each: words of the above
		asks   int
		want   Tally // without reasons
	}{
		{"answered on one connection", []string{"answer answer"}, 2, Tally{Sent: 2}},
		{"closed while idle", []string{"answer", "answer"}, 2, Tally{Sent: 2}},
		{"closed in the middle of an answer", []string{"half"}, 1, Tally{Sent: 1, Failed: 1}},
		{"the same on a connection that had answered", []string{"answer half"}, 2, Tally{Sent: 2, Failed: 1}},
		{"closed instead of the first answer", []string{""}, 1, Tally{Sent: 1, Failed: 1}},
		{"reset instead of the first answer", []string{"reset"}, 1, Tally{Sent: 1, Failed: 1, Reset: 1}},
		{"reset instead of a later answer", []string{"answer reset", "answer"}, 2, Tally{Sent: 2, Repeated: 1}},
		{"refused", nil, 1, Tally{Sent: 1, Failed: 1}},
		{"refused when repeated", []string{"answer reset"}, 2, Tally{Sent: 2, Repeated: 1, Failed: 1}},
	} {
		for _, protocol := range []Protocol{HTTP1, TCP} {
			t.Run(test.name+"/"+strings.ReplaceAll(string(protocol), "/", " "), func(t *testing.T) {
				address := serve(t, protocol, test.script)
				asker := newAsker(Cell{Protocol: protocol, Client: Kept}, address)
				defer asker.close()
				l := &load{}
				for i := range test.asks {
					if i > 0 && !strings.Contains(test.script[0], " ") {
						waitClosed(t, asker)
					}
					l.request(asker)
				}
				got := l.total
				got.Reasons = nil
				if got.Sent != test.want.Sent || got.Failed != test.want.Failed || got.Reset != test.want.Reset || got.Repeated != test.want.Repeated {
					t.Errorf("%+v, want %+v, because of %v", got, test.want, l.total.Reasons)
				}
			})
		}
	}
}

// waitClosed waits until the client has noticed that its connection was closed.
func waitClosed(t *testing.T, a asker) {
	t.Helper()
	lines, ok := a.(*lineAsker)
	if !ok {
		return // net/http notices by itself, or sends nothing and connects again
	}
	select {
	case err := <-lines.ended:
		lines.ended <- err
	case <-time.After(10 * time.Second):
		t.Fatal("the connection was not closed")
	}
}

// serve accepts one connection for each word list, then no more.
func serve(t *testing.T, protocol Protocol, script []string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	if len(script) == 0 {
		_ = listener.Close()
	}
	go func() {
		for i, words := range script {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			if i == len(script)-1 {
				_ = listener.Close()
			}
			go play(protocol, connection.(*net.TCPConn), strings.Fields(words))
		}
	}()
	return listener.Addr().String()
}

func play(protocol Protocol, connection *net.TCPConn, words []string) {
	defer connection.Close()
	request := bufio.NewReader(connection)
	for _, word := range words {
		if readRequest(protocol, request) != nil {
			return
		}
		whole := wire.Piece + "\n"
		if protocol == HTTP1 {
			whole = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + whole
		}
		switch word {
		case answer:
			_, _ = io.WriteString(connection, whole)
		case half:
			_, _ = io.WriteString(connection, whole[:len(whole)-2])
		case reset:
			_ = connection.SetLinger(0)
			return
		}
	}
	if len(words) == 0 {
		_ = readRequest(protocol, request)
	}
}

func readRequest(protocol Protocol, from *bufio.Reader) error {
	for {
		line, err := from.ReadString('\n')
		if err != nil || protocol == TCP || line == "\r\n" {
			return err
		}
	}
}

// The matrix has no cell twice, and cells of each sort.
func TestMatrix(t *testing.T) {
	seen := map[string]bool{}
	zero := map[bool]int{}
	for _, cell := range Matrix() {
		row := cell.Application() + "; " + string(cell.Client)
		if seen[row] {
			t.Errorf("%s is there twice", row)
		}
		seen[row] = true
		zero[cell.Zero()]++
	}
	if zero[true] == 0 || zero[false] == 0 {
		t.Errorf("%d cells must lose nothing, %d may", zero[true], zero[false])
	}
}
