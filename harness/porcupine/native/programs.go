//go:build programs

// Package native pins, in one go.mod and go.sum, every module that the two bundled programs are built from.
//
// Nothing compiles this file: it exists so that `go mod tidy` keeps the requirement on the Toxiproxy server, which
// is another module's program and so cannot be imported by a package that is compiled.
package native

import _ "github.com/Shopify/toxiproxy/v2/cmd/server"
