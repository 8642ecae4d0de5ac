# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0

output "model_uuid" {
  description = "UUID of the model."
  value       = juju_model.demo.uuid
}

output "next" {
  description = "The next command."
  value       = "juju run -m ${juju_model.demo.name} ${module.maas_virtualbox.app_name}/leader get-public-key"
}
