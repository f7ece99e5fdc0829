//! The dependency lock file: which providers `init` would install, and at which checksums.
//!
//! Terraform installs what the lock file and the configuration say together, so a provider that
//! only the lock file names must be allowed as well.

use hcl_edit::expr::Expression;
use hcl_edit::structure::{Attribute, Block, Structure};

use super::hcl::Source;
use super::{InspectedUpload, UploadRefusal};
use crate::contract::{Contract, ProviderSource};
use crate::reason::{ReasonCode, quoted};
use crate::rules;

/// The lock file's name, wherever it lies: any folder may be the root module.
const NAME: &str = ".terraform.lock.hcl";

pub(super) fn judge(
    contract: &Contract,
    upload: &InspectedUpload,
    findings: &mut Vec<UploadRefusal>,
) {
    for file in &upload.files {
        if file.path.rsplit('/').next() != Some(NAME) {
            continue;
        }
        match Source::native(&file.path, &file.content) {
            Ok(source) => lock_file(contract, &source, findings),
            Err(refusal) => findings.push(refusal),
        }
    }
}

fn lock_file(contract: &Contract, source: &Source<'_>, findings: &mut Vec<UploadRefusal>) {
    for structure in &source.body {
        let refused = match structure {
            Structure::Block(block) => provider(contract, block),
            Structure::Attribute(attribute) => Some(unknown(attribute.key.as_str())),
        };
        if let Some((code, rule)) = refused {
            findings.push(source.refusal(
                code,
                hcl_edit::Span::span(structure).map(|s| s.start),
                rule,
            ));
        }
    }
}

/// `provider "registry.terraform.io/hashicorp/aws" { version, constraints, hashes }`, all written
/// out.
fn provider(contract: &Contract, block: &Block) -> Option<(ReasonCode, String)> {
    let labels: Vec<&str> = block.labels.iter().map(|label| label.as_str()).collect();
    let ("provider", [address]) = (block.ident.as_str(), &labels[..]) else {
        return Some(unknown(block.ident.as_str()));
    };
    if let Some(inner) = block.body.blocks().next() {
        return Some(unknown(inner.ident.as_str()));
    }
    if let Some(odd) = block
        .body
        .attributes()
        .find(|attribute| !is_entry(attribute))
    {
        return Some(unknown(odd.key.as_str()));
    }
    // Only whole addresses stand here; a short one would be read as another registry's.
    let source = ProviderSource::new(address).filter(|source| source.as_str() == *address);
    let allowed = source.is_some_and(|source| rules::provider(contract, &source));
    (!allowed).then(|| {
        let rule = format!("provider {} is not allowed", quoted(address));
        (ReasonCode::ConfigurationProvider, rule)
    })
}

fn is_entry(attribute: &Attribute) -> bool {
    match (attribute.key.as_str(), &attribute.value) {
        ("version" | "constraints", Expression::String(_)) => true,
        ("hashes", Expression::Array(hashes)) => hashes.iter().all(Expression::is_str),
        _ => false,
    }
}

fn unknown(name: &str) -> (ReasonCode, String) {
    let rule = format!("{} has no place in a lock file", quoted(name));
    (ReasonCode::ConfigurationSyntax, rule)
}
