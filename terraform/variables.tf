# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0

variable "app_name" {
  description = "Name of the application in the Juju model."
  type        = string
  default     = "maas-virtualbox"
}

variable "base" {
  description = "Base of the machine: ubuntu@24.04 or ubuntu@26.04. Null: the charm's default."
  type        = string
  default     = null
}

variable "channel" {
  description = "Charmhub channel of the charm, as track/risk. Null: the charm's default."
  type        = string
  default     = null
}

variable "config" {
  description = "Options of the charm, as in `juju config`. Set secrets with maas_api_key and ssh_private_key."
  type        = map(string)
  default     = {}
}

variable "constraints" {
  description = "Constraints of new machines, for example \"cores=2 mem=2G\". Null: none."
  type        = string
  default     = null
}

variable "endpoint_bindings" {
  description = "Spaces of the endpoints. MAAS reaches a unit at its address in the binding `peers`. Null: the model's default space."
  type        = set(object({ space = string, endpoint = optional(string) }))
  default     = null
}

variable "maas_api_key" {
  description = "API key of a MAAS administrator, as consumer:token:secret. Enlistment and hosts = \"from-zones\" require it. Null: the charm does not use the API of MAAS."
  type        = string
  sensitive   = true
  default     = null
}

variable "machines" {
  description = "IDs of the machines for the units, for example the machine of MAAS. Null: new machines; units is their number."
  type        = set(string)
  default     = null
}

variable "model_uuid" {
  description = "UUID of the Juju model, from `juju show-model`."
  type        = string
}

variable "revision" {
  description = "Revision of the charm. Null: the channel's newest at the first apply."
  type        = number
  default     = null
}

variable "ssh_private_key" {
  description = "Private key for the VirtualBox hosts, in OpenSSH format. Null: the charm creates its own key pair, and get-public-key shows the public key."
  type        = string
  sensitive   = true
  default     = null
}

variable "units" {
  description = "Number of units on new machines. It is ignored if machines is set."
  type        = number
  default     = 1
}
