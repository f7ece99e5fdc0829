//! Arguments of provider blocks that no contract can allow, or only for a provider that it names.
//!
//! A provider works with credentials of the worker. Arguments that send it elsewhere than its
//! vendor, make it run a program, or let it read a file that may say either, are refused, however
//! deep they stand and in whichever syntax.

use hcl_edit::Span;
use hcl_edit::expr::{Expression, ObjectKey};
use hcl_edit::structure::{Attribute, Block};
use hcl_edit::visit::{Visit, visit_attr, visit_block, visit_object};

use crate::rules;

/// Calls `report` with each broken rule and the byte offset where it stands. `named`: the contract
/// names this very provider, and so says that its address is known.
pub(super) fn judge(block: &Block, named: bool, report: &mut dyn FnMut(Option<usize>, String)) {
    let offset = block.span().map(|span| span.start);
    let mut arguments = Arguments {
        named,
        offset,
        report,
    };
    arguments.visit_body(&block.body);
}

struct Arguments<'r> {
    named: bool,
    /// Where the argument at hand begins.
    offset: Option<usize>,
    report: &'r mut dyn FnMut(Option<usize>, String),
}

impl Arguments<'_> {
    fn name(&mut self, name: &str) {
        if let Some(why) = rules::provider_argument(name, self.named) {
            let rule = format!(
                "argument `{}` of a provider {why}",
                name.chars().take(80).collect::<String>()
            );
            (self.report)(self.offset, rule);
        }
    }

    fn at<T: Span>(&mut self, node: &T, inside: impl FnOnce(&mut Self)) {
        let outer = self.offset;
        self.offset = node.span().map(|span| span.start).or(outer);
        inside(self);
        self.offset = outer;
    }
}

impl Visit for Arguments<'_> {
    fn visit_attr(&mut self, node: &Attribute) {
        self.at(node, |this| {
            this.name(node.key.as_str());
            // Helm takes whole configurations of other providers as objects; what is not written
            // out could hold anything.
            let whole = matches!(node.key.as_str(), "kubernetes" | "registry" | "registries");
            if whole && !written_out(&node.value) {
                let rule = format!(
                    "argument `{}` of a provider must be written out",
                    node.key.as_str()
                );
                (this.report)(this.offset, rule);
            }
            if !rules::is_label_map(node.key.as_str()) {
                visit_attr(this, node);
            }
        });
    }

    fn visit_block(&mut self, node: &Block) {
        self.at(node, |this| {
            this.name(node.ident.as_str());
            // `dynamic "endpoints" { … }`
            for label in &node.labels {
                this.name(label.as_str());
            }
            visit_block(this, node);
        });
    }

    fn visit_object(&mut self, node: &hcl_edit::expr::Object) {
        for (key, _) in node.iter() {
            if let Some(name) = literal(key) {
                self.name(name);
            }
        }
        visit_object(self, node);
    }
}

fn written_out(value: &Expression) -> bool {
    match value {
        Expression::Object(object) => object.iter().all(|(key, _)| literal(key).is_some()),
        Expression::Array(elements) => elements.iter().all(written_out),
        Expression::Parenthesis(inner) => written_out(inner.inner()),
        _ => false,
    }
}

fn literal(key: &ObjectKey) -> Option<&str> {
    match key {
        ObjectKey::Ident(ident) => Some(ident.as_str()),
        ObjectKey::Expression(expression) => expression.as_str(),
    }
}
