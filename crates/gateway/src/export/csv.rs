//! Comma-separated values (RFC 4180) that no spreadsheet takes for formulas.

use serde_json::Value;

/// What may stand in a cell.
pub trait Cell {
    /// Its text.
    fn text(&self) -> String;
}

impl Cell for &str {
    fn text(&self) -> String {
        (*self).to_owned()
    }
}

impl Cell for &Value {
    fn text(&self) -> String {
        match self {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// One line with its end.
pub fn line(cells: impl Iterator<Item = impl Cell>) -> String {
    let cells: Vec<String> = cells.map(|cell| quoted(&harmless(&cell.text()))).collect();
    format!("{}\r\n", cells.join(","))
}

/// Text that stays text: a spreadsheet takes what begins with one of these characters for a
/// formula, unless an apostrophe stands before it. Control characters become spaces, so a line of
/// text is a line of the file.
fn harmless(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let first = text.trim_start().chars().next();
    let formula = |c| matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠');
    match first.is_some_and(formula) {
        true => format!("'{text}"),
        false => text,
    }
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_harmless() {
        for (text, cell) in [
            ("plain", "plain"),
            ("", ""),
            ("a b", "a b"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("a\r\nb", "a  b"),
            ("=1+1", "'=1+1"),
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1,A2)", "\"'@SUM(A1,A2)\""),
            ("\t=1", "' =1"),
            ("\r=1", "' =1"),
            ("  =1", "'  =1"),
            ("＝1", "'＝1"),
            ("a=1", "a=1"),
            ("-sEcReT_hash", "'-sEcReT_hash"),
        ] {
            assert_eq!(line([text].into_iter()), format!("{cell}\r\n"), "{text:?}");
        }
        let values = [Value::Null, 7.into(), true.into(), "x,y".into()];
        assert_eq!(line(values.iter()), ",7,true,\"x,y\"\r\n");
    }
}
