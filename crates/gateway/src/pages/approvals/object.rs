//! What a plan does to one object, as its page shows it.

use policy::plan::{Line, LineKind};

use super::view::{AttributeView, LineView, ObjectView, SideView};
use crate::approvals::question::{self, Attribute, Object, Side};
use crate::pages::words::Quoted;

/// Longest value that is not folded, in characters.
const MAX_SHORT: usize = 72;

/// Whose words a plan is made of.
const PLAN: &str = "the configuration";

pub(super) fn object(object: Object) -> ObjectView {
    let action = match object.action().as_str() {
        "delete" => "destroy",
        "update" => "change",
        other => return view(object, other.to_owned()),
    };
    view(object, action.to_owned())
}

fn view(object: Object, action: String) -> ObjectView {
    let quoted = |text: &str| Quoted::new(text, PLAN);
    let destructive = object.is_destructive();
    ObjectView {
        action,
        tone: match object.rank() {
            _ if destructive => "refused",
            3 => "change",
            4 | 5 => "person",
            _ => "quiet",
        },
        destructive,
        address: quoted(&object.address),
        from: object.previous_address.as_deref().map(quoted),
        reason: object
            .reason
            .map(|text| Quoted::new(&text.replace('_', " "), "Terraform")),
        attributes: object.attributes.into_iter().map(attribute).collect(),
        left_out: object.left_out,
        not_compared: object.not_compared,
        cut: object.cut,
    }
}

fn attribute(attribute: Attribute) -> AttributeView {
    let [before, after] = question::heads(&attribute.before, &attribute.after, MAX_SHORT);
    AttributeView {
        name: Quoted::new(&attribute.name, PLAN),
        before: side(attribute.before, before),
        after: side(attribute.after, after),
        forces: attribute.forces_replacement,
        lines: attribute.lines.into_iter().map(line).collect(),
    }
}

fn line(line: Line) -> LineView {
    let (class, word, sign) = match line.kind {
        LineKind::Kept => ("kept", "", ' '),
        LineKind::Removed => ("removed", "goes: ", '-'),
        LineKind::Added => ("added", "comes: ", '+'),
        LineKind::Skipped => ("skipped", "", ' '),
        LineKind::LeftOut => ("bad", "", ' '),
    };
    let text = match line.kind {
        LineKind::Skipped => {
            let text = format!("… {} more lines that stay", line.text);
            Quoted::new(&text, "the gateway")
        }
        LineKind::LeftOut => {
            let text = format!("… {} more lines differ, not shown here", line.text);
            Quoted::new(&text, "the gateway")
        }
        _ => Quoted::new(&line.text, PLAN),
    };
    LineView {
        class,
        word,
        sign,
        text,
    }
}

/// A value; of a long one its head, and the whole behind it: a text as it is set.
fn side(side: Side, head: Option<String>) -> SideView {
    match (side, head) {
        (Side::Value(text), Some(head)) if head != text => {
            let set = serde_json::from_str::<String>(&text);
            let whole = Quoted::whole(&set.unwrap_or(text), PLAN);
            SideView::Long(Quoted::new(&head, PLAN).text, whole)
        }
        (Side::Value(text), _) => SideView::Short(Quoted::new(&text, PLAN)),
        (other, _) => SideView::Word(other.word().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_and_is_not_shown_looks_like_no_line_that_stays() {
        let shown = |kind| {
            let text = "7".to_owned();
            let view = line(Line { kind, text });
            (view.class, view.text.text)
        };
        let (class, text) = shown(LineKind::LeftOut);
        assert_eq!(
            (class, text.as_str()),
            ("bad", "… 7 more lines differ, not shown here")
        );
        let (class, text) = shown(LineKind::Skipped);
        assert_eq!(
            (class, text.as_str()),
            ("skipped", "… 7 more lines that stay")
        );
    }

    #[test]
    fn a_long_text_is_unfolded_to_its_last_line() {
        let text = format!("{}rm -rf /", "echo\n".repeat(300));
        let value = Side::Value(serde_json::to_string(&text).unwrap());
        let [_, head] = question::heads(&Side::Absent, &value, MAX_SHORT);
        let SideView::Long(_, whole) = side(value, head) else {
            panic!("not folded");
        };
        assert_eq!(whole.text, text);
    }
}
