//! `docs/reason-codes.md` is made from the two tables of codes, the gateway's and the
//! verifier's. `cargo xtask docs` writes it; without it this test compares.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::fmt::Write;
use std::path::Path;

use clawverify::Code;
use policy::ReasonCode;
use policy::reason::Origin;

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Token => "token",
        Origin::Policy => "policy",
        Origin::Upstream => "upstream",
        Origin::Gateway => "gateway",
    }
}

fn document() -> String {
    let mut text = String::from(
        "# Reason codes\n\n\
         <!-- Made by `cargo xtask docs` from the tables in the code; changes here are lost. -->\n\n\
         Every answer that is not the expected one carries a code from this list. Codes are \
         stable: programs may compare them, and titles and advice may become clearer over time. \
         `clawgate explain CODE` and `clawverify explain CODE` print the same.\n\n\
         - [The gateway's codes](#the-gateways-codes)\n\
         - [The verifier's codes](#the-verifiers-codes)\n\n\
         ## The gateway's codes\n\n\
         *Whose*: **token** means that the credential itself is no good (401, get another one); \
         **policy** that the contract or the gateway's grammar says no (never 429 or 5xx, so that \
         clients do not retry it); **upstream** that Terraform Cloud or a model provider failed; \
         **gateway** that Clawgate cannot answer now.\n\n\
         | Code | Status | Whose | Meaning | What to do |\n\
         |---|---|---|---|---|\n",
    );
    for code in ReasonCode::ALL {
        let reason = code.reason();
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            reason.text,
            reason.status,
            origin(reason.origin),
            cell(reason.title),
            cell(reason.advice)
        )
        .unwrap();
    }
    text.push_str(
        "\n## The verifier's codes\n\n\
         Each line of a `clawverify` report carries one of these.\n\n\
         | Code | Title | Explanation |\n\
         |---|---|---|\n",
    );
    for code in Code::ALL {
        writeln!(
            text,
            "| `{code}` | {} | {} |",
            cell(code.title()),
            cell(code.explanation())
        )
        .unwrap();
    }
    text
}

/// Text inside a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[test]
fn reason_codes_are_documented_as_they_are() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reason-codes.md");
    let document = document();
    if std::env::var_os("CLAWGATE_REGENERATE").is_some() {
        std::fs::write(&file, &document).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == document,
        "docs/reason-codes.md is stale: run `cargo xtask docs`"
    );
}
