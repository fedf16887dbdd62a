//go:build programs

// Package programs names Helm, which is built from this module, so that `go mod tidy` keeps what it needs.
package programs

import _ "helm.sh/helm/v3/cmd/helm"
