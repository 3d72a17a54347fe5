package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// credentials is who to be, over TLS and by SCRAM-SHA-256, where the environment says so.
func credentials() ([]kgo.Opt, error) {
	user, password := os.Getenv("DRIVER_USER"), os.Getenv("DRIVER_PASSWORD")
	if user == "" {
		return nil, nil
	}
	file := os.Getenv("DRIVER_CA_FILE")
	certificate, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(certificate) {
		return nil, fmt.Errorf("no certificate in %s", file)
	}
	login := scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	return []kgo.Opt{kgo.DialTLSConfig(&tls.Config{RootCAs: roots}), kgo.SASL(login)}, nil
}
