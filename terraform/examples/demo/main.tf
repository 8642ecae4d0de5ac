# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0

terraform {
  required_version = ">= 1.6"

  required_providers {
    juju = {
      source  = "juju/juju"
      version = ">= 1.0, < 3.0"
    }
  }
}

locals {
  # The base of the charm of MAAS 3.7.
  base = "ubuntu@24.04"

  # The options of maas-virtualbox.
  options = { for option, value in { hosts = var.hosts, maas-url = var.maas_url } : option => value if value != null }

  # The options of virtualbox-host. MAAS's DHCP server is on another machine: use a bridge to the interface that leads to it.
  virtualbox_host_options = { vm-count = 4, attachment = "bridged", network = var.virtualbox_host_network }
}

# Uses the controller of the juju client.
provider "juju" {}

resource "juju_model" "demo" {
  name = var.model_name
}

resource "juju_machine" "postgresql" {
  model_uuid  = juju_model.demo.uuid
  base        = local.base
  constraints = var.constraints
}

resource "juju_machine" "maas" {
  model_uuid  = juju_model.demo.uuid
  base        = local.base
  constraints = var.constraints
}

# VMs in a VM need nested virtualisation. A physical machine is better.
resource "juju_machine" "virtualbox_host" {
  model_uuid  = juju_model.demo.uuid
  base        = local.base
  constraints = var.virtualbox_host_constraints
}

resource "juju_application" "postgresql" {
  name       = "postgresql"
  model_uuid = juju_model.demo.uuid
  machines   = [juju_machine.postgresql.machine_id]

  charm {
    name    = "postgresql"
    channel = "16/stable"
    base    = local.base
  }
}

resource "juju_application" "maas_region" {
  name       = "maas-region"
  model_uuid = juju_model.demo.uuid
  machines   = [juju_machine.maas.machine_id]

  charm {
    name    = "maas-region"
    channel = var.maas_region_channel
    base    = local.base
  }

  # Without a rack controller, MAAS has no power control.
  config = { enable_rack_mode = true }
}

resource "juju_integration" "maas_database" {
  model_uuid = juju_model.demo.uuid

  application {
    name     = juju_application.maas_region.name
    endpoint = "maas-db"
  }

  application {
    name     = juju_application.postgresql.name
    endpoint = "database"
  }
}

module "maas_virtualbox" {
  source = "../.."

  model_uuid   = juju_model.demo.uuid
  base         = local.base
  channel      = var.maas_virtualbox_channel
  machines     = [juju_machine.maas.machine_id]
  maas_api_key = var.maas_api_key
  config       = local.options
}

resource "juju_application" "virtualbox_host" {
  name       = "virtualbox-host"
  model_uuid = juju_model.demo.uuid
  machines   = [juju_machine.virtualbox_host.machine_id]

  charm {
    name    = "virtualbox-host"
    channel = var.maas_virtualbox_channel
    base    = local.base
  }

  config = local.virtualbox_host_options
}

resource "juju_integration" "virtualbox_hosts" {
  model_uuid = juju_model.demo.uuid

  application {
    name     = module.maas_virtualbox.app_name
    endpoint = module.maas_virtualbox.requires.virtualbox_hosts
  }

  application {
    name     = juju_application.virtualbox_host.name
    endpoint = "virtualbox-hosts"
  }
}
