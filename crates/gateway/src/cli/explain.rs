//! `clawgate explain`: what a reason code means.

use clap::Args;
use policy::ReasonCode;
use policy::reason::Origin;
use serde_json::json;

use super::Failure;
use super::term::{self, BOLD, OFF};

/// Says what a reason code means and what to do
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate explain TOKEN_REPLAYED
  clawgate explain --json            every code")]
pub(super) struct Explain {
    /// The code; every code without it
    code: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let codes: Vec<ReasonCode> = match &self.code {
            None => ReasonCode::ALL.to_vec(),
            Some(text) => {
                let wanted = text.trim().to_ascii_uppercase().replace('-', "_");
                vec![wanted.parse().map_err(|_| {
                    Failure::usage(format!("there is no reason code `{}`", term::plain(text)))
                        .next("`clawgate explain` lists them all")
                })?]
            }
        };
        if self.json {
            let all: Vec<_> = codes.iter().map(|code| as_json(*code)).collect();
            term::print_json(&all.into());
            return Ok(());
        }
        if let [code] = codes[..] {
            anstream::println!("{BOLD}{code}{OFF}: {}", code.title());
            anstream::println!("{}", code.advice());
            anstream::println!("HTTP {}; {}", code.status(), whose(code.origin()));
        } else {
            let rows: Vec<Vec<String>> = codes
                .iter()
                .map(|code| {
                    vec![
                        code.to_string(),
                        code.status().to_string(),
                        code.title().to_owned(),
                    ]
                })
                .collect();
            term::print_table(&["code", "HTTP", "meaning"], &rows, "none");
        }
        Ok(())
    }
}

fn as_json(code: ReasonCode) -> serde_json::Value {
    json!({
        "code": code.as_str(),
        "status": code.status(),
        "title": code.title(),
        "advice": code.advice(),
        "origin": whose(code.origin()),
    })
}

const fn whose(origin: Origin) -> &'static str {
    match origin {
        Origin::Token => "the token is no good",
        Origin::Policy => "a rule says no; asking again does not help",
        Origin::Upstream => "Terraform Cloud or a model provider failed",
        Origin::Gateway => "the gateway cannot answer now",
    }
}
