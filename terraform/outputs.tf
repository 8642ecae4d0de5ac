# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0

locals {
  provides = {
    cos_agent = "cos-agent"
  }
  requires = {
    certificates     = "certificates"
    charm_tracing    = "charm-tracing"
    virtualbox_hosts = "virtualbox-hosts"
  }
}

output "app_name" {
  description = "Name of the application, for juju_integration."
  value       = juju_application.this.name
}

output "endpoints" {
  description = "All endpoints for integrations with other applications."
  value       = merge(local.provides, local.requires)
}

output "provides" {
  description = "Endpoints that the charm provides."
  value       = local.provides
}

output "requires" {
  description = "Endpoints that the charm requires. All are optional."
  value       = local.requires
}
