// Copyright 2026 The maas-virtualbox authors
// SPDX-License-Identifier: Apache-2.0

// A Terraform provider that knows schemas and nothing else: enough for `terraform validate`, and for
// `terraform test` with a mocked provider. JUJU_PROVIDER_SCHEMA names the file of the schemas, in the
// format of `terraform providers schema -json`.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"regexp"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

const address = "registry.terraform.io/juju/juju"

type document struct {
	Providers map[string]struct {
		Provider  schema            `json:"provider"`
		Resources map[string]schema `json:"resource_schemas"`
	} `json:"provider_schemas"`
}

type schema struct {
	Version int64 `json:"version"`
	Block   block `json:"block"`
}

type block struct {
	Attributes map[string]attribute `json:"attributes"`
	BlockTypes map[string]blockType `json:"block_types"`
}

type blockType struct {
	Nesting string `json:"nesting_mode"`
	Block   block  `json:"block"`
}

type attribute struct {
	Type      json.RawMessage `json:"type"`
	Nested    *nested         `json:"nested_type"`
	Required  bool            `json:"required"`
	Optional  bool            `json:"optional"`
	Computed  bool            `json:"computed"`
	Sensitive bool            `json:"sensitive"`
}

type nested struct {
	Nesting    string               `json:"nesting_mode"`
	Attributes map[string]attribute `json:"attributes"`
}

var objectNestings = map[string]tfprotov6.SchemaObjectNestingMode{
	"single": tfprotov6.SchemaObjectNestingModeSingle,
	"list":   tfprotov6.SchemaObjectNestingModeList,
	"set":    tfprotov6.SchemaObjectNestingModeSet,
	"map":    tfprotov6.SchemaObjectNestingModeMap,
}

var blockNestings = map[string]tfprotov6.SchemaNestedBlockNestingMode{
	"single": tfprotov6.SchemaNestedBlockNestingModeSingle,
	"list":   tfprotov6.SchemaNestedBlockNestingModeList,
	"set":    tfprotov6.SchemaNestedBlockNestingModeSet,
}

func (s schema) protocol() *tfprotov6.Schema {
	return &tfprotov6.Schema{Version: s.Version, Block: s.Block.protocol()}
}

func (b block) protocol() *tfprotov6.SchemaBlock {
	made := &tfprotov6.SchemaBlock{Attributes: attributes(b.Attributes)}
	for name, each := range b.BlockTypes {
		made.BlockTypes = append(made.BlockTypes, &tfprotov6.SchemaNestedBlock{
			TypeName: name, Nesting: blockNestings[each.Nesting], Block: each.Block.protocol(),
		})
	}
	return made
}

func attributes(named map[string]attribute) []*tfprotov6.SchemaAttribute {
	var made []*tfprotov6.SchemaAttribute
	for name, each := range named {
		one := &tfprotov6.SchemaAttribute{
			Name: name, Required: each.Required, Optional: each.Optional, Computed: each.Computed,
			Sensitive: each.Sensitive,
		}
		if each.Nested != nil {
			one.NestedType = &tfprotov6.SchemaObject{
				Nesting: objectNestings[each.Nested.Nesting], Attributes: attributes(each.Nested.Attributes),
			}
		} else {
			kind, err := tftypes.ParseJSONType(each.Type)
			if err != nil {
				log.Fatalf("attribute %s: %v", name, err)
			}
			one.Type = kind
		}
		made = append(made, one)
	}
	return made
}

// Every call that is not written here would have to reach Juju: it ends the provider.
type provider struct {
	tfprotov6.ProviderServer
	own       *tfprotov6.Schema
	resources map[string]*tfprotov6.Schema
}

func (p provider) GetMetadata(context.Context, *tfprotov6.GetMetadataRequest) (*tfprotov6.GetMetadataResponse, error) {
	answer := &tfprotov6.GetMetadataResponse{}
	for name := range p.resources {
		answer.Resources = append(answer.Resources, tfprotov6.ResourceMetadata{TypeName: name})
	}
	return answer, nil
}

func (p provider) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	return &tfprotov6.GetProviderSchemaResponse{Provider: p.own, ResourceSchemas: p.resources}, nil
}

func (p provider) GetResourceIdentitySchemas(context.Context, *tfprotov6.GetResourceIdentitySchemasRequest) (*tfprotov6.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov6.GetResourceIdentitySchemasResponse{}, nil
}

func (p provider) ValidateProviderConfig(_ context.Context, r *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: r.Config}, nil
}

func (p provider) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}

// What the real provider also refuses, though its schema does not tell.
func (p provider) ValidateResourceConfig(_ context.Context, r *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	config, err := r.Config.Unmarshal(p.resources[r.TypeName].ValueType())
	if err != nil {
		return nil, err
	}
	values := map[string]tftypes.Value{}
	if err := config.As(&values); err != nil {
		return nil, err
	}
	answer := &tfprotov6.ValidateResourceConfigResponse{}
	refuse := func(why string) {
		answer.Diagnostics = append(answer.Diagnostics, &tfprotov6.Diagnostic{
			Severity: tfprotov6.DiagnosticSeverityError, Summary: r.TypeName, Detail: why,
		})
	}
	if uuid, given := text(values, "model_uuid"); given && !modelUUID.MatchString(uuid) {
		refuse("model_uuid must be a valid UUID")
	}
	if r.TypeName == "juju_application" {
		if isGiven(values["machines"]) && isGiven(values["units"]) {
			refuse("machines cannot be specified when units is specified")
		}
		if count(values["charm"]) != 1 {
			refuse("exactly one charm block is wanted")
		}
	}
	if r.TypeName == "juju_integration" && count(values["application"]) != 2 {
		refuse("exactly two application blocks are wanted")
	}
	return answer, nil
}

var modelUUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// isGiven says whether a value is there and known already: what comes from a variable is not, at first.
func isGiven(value tftypes.Value) bool {
	return value.IsKnown() && !value.IsNull()
}

func text(values map[string]tftypes.Value, name string) (string, bool) {
	value, there := values[name]
	if !there || !isGiven(value) {
		return "", false
	}
	var found string
	err := value.As(&found)
	return found, err == nil
}

func count(blocks tftypes.Value) int {
	var each []tftypes.Value
	if err := blocks.As(&each); err != nil {
		log.Fatal(err)
	}
	return len(each)
}

func main() {
	content, err := os.ReadFile(os.Getenv("JUJU_PROVIDER_SCHEMA"))
	if err != nil {
		log.Fatal(err)
	}
	var read document
	if err := json.Unmarshal(content, &read); err != nil {
		log.Fatal(err)
	}
	recorded, there := read.Providers[address]
	if !there {
		log.Fatalf("no schemas of %s", address)
	}
	made := provider{own: recorded.Provider.protocol(), resources: map[string]*tfprotov6.Schema{}}
	for name, each := range recorded.Resources {
		made.resources[name] = each.protocol()
	}
	if err := tf6server.Serve(address, func() tfprotov6.ProviderServer { return made }); err != nil {
		log.Fatal(err)
	}
}
