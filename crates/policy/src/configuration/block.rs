//! What blocks may stand in a configuration.

use hcl_edit::Span;
use hcl_edit::expr::{Expression, ObjectKey};
use hcl_edit::structure::{Block, Body, Structure};

use super::function::literal_path;
use super::hcl::{ProviderNames, Source, join};
use super::overrides::Pieces;
use super::{InspectedUpload, ReadableStates, UploadRefusal, provider, remote_state};
use crate::contract::{Contract, ProviderSource};
use crate::reason::{ReasonCode, quoted};
use crate::rules;

/// Collects `required_providers`, so that local names can be told in every file of a folder.
pub(super) fn provider_names(source: &Source<'_>, names: &mut ProviderNames) {
    for terraform in source.body.get_blocks("terraform") {
        for required in terraform.body.get_blocks("required_providers") {
            for attribute in required.body.attributes() {
                if let Some(address) = required_source(&attribute.value) {
                    let key = (
                        source.folder().to_owned(),
                        attribute.key.as_str().to_owned(),
                    );
                    names.insert(key, address.to_owned());
                }
            }
        }
    }
}

/// The `source` of one entry, when it is written out.
fn required_source(entry: &Expression) -> Option<&str> {
    entry
        .as_object()?
        .iter()
        .find(|(key, _)| key_is(key, "source"))?
        .1
        .expr()
        .as_str()
}

fn key_is(key: &ObjectKey, name: &str) -> bool {
    match key {
        ObjectKey::Ident(ident) => ident.as_str() == name,
        ObjectKey::Expression(expression) => expression.as_str() == Some(name),
    }
}

/// What every block is judged by.
pub(super) struct Facts<'a> {
    pub(super) contract: &'a Contract,
    pub(super) upload: &'a InspectedUpload,
    pub(super) readable: &'a ReadableStates,
    pub(super) names: &'a ProviderNames,
    pub(super) pieces: &'a Pieces<'a>,
}

pub(super) fn judge<'a>(
    facts: &'a Facts<'a>,
    source: &'a Source<'a>,
    findings: &'a mut Vec<UploadRefusal>,
) {
    let mut judge = Judge {
        facts,
        contract: facts.contract,
        source,
        findings,
    };
    for structure in &source.body {
        match structure {
            Structure::Block(block) => judge.top(block),
            Structure::Attribute(attribute) => {
                let offset = attribute.span().map(|span| span.start);
                let rule = "arguments have no place outside blocks".to_owned();
                judge.refuse(ReasonCode::ConfigurationSyntax, offset, rule);
            }
        }
    }
}

struct Judge<'a> {
    facts: &'a Facts<'a>,
    contract: &'a Contract,
    source: &'a Source<'a>,
    findings: &'a mut Vec<UploadRefusal>,
}

impl<'a> Judge<'a> {
    fn refuse(&mut self, code: ReasonCode, offset: Option<usize>, rule: String) {
        self.findings.push(self.source.refusal(code, offset, rule));
    }

    fn refuse_block(&mut self, code: ReasonCode, block: &Block, rule: String) {
        self.refuse(code, block.span().map(|span| span.start), rule);
    }

    fn top(&mut self, block: &'a Block) {
        let labels: Vec<&str> = block.labels.iter().map(|label| label.as_str()).collect();
        match (block.ident.as_str(), &labels[..]) {
            ("terraform", []) => self.terraform(block),
            ("provider", [name]) => {
                self.provider(name, block);
                self.provider_arguments(name, block);
            }
            ("resource", [kind, _]) => self.resource(kind, block),
            ("data" | "ephemeral", [kind, _]) => self.data(kind, block),
            ("module", [_]) => self.module(block),
            ("check", [_]) => {
                for inner in block.body.blocks() {
                    match inner.ident.as_str() {
                        "data" if inner.labels.len() == 2 => {
                            self.data(inner.labels[0].as_str(), inner);
                        }
                        "assert" => {}
                        _ => self.unknown(inner),
                    }
                }
            }
            ("removed", []) => self.provisioners(block),
            ("variable" | "output", [_]) | ("locals" | "moved", []) => {}
            ("import", []) => self.chosen_provider(None, block),
            _ => self.unknown(block),
        }
    }

    fn unknown(&mut self, block: &Block) {
        let rule = format!("block {} is not accepted", quoted(block.ident.as_str()));
        self.refuse_block(ReasonCode::ConfigurationBlock, block, rule);
    }

    fn terraform(&mut self, block: &Block) {
        for attribute in block.body.attributes() {
            if !matches!(
                attribute.key.as_str(),
                "required_version" | "experiments" | "language"
            ) {
                let rule = format!(
                    "argument {} is not accepted",
                    quoted(attribute.key.as_str())
                );
                let offset = attribute.span().map(|span| span.start);
                self.refuse(ReasonCode::ConfigurationBlock, offset, rule);
            }
        }
        for inner in block.body.blocks() {
            match inner.ident.as_str() {
                "required_providers" => self.required_providers(inner),
                "cloud" => self.cloud(inner),
                "backend" if inner.labels.first().is_some_and(|l| l.as_str() == "remote") => {
                    self.cloud(inner);
                }
                "backend" => {
                    let rule = "only the `cloud` block and the remote backend are accepted";
                    self.refuse_block(ReasonCode::ConfigurationBackend, inner, rule.to_owned());
                }
                _ => self.unknown(inner),
            }
        }
    }

    /// As the CLI needs it, and no credential in it.
    fn cloud(&mut self, block: &Block) {
        let known = |name: &str| matches!(name, "organization" | "hostname");
        let inner = |name: &str| matches!(name, "name" | "prefix" | "tags" | "project");
        let attributes = block.body.attributes().map(|a| (a, known(a.key.as_str())));
        let workspaces = block.body.get_blocks("workspaces");
        let nested =
            workspaces.flat_map(|w| w.body.attributes().map(|a| (a, inner(a.key.as_str()))));
        let bad: Vec<_> = attributes
            .chain(nested)
            .filter(|(_, good)| !good)
            .map(|(a, _)| a.clone())
            .collect();
        for attribute in bad {
            let rule = format!(
                "argument {} is not accepted here",
                quoted(attribute.key.as_str())
            );
            self.refuse(
                ReasonCode::ConfigurationBackend,
                attribute.span().map(|span| span.start),
                rule,
            );
        }
        let others = block
            .body
            .blocks()
            .filter(|inner| inner.ident.as_str() != "workspaces");
        for other in others {
            self.unknown(other);
        }
    }

    fn required_providers(&mut self, block: &Block) {
        for attribute in block.body.attributes() {
            let name = attribute.key.as_str();
            let address = match &attribute.value {
                // `aws = "~> 5.0"` names a version of hashicorp/aws.
                Expression::String(_) => Some(name),
                Expression::Object(object) => {
                    let written = object.iter().any(|(key, _)| key_is(key, "source"));
                    if written {
                        required_source(&attribute.value)
                    } else {
                        Some(name)
                    }
                }
                _ => None,
            };
            self.address(address, name, attribute.span().map(|span| span.start));
        }
        for inner in block.body.blocks() {
            self.unknown(inner);
        }
    }

    /// A provider by its local name.
    fn provider(&mut self, name: &str, block: &Block) {
        let address = self.address_of(name);
        self.address(Some(&address), name, block.span().map(|span| span.start));
    }

    /// The source that a local name stands for in this folder.
    fn address_of(&self, name: &str) -> String {
        let key = (self.source.folder().to_owned(), name.to_owned());
        match self.facts.names.get(&key) {
            Some(address) => address.clone(),
            None if name == "terraform" => crate::contract::BUILTIN_PROVIDER.to_owned(),
            None => name.to_owned(),
        }
    }

    fn provider_arguments(&mut self, name: &str, block: &Block) {
        let named = ProviderSource::new(&self.address_of(name))
            .is_some_and(|source| rules::names_provider(self.contract, &source));
        let (source, findings) = (self.source, &mut *self.findings);
        provider::judge(block, named, &mut |offset, rule| {
            findings.push(source.refusal(ReasonCode::ConfigurationProvider, offset, rule));
        });
    }

    fn address(&mut self, address: Option<&str>, name: &str, offset: Option<usize>) {
        let source = address.and_then(ProviderSource::new);
        if !source.is_some_and(|source| rules::provider(self.contract, &source)) {
            let rule = format!(
                "provider {} is not allowed",
                quoted(address.unwrap_or(name))
            );
            self.refuse(ReasonCode::ConfigurationProvider, offset, rule);
        }
    }

    /// The provider that a resource names or, by its type, implies.
    fn chosen_provider(&mut self, kind: Option<&str>, block: &Block) {
        let written = block
            .body
            .get_attribute("provider")
            .map(|attribute| &attribute.value);
        let name = match written {
            Some(Expression::Traversal(traversal)) => traversal
                .expr
                .as_variable()
                .map(|name| name.as_str().to_owned()),
            Some(Expression::Variable(name)) => Some(name.as_str().to_owned()),
            // JSON writes the reference as a text.
            Some(Expression::String(text)) => text.split('.').next().map(str::to_owned),
            Some(_) => None,
            None => match kind {
                Some(kind) => kind.split('_').next().map(str::to_owned),
                None => return,
            },
        };
        match name {
            Some(name) => self.provider(&name, block),
            None => self.address(None, "provider", block.span().map(|span| span.start)),
        }
    }

    fn resource(&mut self, kind: &str, block: &Block) {
        if rules::must_be_named(kind) && !rules::resource_type(self.contract, kind) {
            let rule = format!("resource type {} is not allowed", quoted(kind));
            self.refuse_block(ReasonCode::ConfigurationResourceType, block, rule);
        }
        self.chosen_provider(Some(kind), block);
        self.provisioners(block);
        self.archive(kind, block);
        for lifecycle in block.body.get_blocks("lifecycle") {
            for inner in lifecycle.body.blocks() {
                // `action_trigger` invokes provider actions beside the plan's changes.
                if !matches!(inner.ident.as_str(), "precondition" | "postcondition") {
                    self.unknown(inner);
                }
            }
        }
    }

    /// Archives are made during the plan: from files of the upload, and nowhere but in it.
    fn archive(&mut self, kind: &str, block: &Block) {
        if kind != "archive_file" {
            return;
        }
        for name in ["source_file", "source_dir", "output_path"] {
            let Some(attribute) = block.body.get_attribute(name) else {
                continue;
            };
            if literal_path(self.source, &attribute.value).is_none() {
                let rule = format!("`{name}` may only be a literal path inside the upload");
                let offset = attribute.span().map(|span| span.start);
                self.refuse(ReasonCode::ConfigurationDataSource, offset, rule);
            }
        }
    }

    fn provisioners(&mut self, block: &Block) {
        if rules::provisioners(self.contract) {
            return;
        }
        for inner in block.body.blocks() {
            // `dynamic` cannot make these, but it costs nothing to see it try.
            let named = |name: &str| matches!(name, "provisioner" | "connection");
            let dynamic =
                inner.has_ident("dynamic") && inner.labels.iter().any(|l| named(l.as_str()));
            if named(inner.ident.as_str()) || dynamic {
                let rule = "provisioners are not allowed".to_owned();
                self.refuse_block(ReasonCode::ConfigurationProvisioner, inner, rule);
            }
        }
    }

    fn data(&mut self, kind: &str, block: &'a Block) {
        if !rules::data_source(self.contract, kind) {
            let rule = format!("data source {} is not allowed", quoted(kind));
            self.refuse_block(ReasonCode::ConfigurationDataSource, block, rule);
        } else if remote_state::reads_state(kind) {
            let arguments = self.facts.pieces.whole(self.source, block);
            if let Some(why) = remote_state::refused(self.facts.readable, kind, &arguments) {
                let rule = format!("data source {}: {why}", quoted(kind));
                self.refuse_block(ReasonCode::ConfigurationRemoteState, block, rule);
            }
        }
        self.archive(kind, block);
        self.chosen_provider(Some(kind), block);
    }

    fn module(&mut self, block: &'a Block) {
        let whole = self.facts.pieces.whole(self.source, block);
        let literal = |name| whole.get(name).map(|value| value.as_str());
        let code = ReasonCode::ConfigurationModuleSource;
        let Some(Some(source)) = literal("source") else {
            let rule = "the source of a module must be written out".to_owned();
            return self.refuse_block(code, block, rule);
        };
        if rules::is_local(source) {
            let inside = join(self.source.folder(), source).filter(|folder| {
                let has = |path: &str| match folder.as_str() {
                    "" => true,
                    folder => path
                        .strip_prefix(folder)
                        .is_some_and(|rest| rest.starts_with('/')),
                };
                self.facts.upload.files.iter().any(|file| has(&file.path))
            });
            if inside.is_none() {
                let rule = format!("module {} is outside the upload", quoted(source));
                self.refuse_block(code, block, rule);
            }
            return;
        }
        let version = match literal("version") {
            None => None,
            Some(Some(version)) => Some(version),
            Some(None) => {
                let rule = "the version of a module must be written out".to_owned();
                return self.refuse_block(code, block, rule);
            }
        };
        if !rules::module(self.contract, source, version) {
            let rule = format!(
                "module {} is not allowed, or not at an exact version",
                quoted(source)
            );
            self.refuse_block(code, block, rule);
        }
    }
}

/// Every block type that may stand at the top, with its number of labels; for JSON.
pub(super) const TOP: &[(&str, usize)] = &[
    ("terraform", 0),
    ("provider", 1),
    ("resource", 2),
    ("data", 2),
    ("ephemeral", 2),
    ("module", 1),
    ("variable", 1),
    ("output", 1),
    ("locals", 0),
    ("check", 1),
    ("moved", 0),
    ("removed", 0),
    ("import", 0),
];

/// Blocks inside blocks that the rules look at, with their number of labels; for JSON, where
/// blocks and arguments look alike.
pub(super) fn nested(inside: &str) -> &'static [(&'static str, usize)] {
    match inside {
        "terraform" => &[
            ("required_providers", 0),
            ("backend", 1),
            ("cloud", 0),
            ("provider_meta", 1),
        ],
        "cloud" | "backend" => &[("workspaces", 0)],
        "resource" | "removed" => &[("provisioner", 1), ("connection", 0), ("lifecycle", 0)],
        "lifecycle" => &[
            ("precondition", 0),
            ("postcondition", 0),
            ("action_trigger", 0),
        ],
        "check" => &[("data", 2), ("assert", 0)],
        _ => &[],
    }
}

/// A body without anything.
pub(super) fn empty() -> Body {
    Body::new()
}
