//! Functions in expressions: which may be called, and with which paths.

use hcl_edit::Span;
use hcl_edit::expr::{Expression, FuncCall, TraversalOperator};
use hcl_edit::structure::Attribute;
use hcl_edit::template::{Element, HeredocTemplate, Template};
use hcl_edit::visit::{Visit, visit_attr, visit_func_call, visit_heredoc_template};

use super::hcl::{ProviderNames, Source, join};
use crate::reason::{ReasonCode, quoted};

/// Functions that read a file, all by their first argument.
const READERS: &[&str] = &[
    "file",
    "filebase64",
    "filebase64sha256",
    "filebase64sha512",
    "fileexists",
    "filemd5",
    "fileset",
    "filesha1",
    "filesha256",
    "filesha512",
    "templatefile",
];

/// Walks expressions and reports calls that are not allowed; `path` and `line` say where.
pub(super) struct Calls<'a, 'f> {
    pub(super) source: &'a Source<'a>,
    pub(super) names: &'a ProviderNames,
    pub(super) report: &'f mut dyn FnMut(ReasonCode, Option<usize>, String),
    /// Templates that are rendered by `templatefile`, as paths in the upload.
    pub(super) templates: &'f mut Vec<String>,
    /// Where the attribute at hand begins, for expressions without a place of their own.
    pub(super) offset: Option<usize>,
}

impl Visit for Calls<'_, '_> {
    fn visit_attr(&mut self, node: &Attribute) {
        let outer = self.offset;
        self.offset = node.span().map(|span| span.start).or(outer);
        visit_attr(self, node);
        self.offset = outer;
    }

    fn visit_func_call(&mut self, node: &FuncCall) {
        if let Err(rule) = self.call(node) {
            let offset = node.span().map(|span| span.start).or(self.offset);
            (self.report)(ReasonCode::ConfigurationFunction, offset, rule);
        }
        visit_func_call(self, node);
    }

    fn visit_heredoc_template(&mut self, node: &HeredocTemplate) {
        let span = node.span();
        let delimiter = node.delimiter.as_str();
        let text = self.source.text;
        if !span
            .as_ref()
            .is_some_and(|span| ends_once(text, span.clone(), delimiter))
        {
            let offset = span.map(|span| span.start).or(self.offset);
            let rule = format!(
                "the text from `<<{delimiter}` must end at one line that is `{delimiter}` and nothing else"
            );
            (self.report)(ReasonCode::ConfigurationSyntax, offset, rule);
        }
        visit_heredoc_template(self, node);
    }
}

/// Whether a heredoc ends where Terraform ends it: at the first line that is the delimiter, white
/// space apart. Our parser reads on over such a first line and stops before more text on the last
/// one; what lay between would be code there and text here, or the other way round.
fn ends_once(text: &str, span: std::ops::Range<usize>, delimiter: &str) -> bool {
    let Some(rest) = text.get(span.end..) else {
        return false;
    };
    let end = span.end + rest.find('\n').unwrap_or(rest.len());
    let Some(heredoc) = text.get(span.start..end) else {
        return false;
    };
    let ends: Vec<usize> = heredoc
        .split('\n')
        .enumerate()
        .filter(|(at, line)| *at > 0 && line.trim() == delimiter)
        .map(|(at, _)| at)
        .collect();
    ends[..] == [heredoc.matches('\n').count()]
}

impl Calls<'_, '_> {
    fn call(&mut self, call: &FuncCall) -> Result<(), String> {
        let namespace: Vec<&str> = call
            .name
            .namespace
            .iter()
            .map(|part| part.as_str())
            .collect();
        let name = call.name.name.as_str();
        match namespace[..] {
            [] | ["core"] => {}
            ["provider", "terraform"] if self.is_builtin() => return Ok(()),
            _ => {
                return Err(format!(
                    "functions of providers are not allowed: {}",
                    quoted(name)
                ));
            }
        }
        match name {
            "nonsensitive" => Err("`nonsensitive` unmasks secrets".to_owned()),
            "templatestring" => {
                Err("`templatestring` renders text that cannot be judged beforehand".to_owned())
            }
            reader if READERS.contains(&reader) => {
                let first = call.args.iter().next();
                let path = first
                    .and_then(|argument| literal_path(self.source, argument))
                    .ok_or_else(|| {
                        format!("`{reader}` may only name a literal path inside the upload")
                    })?;
                if reader == "fileset" && !call.args.iter().nth(1).is_some_and(stays_below) {
                    return Err("`fileset` needs a literal pattern below its folder".to_owned());
                }
                if reader == "templatefile" {
                    self.templates.push(path);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether the local name `terraform` means Terraform itself in this folder.
    fn is_builtin(&self) -> bool {
        let key = (self.source.folder().to_owned(), "terraform".to_owned());
        self.names
            .get(&key)
            .is_none_or(|source| source == crate::contract::BUILTIN_PROVIDER)
    }
}

/// `"a/b"`, `"${path.module}/a/b"`, `path.module` or `"${path.root}/a/b"`, normalised; `None` for
/// everything else and for paths that leave the upload.
pub(super) fn literal_path(source: &Source<'_>, argument: &Expression) -> Option<String> {
    match argument {
        Expression::Parenthesis(inner) => literal_path(source, inner.inner()),
        Expression::String(text) => join("", text.as_str()),
        Expression::Traversal(_) => base(source, argument).map(str::to_owned),
        Expression::StringTemplate(template) => {
            let elements: Vec<&Element> = template.iter().collect();
            match elements[..] {
                [Element::Literal(text)] => join("", text.as_str()),
                [Element::Interpolation(inner)] => base(source, &inner.expr).map(str::to_owned),
                [Element::Interpolation(inner), Element::Literal(rest)] => {
                    let folder = base(source, &inner.expr)?;
                    join(folder, rest.as_str().strip_prefix('/')?)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// The folder that `path.module` or `path.root` stands for. The root module may lie in a subfolder,
/// so a path from there is only known not to climb.
fn base<'a>(source: &'a Source<'_>, expression: &Expression) -> Option<&'a str> {
    let Expression::Traversal(traversal) = expression else {
        return None;
    };
    if traversal.expr.as_variable()?.as_str() != "path" {
        return None;
    }
    let [operator] = &traversal.operators[..] else {
        return None;
    };
    let TraversalOperator::GetAttr(name) = operator.value() else {
        return None;
    };
    match name.as_str() {
        "module" => Some(source.folder()),
        "root" => Some(""),
        _ => None,
    }
}

/// A literal pattern without a way up.
fn stays_below(pattern: &Expression) -> bool {
    pattern
        .as_str()
        .is_some_and(|text| !text.starts_with('/') && !text.contains('\\') && !text.contains(".."))
}

/// Walks a rendered template.
pub(super) fn visit_template(calls: &mut Calls<'_, '_>, template: &Template) {
    calls.visit_template(template);
}
