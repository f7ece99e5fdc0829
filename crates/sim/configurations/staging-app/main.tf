# The staging environment of Acme's shop. It uses only the provider that is
# built into Terraform, so that it plans and applies without downloads.

terraform {
  cloud {
    organization = "acme"

    workspaces {
      name = "staging-app"
    }
  }
}

variable "database_password" {
  description = "Kept in the workspace, never in a file."
  type        = string
  sensitive   = true
}

locals {
  instances = 1
}

resource "terraform_data" "database" {
  input = {
    engine = "postgres"
    user   = "app"
  }

  # A rotated password means a new database user.
  triggers_replace = var.database_password
}

resource "terraform_data" "instance" {
  count = local.instances

  input = {
    name = "app-${count.index + 1}"
    size = "small"
  }
}

resource "terraform_data" "load_balancer" {
  input = {
    instances = local.instances
    targets   = terraform_data.instance[*].input.name
  }
}

output "address" {
  value = "https://staging.acme.example"
}

output "database_url" {
  value     = "postgres://app:${var.database_password}@db.staging.acme.example/app"
  sensitive = true
}
