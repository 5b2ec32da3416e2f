package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// What the two ends of a connection do that wire measures. The first byte says
// which it is.
const (
	wireStream = 's' // the server counts what it gets and says how much that was
	wireAsk    = 'a' // the server sends back each message

	wirePort    = 5201
	messageSize = 64 // bytes
)

// wire is what this program is in another network namespace: `wire serve ADDRESS`
// or `wire stream|ask ADDRESS SECONDS`, which print their figures.
func wire(args []string) error {
	if len(args) == 2 && args[0] == "serve" {
		return wireServe(args[1])
	}
	if len(args) != 3 {
		return errors.New("want serve ADDRESS, or stream|ask ADDRESS SECONDS")
	}
	seconds, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", args[1], 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if args[0] == "stream" {
		return stream(conn.(*net.TCPConn), time.Duration(seconds)*time.Second)
	}
	return ask(conn, time.Duration(seconds)*time.Second)
}

func wireServe(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("up")
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			kind := make([]byte, 1)
			if _, err := io.ReadFull(conn, kind); err != nil {
				return
			}
			if kind[0] == wireAsk {
				_, _ = io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}, make([]byte, messageSize))
				return
			}
			n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 1<<17))
			_ = binary.Write(conn, binary.BigEndian, n)
		}()
	}
}

// stream sends as fast as it can and prints bytes a second, as the server counts.
func stream(conn *net.TCPConn, d time.Duration) error {
	if _, err := conn.Write([]byte{wireStream}); err != nil {
		return err
	}
	began, block := time.Now(), make([]byte, 1<<17)
	for time.Since(began) < d {
		if _, err := conn.Write(block); err != nil {
			return err
		}
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	var n int64
	if err := binary.Read(conn, binary.BigEndian, &n); err != nil {
		return err
	}
	_, err := fmt.Printf("%.0f\n", float64(n)/time.Since(began).Seconds())
	return err
}

// ask sends one message after the other and prints the median and the 99th
// percentile of the times to their answers, in nanoseconds.
func ask(conn net.Conn, d time.Duration) error {
	if _, err := conn.Write([]byte{wireAsk}); err != nil {
		return err
	}
	message := make([]byte, messageSize)
	var times []time.Duration
	for began := time.Now(); len(times) == 0 || time.Since(began) < d; {
		sent := time.Now()
		if _, err := conn.Write(message); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, message); err != nil {
			return err
		}
		times = append(times, time.Since(sent))
	}
	_, err := fmt.Println(quantile(times, 0.5).Nanoseconds(), quantile(times, 0.99).Nanoseconds())
	return err
}

// inNamespace runs this program as wire in a network namespace.
func inNamespace(ctx context.Context, namespace string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = "/proc/self/exe"
	}
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + namespace, self, "wire"}, args...)...)
}

// wireFigures runs a client and returns the numbers that it prints.
func wireFigures(ctx context.Context, namespace string, args ...string) ([]float64, error) {
	out, err := inNamespace(ctx, namespace, args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	var figures []float64
	for _, field := range strings.Fields(string(out)) {
		figure, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
		}
		figures = append(figures, figure)
	}
	return figures, nil
}
