//! A look at the brackets of a text before it is parsed.
//!
//! The parser tries again from the start of each operand that follows an operator when what is
//! inside cannot be read: a hundred bytes of open brackets after operators take it seconds, two
//! hundred take it years. Brackets that match, and few that are nested after operators, keep it
//! fast.

/// Most brackets and quotes within each other that follow an operator each. The parser may take
/// twice as long for each.
const MAX_NESTED: usize = 10;
/// Most brackets within each other, whatever they follow.
const MAX_DEPTH: usize = 200;

/// Whether the native syntax of a file can be given to the parser; if not, the line and why.
pub(super) fn body(text: &str) -> Result<(), (usize, &'static str)> {
    let mut scan = Scan::new(text, Mode::Code(0));
    scan.run().map_err(|why| {
        let before = &text.as_bytes()[..scan.at.min(text.len())];
        (memchr::memchr_iter(b'\n', before).count() + 1, why)
    })
}

/// The same for a template.
pub(super) fn template(text: &str) -> Result<(), &'static str> {
    Scan::new(text, Mode::Template).run()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode<'a> {
    /// Up to a closing bracket; 0 for the whole text.
    Code(u8),
    Quoted,
    Heredoc(&'a str),
    /// The text of a template without quotes.
    Template,
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// What is open, and whether it follows an operator.
    open: Vec<(Mode<'a>, bool)>,
    after_operator: bool,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str, mode: Mode<'a>) -> Self {
        Self {
            text,
            at: 0,
            open: vec![(mode, false)],
            after_operator: false,
        }
    }

    fn run(&mut self) -> Result<(), &'static str> {
        while self.at < self.text.len() {
            match self.open.last().map(|(mode, _)| *mode) {
                Some(Mode::Code(closing)) => self.code(closing)?,
                Some(Mode::Heredoc(delimiter)) => self.heredoc(delimiter)?,
                Some(mode) => self.text(mode)?,
                None => return Err("a bracket is closed that was not opened"),
            }
        }
        if self.open.len() == 1 {
            Ok(())
        } else {
            Err("a bracket or a text is not closed")
        }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn push(&mut self, mode: Mode<'a>) -> Result<(), &'static str> {
        self.open.push((mode, self.after_operator));
        self.after_operator = false;
        let nested = self.open.iter().filter(|(_, after)| *after).count();
        if nested > MAX_NESTED || self.open.len() > MAX_DEPTH {
            return Err("brackets are nested too deep");
        }
        Ok(())
    }

    fn pop(&mut self) {
        self.open.pop();
        self.after_operator = false;
    }

    fn code(&mut self, closing: u8) -> Result<(), &'static str> {
        let rest = self.rest();
        match rest {
            [b'#', ..] | [b'/', b'/', ..] => {
                self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                return Ok(());
            }
            [b'/', b'*', ..] => {
                let end = self.text[self.at + 2..].find("*/");
                self.at += 4 + end.ok_or("a comment is not closed")?;
                return Ok(());
            }
            [b'<', b'<', ..] => {
                if let Some((delimiter, length)) = heredoc(&self.text[self.at..]) {
                    self.at += length;
                    return self.push(Mode::Heredoc(delimiter));
                }
            }
            _ => {}
        }
        let length = match rest {
            [b'=' | b'!' | b'<' | b'>', b'=', ..] => {
                self.after_operator = true;
                2
            }
            // Of `for`: what follows is no operand.
            [b'=', b'>', ..] => {
                self.after_operator = false;
                2
            }
            [byte, ..] => {
                self.byte(*byte, closing)?;
                1
            }
            [] => 0,
        };
        self.at += length;
        Ok(())
    }

    fn byte(&mut self, byte: u8, closing: u8) -> Result<(), &'static str> {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'&' | b'|' | b'!' => {
                self.after_operator = true;
            }
            b'"' => self.push(Mode::Quoted)?,
            b'(' => self.push(Mode::Code(b')'))?,
            b'[' => self.push(Mode::Code(b']'))?,
            b'{' => self.push(Mode::Code(b'}'))?,
            b')' | b']' | b'}' if byte == closing => self.pop(),
            b')' | b']' | b'}' => return Err("a bracket is closed that was not opened"),
            _ => self.after_operator = false,
        }
        Ok(())
    }

    /// One step in a text: to what it interpolates, or over a byte.
    fn text(&mut self, mode: Mode<'a>) -> Result<(), &'static str> {
        match self.rest() {
            [b'$', b'$', b'{', ..] | [b'%', b'%', b'{', ..] => self.at += 3,
            [b'$' | b'%', b'{', ..] => {
                self.at += 2;
                self.push(Mode::Code(b'}'))?;
            }
            [b'\\', _, ..] if mode == Mode::Quoted => self.at += 2,
            [b'"', ..] if mode == Mode::Quoted => {
                self.at += 1;
                self.pop();
            }
            _ => self.at += 1,
        }
        Ok(())
    }

    fn heredoc(&mut self, delimiter: &'a str) -> Result<(), &'static str> {
        let begins = self.at == 0 || self.text.as_bytes()[self.at - 1] == b'\n';
        if begins {
            let line = self.rest().split(|byte| *byte == b'\n').next();
            let line = line
                .and_then(|line| std::str::from_utf8(line).ok())
                .unwrap_or_default();
            if line.trim() == delimiter {
                self.at += line.len();
                self.pop();
                return Ok(());
            }
            let odd = line.trim().strip_prefix(delimiter);
            if odd.is_some_and(|rest| !rest.starts_with(is_name)) {
                return Err("a line of a text begins with its end and goes on");
            }
        }
        self.text(Mode::Heredoc(delimiter))
    }
}

/// The delimiter of a heredoc, and the length of its first line.
fn heredoc(text: &str) -> Option<(&str, usize)> {
    let line = text.split_inclusive('\n').next()?;
    let name = line.strip_prefix("<<")?;
    let name = name.strip_prefix('-').unwrap_or(name);
    let name = name.strip_suffix('\n')?;
    let name = name.strip_suffix('\r').unwrap_or(name);
    let first = name.chars().next()?;
    let good = (first.is_alphabetic() || first == '_') && name.chars().all(is_name);
    good.then_some((name, line.len()))
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_configurations_look_like_passes() {
        for text in [
            "",
            "a = (1 - (2 * (3 + f([{ x = -1 }]))))\n",
            "a = \"x ${f(\"y ${z}\")} $${ %%{ \\\" }\" # ( [ {\n// (\n/* ( */\n",
            "a = <<-EOT\n  ( [ { \" ${f({ x = \"}\" })} $${\n  EOTX\n  EOT\nb = <<B\nB\n",
            "a = { for k, v in m : k => { x = v } if v >= 1 && v != (2) }\n",
            "a = 1 < 2 ? [1] : [2]\n",
        ] {
            assert_eq!(body(text), Ok(()), "{text}");
        }
        let deep = format!("a = {}1{}\n", "[".repeat(60), "]".repeat(60));
        assert_eq!(body(&deep), Ok(()));
        assert_eq!(
            template("it's \"( ${f(\"x\")} %{ if a }{%{ endif }"),
            Ok(())
        );
    }

    #[test]
    fn what_would_keep_the_parser_busy_does_not() {
        for operand in [
            "1-1-{ x =",
            "1*1 - (",
            "1-1-\"${",
            "1 == 1-[",
            "a && !(",
            "1-/* */(",
            "1-\n{",
        ] {
            let open = format!("a = {}", operand.repeat(60));
            assert!(body(&open).is_err(), "{operand}");
            let hidden = operand.replace('-', "-/*)*/").repeat(60);
            assert!(body(&format!("a = {hidden}")).is_err(), "{operand}");
        }
        let closed = format!("a = {}1{}\n", "1-1-(".repeat(11), ")".repeat(11));
        assert!(body(&closed).is_err());
        assert_eq!(body(&closed.replacen("1-1-(", "f(", 1)), Ok(()));
        for text in [
            "a = (\n",
            "a = )\n",
            "a = (]\n",
            "a = \"x\n",
            "a = \"${x\"\n",
            "/* x",
            "a = <<EOT\nx\n",
            "a = <<EOT\nx\nEOT /*\nEOT\n",
        ] {
            assert!(body(text).is_err(), "{text}");
        }
        assert!(template("${").is_err());
        assert_eq!(body("a = 1\nb = )\n").unwrap_err().0, 2);
    }
}
