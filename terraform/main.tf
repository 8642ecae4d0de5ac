# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0

locals {
  # Option of the charm => the key in the secret that the charm reads, and its value.
  secrets = {
    maas-api-key    = { field = "api-key", content = var.maas_api_key }
    ssh-private-key = { field = "private-key", content = var.ssh_private_key }
  }

  # Whether a secret was set is not sensitive.
  given = toset([for option, secret in local.secrets : option if nonsensitive(secret.content != null)])
}

resource "juju_secret" "this" {
  for_each = local.given

  model_uuid = var.model_uuid
  name       = "${var.app_name}-${each.key}"
  info       = "Option ${each.key} of ${var.app_name}"
  value      = { (local.secrets[each.key].field) = local.secrets[each.key].content }
}

resource "juju_application" "this" {
  name        = var.app_name
  model_uuid  = var.model_uuid
  machines    = var.machines
  units       = var.machines == null ? var.units : null
  constraints = var.constraints

  endpoint_bindings = var.endpoint_bindings

  charm {
    name     = "maas-virtualbox"
    base     = var.base
    channel  = var.channel
    revision = var.revision
  }

  config = merge(var.config, { for option, secret in juju_secret.this : option => secret.secret_uri })
}

resource "juju_access_secret" "this" {
  for_each = juju_secret.this

  model_uuid   = var.model_uuid
  secret_id    = each.value.secret_id
  applications = [juju_application.this.name]
}
