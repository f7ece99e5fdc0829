//! The configuration that the demo works on, and the CLI configuration that leads to a stand-in.

/// The files of the example configuration, by name: organization `acme`, workspace `staging-app`.
pub fn example_configuration() -> &'static [(&'static str, &'static str)] {
    &[(
        "main.tf",
        include_str!("../configurations/staging-app/main.tf"),
    )]
}

/// A change of one line in the example configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExampleChange {
    /// File that changes.
    pub file: &'static str,
    /// Text that occurs exactly once in the file.
    pub from: &'static str,
    /// Text that takes its place.
    pub to: &'static str,
}

/// The change that the model stand-in proposes: two instances where there is one.
pub fn example_change() -> ExampleChange {
    ExampleChange {
        file: "main.tf",
        from: "instances = 1\n",
        to: "instances = 2\n",
    }
}

/// A Terraform CLI configuration that sends everything meant for `app.terraform.io` to `base_url`,
/// without TLS and without discovery, and asks HashiCorp for nothing.
///
/// It is given to the CLI by `TF_CLI_CONFIG_FILE`; the token goes into `TF_TOKEN_app_terraform_io`.
pub fn example_cli_config(base_url: &str) -> String {
    let api = format!("{}/api/v2/", base_url.trim_end_matches('/'));
    format!(
        "disable_checkpoint = true\n\n\
         host \"app.terraform.io\" {{\n  services = {{\n    \
         \"tfe.v2\"   = \"{api}\"\n    \
         \"tfe.v2.1\" = \"{api}\"\n    \
         \"tfe.v2.2\" = \"{api}\"\n    \
         \"state.v2\" = \"{api}\"\n  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_change_fits_the_example_configuration() {
        let change = example_change();
        let (_, text) = example_configuration()
            .iter()
            .find(|(name, _)| *name == change.file)
            .unwrap();
        assert_eq!(text.matches(change.from).count(), 1);
    }

    #[test]
    fn the_cli_configuration_has_one_slash_after_the_address() {
        for base in ["http://127.0.0.1:1", "http://127.0.0.1:1/"] {
            assert!(example_cli_config(base).contains("\"http://127.0.0.1:1/api/v2/\""));
        }
    }
}
