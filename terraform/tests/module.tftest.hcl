# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0

# What the module makes of its variables; no Juju is asked. `terraform test` runs it.

mock_provider "juju" {
  mock_resource "juju_secret" {
    defaults = {
      secret_id  = "d1c4pj7mp25c7a1nq2l0"
      secret_uri = "secret:d1c4pj7mp25c7a1nq2l0"
    }
  }
}

variables {
  model_uuid = "6b8f1c1e-6d0c-4c1e-8e0e-3c1f6c0f2a11"
}

run "no_secret_is_made_where_none_is_given" {
  variables {
    config = { hosts = "ivan@10.0.0.5" }
  }

  assert {
    condition     = length(juju_secret.this) == 0 && length(juju_access_secret.this) == 0
    error_message = "There are secrets, though none was given."
  }
  assert {
    condition     = juju_application.this.config == tomap({ hosts = "ivan@10.0.0.5" })
    error_message = "The charm's options are not what was given."
  }
  assert {
    condition     = juju_application.this.units == 1
    error_message = "One unit is not the default."
  }
}

run "each_secret_is_made_granted_and_its_uri_is_the_option" {
  variables {
    app_name        = "power"
    config          = { hosts = "ivan@10.0.0.5", maas-url = "http://10.0.0.2:5240/MAAS" }
    maas_api_key    = "consumer:token:secret"
    ssh_private_key = "-----BEGIN OPENSSH PRIVATE KEY-----"
  }

  assert {
    condition = nonsensitive({ for option, secret in juju_secret.this : option => secret.value }) == {
      maas-api-key    = tomap({ api-key = "consumer:token:secret" })
      ssh-private-key = tomap({ private-key = "-----BEGIN OPENSSH PRIVATE KEY-----" })
    }
    error_message = "The secrets do not hold what the charm reads."
  }
  assert {
    condition = juju_application.this.config == tomap({
      hosts           = "ivan@10.0.0.5"
      maas-api-key    = "secret:d1c4pj7mp25c7a1nq2l0"
      maas-url        = "http://10.0.0.2:5240/MAAS"
      ssh-private-key = "secret:d1c4pj7mp25c7a1nq2l0"
    })
    error_message = "The options of secrets are not their URIs."
  }
  assert {
    condition = alltrue([
      for access in juju_access_secret.this :
      access.applications == toset(["power"]) && access.secret_id == "d1c4pj7mp25c7a1nq2l0"
    ]) && length(juju_access_secret.this) == 2
    error_message = "The application may not read its secrets."
  }
  assert {
    condition     = alltrue([for option, secret in juju_secret.this : secret.name == "power-${option}"])
    error_message = "Two applications of one model would share a secret's name."
  }
}

run "one_secret_alone_is_made_alone" {
  variables {
    maas_api_key = "consumer:token:secret"
  }

  assert {
    condition     = join(",", concat(keys(juju_secret.this), keys(juju_application.this.config))) == "maas-api-key,maas-api-key"
    error_message = "The other secret is there too."
  }
}

run "machines_and_spaces_are_those_given_and_machines_say_how_many_units" {
  variables {
    machines          = ["3", "5"]
    units             = 7
    endpoint_bindings = [{ endpoint = "peers", space = "rack" }, { space = "alpha" }]
  }

  # The provider refuses machines together with units.
  assert {
    condition     = juju_application.this.machines == toset(["3", "5"]) && juju_application.this.units != 7
    error_message = "The units are not on the machines."
  }
  assert {
    condition = { for binding in juju_application.this.endpoint_bindings : coalesce(binding.endpoint, "default") => binding.space } == {
      default = "alpha"
      peers   = "rack"
    }
    error_message = "The endpoints are not bound as given."
  }
}

run "the_outputs_are_for_integrations" {
  assert {
    condition     = output.app_name == "maas-virtualbox"
    error_message = "The name is not the application's."
  }
  assert {
    condition     = output.endpoints == merge(output.provides, output.requires) && output.provides.cos_agent == "cos-agent"
    error_message = "An endpoint is missing."
  }
}
