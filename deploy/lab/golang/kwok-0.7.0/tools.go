//go:build tools

// Package tools names the programs that the lab builds.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
