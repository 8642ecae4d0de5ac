// Copyright 2026 The maas-virtualbox authors
// SPDX-License-Identifier: Apache-2.0

// What `juju run` makes of its arguments, and prints of an action's results, with the libraries
// that Juju 3.6 and 4 do this with.
//
//	juju_client params [-string-args] [-params] ACTIONS_YAML ACTION [KEY=VALUE ...]
//	juju_client print < RESULT
//
// params prints the parameters that reach the charm, as JSON. -params reads those that a file
// holds from standard input. print reads an action's result as the API gives it.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/juju/charm/v12"
	"gopkg.in/yaml.v2"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(command string, arguments []string) error {
	flags := flag.NewFlagSet(command, flag.ExitOnError)
	stringArgs := flags.Bool("string-args", false, "take values as they are typed")
	fromInput := flags.Bool("params", false, "read parameters from standard input too")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	switch command {
	case "params":
		given := map[string]any{}
		if *fromInput {
			if err := readYAML(os.Stdin, &given); err != nil {
				return err
			}
		}
		if err := parse(flags.Args()[2:], *stringArgs, given); err != nil {
			return err
		}
		checked, err := check(flags.Arg(0), flags.Arg(1), given)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(checked)
	case "print":
		var result result
		if err := json.NewDecoder(os.Stdin).Decode(&result); err != nil {
			return err
		}
		return result.print(os.Stdout)
	}
	return fmt.Errorf("unknown command %q", command)
}

// parse puts KEY=VALUE arguments into a map (cmd/juju/action/run.go).
func parse(arguments []string, stringArgs bool, target map[string]any) error {
	for _, argument := range arguments {
		key, value, found := strings.Cut(argument, "=")
		if !found {
			return fmt.Errorf("argument %q must be of the form key.key.key...=value", argument)
		}
		keys := strings.Split(key, ".")
		for _, each := range keys {
			if !charm.GetActionNameRule().MatchString(each) {
				return fmt.Errorf("key %q must start and end with lowercase alphanumeric, "+
					"and contain only lowercase alphanumeric and hyphens", each)
			}
		}
		var content any = value
		if !stringArgs {
			if err := yaml.Unmarshal([]byte(value), &content); err != nil {
				return err
			}
		}
		insert(target, keys, content)
	}
	return nil
}

func insert(target map[string]any, keys []string, value any) {
	for _, key := range keys[:len(keys)-1] {
		inner, ok := target[key].(map[string]any)
		if !ok {
			inner = map[string]any{}
			target[key] = inner
		}
		target = inner
	}
	target[keys[len(keys)-1]] = value
}

// check takes parameters through the API and the action's schema, and adds its defaults.
func check(actionsYAML, name string, given map[string]any) (map[string]any, error) {
	file, err := os.Open(actionsYAML)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	actions, err := charm.ReadActionsYaml("charm", file)
	if err != nil {
		return nil, err
	}
	spec, ok := actions.ActionSpecs[name]
	if !ok {
		return nil, fmt.Errorf("action %q not defined", name)
	}
	conformed, err := conform(given)
	if err != nil {
		return nil, err
	}
	sent, err := json.Marshal(conformed)
	if err != nil {
		return nil, err
	}
	received := map[string]any{}
	if err := json.Unmarshal(sent, &received); err != nil {
		return nil, err
	}
	if err := spec.ValidateParams(received); err != nil {
		return nil, err
	}
	return spec.InsertDefaults(received)
}

// conform gives all maps keys that are strings, as JSON wants them (cmd/juju/common).
func conform(input any) (any, error) {
	switch typed := input.(type) {
	case map[string]any:
		output := map[string]any{}
		for key, value := range typed {
			inner, err := conform(value)
			if err != nil {
				return nil, err
			}
			output[key] = inner
		}
		return output, nil
	case map[any]any:
		named := map[string]any{}
		for key, value := range typed {
			name, ok := key.(string)
			if !ok {
				return nil, errors.New("map keyed with non-string value")
			}
			named[name] = value
		}
		return conform(named)
	case []any:
		output := make([]any, len(typed))
		for index, value := range typed {
			inner, err := conform(value)
			if err != nil {
				return nil, err
			}
			output[index] = inner
		}
		return output, nil
	}
	return input, nil
}

func readYAML(from io.Reader, into *map[string]any) error {
	content, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	return yaml.Unmarshal(content, into)
}

type result struct {
	ID      string         `json:"id"`
	Status  string         `json:"status"`
	Message string         `json:"message"`
	Results map[string]any `json:"results"`
}

// print writes what the format "plain" does without colours (cmd/juju/action/common.go).
func (r result) print(to io.Writer) error {
	shown := map[string]any{}
	for key, value := range r.Results {
		switch key {
		case "return-code", "stdout", "stderr", "stdout-encoding", "stderr-encoding":
		default:
			shown[key] = value
		}
	}
	var output string
	switch {
	case len(shown) > 0:
		content, err := yaml.Marshal(shown)
		if err != nil {
			return err
		}
		output = string(content)
	case len(r.Results) == 0:
		output = fmt.Sprintf("Task %v %v\n", r.ID, r.Status)
	}
	if r.Status == "failed" {
		fmt.Fprintf(to, "Action id %v failed: %v\n", r.ID, r.Message)
	}
	fmt.Fprintln(to, output)
	for _, key := range []string{"stdout", "stderr"} {
		if text, ok := r.Results[key].(string); ok && text != "" {
			fmt.Fprintln(to, strings.Trim(text, "\n"))
		}
	}
	return nil
}
