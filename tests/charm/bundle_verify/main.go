// Copyright 2026 The maas-virtualbox authors
// SPDX-License-Identifier: Apache-2.0

// Verifies a bundle and its overlays as `juju deploy` does, with Juju's own library.
//
//	bundle_verify -charms FOLDER BUNDLE [OVERLAY ...]
//
// FOLDER has a charm's folder (metadata.yaml, config.yaml) for each charm of the bundle, by the
// charm's name. Every problem is a line on standard error.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/juju/charm/v12"
)

func main() {
	charms := flag.String("charms", "", "folder of the charms' folders")
	flag.Parse()
	if err := verify(*charms, flag.Args()); err != nil {
		var several *charm.VerificationError
		if errors.As(err, &several) {
			for _, each := range several.Errors {
				fmt.Fprintln(os.Stderr, each)
			}
		} else {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
}

func verify(charms string, paths []string) error {
	var sources []charm.BundleDataSource
	for _, path := range paths {
		source, err := charm.LocalBundleDataSource(path)
		if err != nil {
			return err
		}
		for _, part := range source.Parts() {
			// Juju warns of these and goes on without them.
			if part.UnmarshallError != nil {
				return fmt.Errorf("%s: %w", path, part.UnmarshallError)
			}
		}
		sources = append(sources, source)
	}
	bundle, err := charm.ReadAndMergeBundleData(sources...)
	if err != nil {
		return err
	}
	if err := bundle.VerifyLocal(filepath.Dir(paths[0]), nil, nil, nil); err != nil {
		return err
	}
	known := map[string]charm.Charm{}
	for _, name := range bundle.RequiredCharms() {
		folder := strings.TrimSuffix(filepath.Base(name), ".charm")
		if known[name], err = charm.ReadCharmDir(filepath.Join(charms, folder)); err != nil {
			return err
		}
	}
	return bundle.VerifyWithCharms(nil, nil, nil, known)
}
