//! Reading every configuration file, and walking it.

use std::collections::{BTreeMap, BTreeSet};

use hcl_edit::parser::{parse_body, parse_template};
use hcl_edit::structure::Body;
use hcl_edit::visit::Visit;

use super::function::{Calls, visit_template};
use super::overrides::Pieces;
use super::{
    InspectedUpload, MAX_FINDINGS, MAX_SOURCE, MAX_SOURCES, ReadableStates, UploadRefusal, block,
    file, json, scan,
};
use crate::contract::Contract;
use crate::reason::ReasonCode;
use crate::terraform::rewrite::plain_text;

/// One configuration file, read.
pub(super) struct Source<'a> {
    pub(super) path: &'a str,
    /// Empty for JSON, which has no places.
    pub(super) text: &'a str,
    pub(super) body: Body,
}

impl<'a> Source<'a> {
    /// Reads native syntax.
    pub(super) fn native(path: &'a str, content: &'a [u8]) -> Result<Self, UploadRefusal> {
        let text = text(path, content)?;
        scan::body(text).map_err(|(line, rule)| UploadRefusal {
            line: Some(line),
            ..syntax(path, format!("not HCL: {rule}"))
        })?;
        let body = parse_body(text).map_err(|error| UploadRefusal {
            line: Some(error.location().line()),
            ..syntax(path, format!("not HCL: {}", plain_text(error.message())))
        })?;
        Ok(Self { path, text, body })
    }

    /// Reads JSON syntax.
    fn json(path: &'a str, content: &'a [u8]) -> Result<Self, UploadRefusal> {
        text(path, content)?;
        let body = json::body(content).map_err(|rule| syntax(path, rule))?;
        Ok(Self {
            path,
            text: "",
            body,
        })
    }

    /// The folder that it is in, `""` for the root.
    pub(super) fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// A refusal at a byte offset.
    pub(super) fn refusal(
        &self,
        code: ReasonCode,
        offset: Option<usize>,
        rule: String,
    ) -> UploadRefusal {
        let mut refusal = UploadRefusal::at(code, self.path, rule);
        if let Some(before) = offset.and_then(|offset| self.text.get(..offset)) {
            refusal.line = Some(before.matches('\n').count() + 1);
            let start = before.rfind('\n').map_or(0, |at| at + 1);
            let line = self.text[start..].lines().next().unwrap_or_default();
            refusal.source_line = Some(plain_text(&line.chars().take(160).collect::<String>()));
        }
        refusal
    }
}

/// Sources of providers by folder and local name.
pub(super) type ProviderNames = BTreeMap<(String, String), String>;

pub(super) fn judge(
    contract: &Contract,
    upload: &InspectedUpload,
    readable: &ReadableStates,
    findings: &mut Vec<UploadRefusal>,
) {
    let mut sources = Vec::new();
    let mut size = 0;
    for uploaded in &upload.files {
        let native = file::is_native(&uploaded.path);
        if !native && !file::is_json(&uploaded.path) {
            continue;
        }
        if findings.len() >= MAX_FINDINGS {
            return;
        }
        size += uploaded.content.len();
        if size > MAX_SOURCES {
            let rule = format!("more than {MAX_SOURCES} bytes of configuration");
            findings.push(UploadRefusal::whole(ReasonCode::UploadTooLarge, rule));
            return;
        }
        let read = if native { Source::native } else { Source::json };
        match read(&uploaded.path, &uploaded.content) {
            Ok(source) => sources.push(source),
            Err(refusal) => findings.push(refusal),
        }
    }
    let mut names = ProviderNames::new();
    for source in &sources {
        block::provider_names(source, &mut names);
    }
    let pieces = Pieces::collect(&sources);
    let facts = block::Facts {
        contract,
        upload,
        readable,
        names: &names,
        pieces: &pieces,
    };
    let mut templates = Vec::new();
    for source in &sources {
        if findings.len() >= MAX_FINDINGS {
            return;
        }
        block::judge(&facts, source, findings);
        let mut report = |code, offset, rule| findings.push(source.refusal(code, offset, rule));
        let mut calls = Calls {
            source,
            names: &names,
            report: &mut report,
            templates: &mut templates,
            offset: None,
        };
        calls.visit_body(&source.body);
    }
    rendered(upload, templates, findings);
}

fn text<'a>(path: &str, content: &'a [u8]) -> Result<&'a str, UploadRefusal> {
    if content.len() > MAX_SOURCE {
        return Err(syntax(path, format!("larger than {MAX_SOURCE} bytes")));
    }
    std::str::from_utf8(content).map_err(|_| syntax(path, "not UTF-8".to_owned()))
}

fn syntax(path: &str, rule: String) -> UploadRefusal {
    UploadRefusal::at(ReasonCode::ConfigurationSyntax, path, rule)
}

/// Templates can call functions themselves, so that each one that is rendered is read too.
fn rendered(upload: &InspectedUpload, templates: Vec<String>, findings: &mut Vec<UploadRefusal>) {
    for path in templates.into_iter().collect::<BTreeSet<_>>() {
        let code = ReasonCode::ConfigurationFunction;
        // A path from the root module may mean any folder when that one lies deeper.
        let candidates: Vec<_> = upload
            .files
            .iter()
            .filter(|file| {
                file.path == path
                    || file
                        .path
                        .strip_suffix(path.as_str())
                        .is_some_and(|p| p.ends_with('/'))
            })
            .collect();
        if candidates.is_empty() {
            findings.push(UploadRefusal::at(
                code,
                &path,
                "is rendered, but not in the upload",
            ));
        }
        for file in candidates {
            let text = std::str::from_utf8(&file.content).ok();
            let readable = text.filter(|text| scan::template(text).is_ok());
            let Some(template) = readable.and_then(|text| parse_template(text).ok()) else {
                let rule = "is rendered as a template, but cannot be read as one";
                findings.push(UploadRefusal::at(code, &file.path, rule));
                continue;
            };
            let source = Source {
                path: &file.path,
                text: text.unwrap_or_default(),
                body: Body::new(),
            };
            let mut more = Vec::new();
            let mut report = |code, offset, rule| findings.push(source.refusal(code, offset, rule));
            let mut calls = Calls {
                source: &source,
                names: &ProviderNames::new(),
                report: &mut report,
                templates: &mut more,
                offset: None,
            };
            visit_template(&mut calls, &template);
            // Terraform does not let a template render another; neither do we.
            if !more.is_empty() {
                let rule = "renders another template";
                findings.push(UploadRefusal::at(code, &file.path, rule));
            }
        }
    }
}

/// Joins a folder and a literal relative path; `None` when the result is absolute, holds template
/// syntax, or leaves the upload.
pub(super) fn join(folder: &str, path: &str) -> Option<String> {
    if path.starts_with(['/', '~']) || path.contains(['\\', '$', '%', '\0']) {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
