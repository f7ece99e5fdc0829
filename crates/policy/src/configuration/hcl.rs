//! Reading every configuration file, and walking it.

use std::collections::{BTreeMap, BTreeSet};

use hcl_edit::parser::{parse_body, parse_template};
use hcl_edit::structure::Body;
use hcl_edit::visit::Visit;

use super::function::{Calls, visit_template};
use super::{InspectedUpload, MAX_FINDINGS, MAX_SOURCE, UploadRefusal, block, file, json};
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

impl Source<'_> {
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
    findings: &mut Vec<UploadRefusal>,
) {
    let mut sources = Vec::new();
    for uploaded in &upload.files {
        let native = file::is_native(&uploaded.path);
        if !native && !file::is_json(&uploaded.path) {
            continue;
        }
        match read(&uploaded.path, &uploaded.content, native) {
            Ok(source) => sources.push(source),
            Err(refusal) => findings.push(refusal),
        }
    }
    let mut names = ProviderNames::new();
    for source in &sources {
        block::provider_names(source, &mut names);
    }
    let mut templates = Vec::new();
    for source in &sources {
        if findings.len() >= MAX_FINDINGS {
            return;
        }
        block::judge(contract, upload, source, &names, findings);
        let mut report = |code, offset, rule| findings.push(source.refusal(code, offset, rule));
        let mut calls = Calls {
            source,
            report: &mut report,
            templates: &mut templates,
            offset: None,
        };
        calls.visit_body(&source.body);
    }
    rendered(upload, templates, findings);
}

fn read<'a>(path: &'a str, content: &'a [u8], native: bool) -> Result<Source<'a>, UploadRefusal> {
    let syntax = |rule: String| UploadRefusal::at(ReasonCode::ConfigurationSyntax, path, rule);
    if content.len() > MAX_SOURCE {
        return Err(syntax(format!("larger than {MAX_SOURCE} bytes")));
    }
    let text = std::str::from_utf8(content).map_err(|_| syntax("not UTF-8".to_owned()))?;
    if !native {
        let body = json::body(content).map_err(syntax)?;
        return Ok(Source {
            path,
            text: "",
            body,
        });
    }
    let body = parse_body(text).map_err(|error| UploadRefusal {
        line: Some(error.location().line()),
        ..syntax(format!("not HCL: {}", plain_text(error.message())))
    })?;
    Ok(Source { path, text, body })
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
            let Some(template) = text.and_then(|text| parse_template(text).ok()) else {
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
