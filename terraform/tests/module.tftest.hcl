# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0

# Tests of the module without a Juju controller. Run them with `terraform test`.

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

run "no_secrets_are_created_by_default" {
  variables {
    config = { hosts = "ivan@10.0.0.5" }
  }

  assert {
    condition     = length(juju_secret.this) == 0 && length(juju_access_secret.this) == 0
    error_message = "There are secrets, although none was set."
  }
  assert {
    condition     = juju_application.this.config == tomap({ hosts = "ivan@10.0.0.5" })
    error_message = "The charm's options differ from config."
  }
  assert {
    condition     = juju_application.this.units == 1
    error_message = "The default is not one unit."
  }
}

run "each_secret_is_created_granted_and_set" {
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
    error_message = "The secrets do not have the keys that the charm reads."
  }
  assert {
    condition = juju_application.this.config == tomap({
      hosts           = "ivan@10.0.0.5"
      maas-api-key    = "secret:d1c4pj7mp25c7a1nq2l0"
      maas-url        = "http://10.0.0.2:5240/MAAS"
      ssh-private-key = "secret:d1c4pj7mp25c7a1nq2l0"
    })
    error_message = "The options are not the URIs of the secrets."
  }
  assert {
    condition = alltrue([
      for access in juju_access_secret.this :
      access.applications == toset(["power"]) && access.secret_id == "d1c4pj7mp25c7a1nq2l0"
    ]) && length(juju_access_secret.this) == 2
    error_message = "The application has no access to its secrets."
  }
  assert {
    condition     = alltrue([for option, secret in juju_secret.this : secret.name == "power-${option}"])
    error_message = "The names of the secrets would conflict with those of another application."
  }
}

run "one_secret_is_created_without_the_other" {
  variables {
    maas_api_key = "consumer:token:secret"
  }

  assert {
    condition     = join(",", concat(keys(juju_secret.this), keys(juju_application.this.config))) == "maas-api-key,maas-api-key"
    error_message = "The other secret was also created."
  }
}

run "machines_and_spaces_are_passed_on" {
  variables {
    machines          = ["3", "5"]
    units             = 7
    endpoint_bindings = [{ endpoint = "peers", space = "rack" }, { space = "alpha" }]
  }

  # The provider does not accept machines together with units.
  assert {
    condition     = juju_application.this.machines == toset(["3", "5"]) && juju_application.this.units != 7
    error_message = "The units are not on the machines."
  }
  assert {
    condition = { for binding in juju_application.this.endpoint_bindings : coalesce(binding.endpoint, "default") => binding.space } == {
      default = "alpha"
      peers   = "rack"
    }
    error_message = "The bindings of the endpoints are wrong."
  }
}

run "outputs_have_name_and_endpoints" {
  assert {
    condition     = output.app_name == "maas-virtualbox"
    error_message = "The name is not the name of the application."
  }
  assert {
    condition     = output.endpoints == merge(output.provides, output.requires) && output.provides.cos_agent == "cos-agent"
    error_message = "An endpoint is missing."
  }
}
