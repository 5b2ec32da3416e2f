// Command speaker answers by what examples/webapp does not speak, for tests of probes
// and ports: HTTPS on port 8443 with a certificate that nobody has signed, the gRPC
// health protocol on 9090 (of the service "down" it says that it does not serve), and
// UDP on 9053, where it sends back what it gets with its name before it.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() { log.Fatal(serveHTTPS()) }()
	go func() { log.Fatal(serveGRPC()) }()
	go func() { log.Fatal(serveUDP()) }()
	<-signals
}

func serveHTTPS() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:      ":8443",
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			log.Printf("https %s %s", r.Proto, r.URL)
		}),
	}
	return server.ListenAndServeTLS("", "")
}

func serveGRPC() error {
	listener, err := net.Listen("tcp", ":9090")
	if err != nil {
		return err
	}
	states := health.NewServer()
	states.SetServingStatus("up", grpc_health_v1.HealthCheckResponse_SERVING)
	states.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, states)
	return server.Serve(listener)
}

func serveUDP() error {
	conn, err := net.ListenPacket("udp", ":9053")
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	for buffer := make([]byte, 1500); ; {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(fmt.Appendf(nil, "%s: %s", name, buffer[:n]), from); err != nil {
			log.Print(err)
		}
	}
}
