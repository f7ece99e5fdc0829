//! Functions in expressions: which may be called, and with which paths.

use hcl_edit::Span;
use hcl_edit::expr::{Expression, FuncCall, TraversalOperator};
use hcl_edit::structure::Attribute;
use hcl_edit::template::{Element, Template};
use hcl_edit::visit::{Visit, visit_attr, visit_func_call};

use super::hcl::{Source, join};
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
            ["provider", "terraform"] => return Ok(()),
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
                    .and_then(|argument| self.literal_path(argument))
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

    /// `"a/b"`, `"${path.module}/a/b"`, `path.module` or `"${path.root}/a/b"`, normalised; `None`
    /// for everything else and for paths that leave the upload.
    fn literal_path(&self, argument: &Expression) -> Option<String> {
        match argument {
            Expression::Parenthesis(inner) => self.literal_path(inner.inner()),
            Expression::String(text) => join("", text.as_str()),
            Expression::Traversal(_) => self.base(argument).map(str::to_owned),
            Expression::StringTemplate(template) => {
                let elements: Vec<&Element> = template.iter().collect();
                match elements[..] {
                    [Element::Literal(text)] => join("", text.as_str()),
                    [Element::Interpolation(base)] => self.base(&base.expr).map(str::to_owned),
                    [Element::Interpolation(base), Element::Literal(rest)] => {
                        join(self.base(&base.expr)?, rest.as_str().strip_prefix('/')?)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The folder that `path.module` or `path.root` stands for. The root module may lie in a
    /// subfolder, so a path from there is only known not to climb.
    fn base(&self, expression: &Expression) -> Option<&str> {
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
            "module" => Some(self.source.folder()),
            "root" => Some(""),
            _ => None,
        }
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
