//! What an approver is asked, in words: one source for pages, terminals and notices.

use proof::approval::Changes;

/// The counts in words, destructive ones first.
pub fn in_words(changes: &Changes) -> String {
    let parts: Vec<String> = [
        (changes.delete, "to destroy"),
        (changes.replace, "to replace"),
        (changes.forget, "to forget"),
        (changes.update, "to change"),
        (changes.create, "to create"),
        (changes.import, "to import"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if parts.is_empty() {
        "no changes".to_owned()
    } else {
        parts.join(", ")
    }
}

/// The whole plan in a line; says also that nothing ends.
pub fn verdict(changes: &Changes) -> String {
    let mut parts: Vec<String> = [
        ("destroys", changes.delete),
        ("replaces", changes.replace),
        ("forgets", changes.forget),
        ("changes", changes.update),
        ("creates", changes.create),
        ("imports", changes.import),
    ]
    .iter()
    .filter(|(_, count)| *count > 0)
    .map(|(verb, count)| format!("{verb} {count}"))
    .collect();
    if !changes.is_destructive() {
        parts.push("destroys nothing".to_owned());
    }
    let mut text = parts.join(", ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}
