//go:build programs

// Package programs names the echo server that is built from this module, so that `go mod tidy` keeps
// what it needs.
package programs

import _ "sigs.k8s.io/gateway-api/conformance/echo-basic"
