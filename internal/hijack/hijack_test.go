package hijack

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestWriter(t *testing.T) {
	for _, who := range []string{"client", "server"} {
		t.Run(who, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			lost, read := make(chan struct{}, 10), make(chan string, 1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, buffer, err := Writer{w, ctx, func() { lost <- struct{}{} }}.Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				line, _ := buffer.ReadString('\n') // sent along with the request
				read <- line
				line, _ = buffer.ReadString('\n')
				_, _ = io.WriteString(conn, line) // and no more is read
			}))
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\nearly\nlate\n")); err != nil {
				t.Fatal(err)
			}
			if line := <-read; line != "early\n" {
				t.Errorf("read %q", line)
			}
			in := bufio.NewReader(conn)
			if line, err := in.ReadString('\n'); line != "late\n" || err != nil {
				t.Errorf("got %q, %v", line, err)
			}
			select {
			case <-lost:
				t.Fatal("lost too early")
			default:
			}
			if who == "client" {
				_ = conn.Close()
			} else {
				cancel()
				if _, err := in.ReadByte(); err == nil {
					t.Error("the connection is open")
				}
			}
			select {
			case <-lost:
			case <-time.After(20 * time.Second):
				t.Error("nobody heard of the end")
			}
		})
	}
}
