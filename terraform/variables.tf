# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0

variable "app_name" {
  description = "Name of the application in the Juju model."
  type        = string
  default     = "maas-virtualbox"
}

variable "base" {
  description = "The machine's operating system: ubuntu@24.04 or ubuntu@26.04. Null leaves it to the charm."
  type        = string
  default     = null
}

variable "channel" {
  description = "Charmhub channel of the charm, as track/risk. Null is the charm's default."
  type        = string
  default     = null
}

variable "config" {
  description = "Options of the charm: what `juju config` shows. The options of secrets are set by maas_api_key and ssh_private_key."
  type        = map(string)
  default     = {}
}

variable "constraints" {
  description = "Constraints of new machines, such as \"cores=2 mem=2G\". Null for none."
  type        = string
  default     = null
}

variable "endpoint_bindings" {
  description = "Spaces of the endpoints. The address in the binding `peers` is the one MAAS reaches a unit by. Null: the model's default space."
  type        = set(object({ space = string, endpoint = optional(string) }))
  default     = null
}

variable "maas_api_key" {
  description = "API key of a MAAS administrator, as consumer:token:secret; enlistment and hosts = \"from-zones\" need it. Null: the charm asks MAAS nothing."
  type        = string
  sensitive   = true
  default     = null
}

variable "machines" {
  description = "Ids of the machines to put units on, such as the one MAAS runs on. Null: new machines, as many as units says."
  type        = set(string)
  default     = null
}

variable "model_uuid" {
  description = "UUID of the Juju model, from `juju show-model`."
  type        = string
}

variable "revision" {
  description = "Revision of the charm. Null is the channel's newest at the first apply."
  type        = number
  default     = null
}

variable "ssh_private_key" {
  description = "Private key in OpenSSH format for the VirtualBox hosts. Null: the charm makes a pair of its own, and get-public-key shows the public half."
  type        = string
  sensitive   = true
  default     = null
}

variable "units" {
  description = "Number of units on new machines; means nothing where machines is given."
  type        = number
  default     = 1
}
