//! What a terminal is shown: colours only there, foreign text made harmless everywhere.

use std::io::{BufRead, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use super::Failure;

/// Headings and names.
pub const BOLD: Style = Style::new().bold();
/// What is in order.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// What may be wrong.
pub const WARN: Style = AnsiColor::Yellow.on_default().bold();
/// What is wrong, and what destroys.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What matters less.
pub const DIM: Style = Style::new().dimmed();
/// Ends any of them.
pub const OFF: anstyle::Reset = anstyle::Reset;

/// Makes text from elsewhere harmless: control characters, escape sequences, and marks that
/// turn the direction of writing come out as `\u{…}`, so that no name can repaint the screen.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a character can change how the text around it looks.
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Prints JSON, indented, to standard output.
pub fn print_json(value: &Value) {
    anstream::println!("{value:#}");
}

/// A member's text, made harmless; a dash when it is not there.
pub fn text(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// The entries of a list: the answer itself, or its one member that is a list.
pub fn items(value: &Value) -> &[Value] {
    let list = match value {
        Value::Object(members) => members.values().find_map(Value::as_array),
        other => other.as_array(),
    };
    list.map_or(&[], Vec::as_slice)
}

/// Prints names and values in two columns; values that are not there are left out.
pub fn print_facts(facts: &[(&str, String)]) {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts.iter().filter(|(_, value)| value != "-") {
        anstream::println!("{DIM}{name:width$}{OFF}  {value}");
    }
}

/// Prints rows in columns under a heading; says so when there are none.
pub fn print_table(heading: &[&str], rows: &[Vec<String>], none: &str) {
    if rows.is_empty() {
        anstream::println!("{none}");
        return;
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .chain([heading[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        line.trim_end().to_owned()
    };
    anstream::println!("{DIM}{}{OFF}", line(heading.to_vec()));
    for row in rows {
        anstream::println!("{}", line(row.iter().map(String::as_str).collect()));
    }
}

/// Asks a question to which only `y` and `yes` are a yes.
///
/// # Errors
/// When there is nobody to ask: standard input is no terminal.
pub fn confirm(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(
            Failure::usage("there is no terminal on which to ask for confirmation")
                .next("read what would happen with `show`, then repeat the command with --yes"),
        );
    }
    anstream::eprint!("{BOLD}{question}{OFF} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::new(format!("no answer: {error}")))?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

/// A span of time in seconds: a number and `m`, `h` or `d`.
pub fn seconds(text: &str) -> Option<u32> {
    let units = [("m", 60), ("h", 3600), ("d", 86_400)];
    units.into_iter().find_map(|(unit, seconds)| {
        let number = text.strip_suffix(unit)?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| number.parse::<u32>().ok()?.checked_mul(seconds))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_repaint_the_screen() {
        assert_eq!(plain("staging-app é 漢"), "staging-app é 漢");
        assert_eq!(plain("a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(
            plain("a\u{202e}b\u{200b}\r\n"),
            "a\\u{202e}b\\u{200b}\\u{d}\\u{a}"
        );
        assert_eq!(plain("\u{9b}31m"), "\\u{9b}31m");
    }

    #[test]
    fn lists_are_found_bare_or_wrapped() {
        assert_eq!(items(&serde_json::json!([1, 2])).len(), 2);
        assert_eq!(
            items(&serde_json::json!({"jobs": [1], "next": null})).len(),
            1
        );
        assert!(items(&serde_json::json!({"error": 1})).is_empty());
    }
}
