# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0

variable "constraints" {
  description = "Constraints of the machines of MAAS and PostgreSQL. On LXD add virt-type=virtual-machine: MAAS needs its own machine."
  type        = string
  default     = "cores=2 mem=4G"
}

variable "hosts" {
  description = "VirtualBox hosts in addition to virtualbox-host, for example \"ivan@10.0.0.5 zone=izMBP13, ivan@10.0.0.6 zone=izMBP15\"."
  type        = string
  default     = null
}

variable "maas_api_key" {
  description = "API key from `juju run maas-region/leader get-api-key username=admin`, for the second apply."
  type        = string
  sensitive   = true
  default     = null
}

variable "maas_region_channel" {
  description = "Charmhub channel of maas-region."
  type        = string
  default     = "3.7/edge"
}

variable "maas_url" {
  description = "URL from `juju run maas-region/leader get-api-endpoint`, for the second apply."
  type        = string
  default     = null
}

variable "maas_virtualbox_channel" {
  description = "Charmhub channel of maas-virtualbox. Null: the charm's default."
  type        = string
  default     = null
}

variable "model_name" {
  description = "Name of the new Juju model."
  type        = string
  default     = "maas-demo"
}

variable "virtualbox_host_constraints" {
  description = "Constraints of the machine with VirtualBox and its VMs."
  type        = string
  default     = "cores=4 mem=12G"
}

variable "virtualbox_host_network" {
  description = "Interface of that machine that leads to MAAS."
  type        = string
  default     = "eth0"
}
