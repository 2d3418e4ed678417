package linkcheck

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
)

// explainTLS says which of the reasons it was why a certificate was not good.
func explainTLS(err error, now time.Time) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		hint := "renew the broker's certificate; this machine's clock says " + now.UTC().Format("2006-01-02 15:04") + " UTC"
		if now.Before(invalid.Cert.NotBefore) {
			hint = "the clock of this machine is wrong, or the certificate is not valid yet: \"timedatectl\" shows the clock"
		}
		return edgeagent.WithHint(&plain{fmt.Sprintf("the broker's certificate was valid from %s to %s",
			invalid.Cert.NotBefore.UTC().Format(time.DateOnly), invalid.Cert.NotAfter.UTC().Format(time.DateOnly)), err}, hint)
	case errors.As(err, &unknown):
		return edgeagent.WithHint(err, "set destinations[].links[].tls.ca to the PEM file of the authority that signed the broker's certificate")
	case errors.As(err, &name):
		return edgeagent.WithHint(err, "write the certificate's name in destinations[].links[].url, or set destinations[].links[].tls.server_name")
	}
	return err
}

// plain is an error in fewer words.
type plain struct {
	text string
	err  error
}

func (e *plain) Error() string { return e.text }
func (e *plain) Unwrap() error { return e.err }
