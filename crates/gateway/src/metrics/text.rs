//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

use super::counts::Distribution;
use super::families::{Family, Kind};

/// Its media type.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The lines so far.
#[derive(Debug, Default)]
pub struct Text(String);

/// The lines of one family.
pub struct Lines<'a> {
    text: &'a mut String,
    family: &'static Family,
}

impl Text {
    /// Begins a family: its head is written, also when no line follows.
    pub fn family(&mut self, family: &'static Family) -> Lines<'_> {
        let (name, kind) = (family.name, family.kind.as_str());
        let help = escaped(family.help);
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Lines {
            text: &mut self.0,
            family,
        }
    }

    /// A family with one number and without labels.
    pub fn number(&mut self, family: &'static Family, value: f64) {
        self.family(family).value(&[], value);
    }

    /// All of it.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Lines<'_> {
    /// A line with these values of the family's labels.
    pub fn value(&mut self, labels: &[&str], value: f64) -> &mut Self {
        debug_assert_ne!(self.family.kind, Kind::Histogram, "{}", self.family.name);
        self.line("", labels, None, value);
        self
    }

    /// The lines of a histogram.
    pub fn distribution(&mut self, labels: &[&str], seen: &Distribution) -> &mut Self {
        debug_assert_eq!(self.family.kind, Kind::Histogram, "{}", self.family.name);
        let mut all = 0;
        for (end, below) in &seen.up_to {
            all = *below;
            self.line("_bucket", labels, Some(*end), *below as f64);
        }
        self.line("_sum", labels, None, seen.sum);
        self.line("_count", labels, None, all as f64);
        self
    }

    fn line(&mut self, suffix: &str, values: &[&str], end: Option<f64>, value: f64) {
        let names = self.family.labels;
        debug_assert_eq!(names.len(), values.len(), "{}", self.family.name);
        let mut labels: Vec<String> = names
            .iter()
            .zip(values)
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value).replace('"', "\\\"")))
            .collect();
        labels.extend(end.map(|end| match end.is_infinite() {
            true => "le=\"+Inf\"".to_owned(),
            false => format!("le=\"{end}\""),
        }));
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.family.name);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::counts::Histogram;
    use crate::metrics::families::{MODEL_SPEND, RUNS, STORE_WRITE};

    #[test]
    fn what_a_provider_is_called_cannot_end_its_line() {
        let mut text = Text::default();
        text.family(&MODEL_SPEND)
            .value(&["a\"b\\c\nd"], 0.5)
            .value(&["plain"], 2.0);
        text.family(&RUNS);
        let text = text.into_string();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                r#"clawgate_model_spend_usd_total{provider="a\"b\\c\nd"} 0.5"#,
                r#"clawgate_model_spend_usd_total{provider="plain"} 2"#,
            ]
        );
    }

    #[test]
    fn a_histogram_ends_with_all() {
        let histogram = Histogram::default();
        histogram.observe(std::time::Duration::from_millis(3));
        let mut text = Text::default();
        let seen = histogram.distribution();
        text.family(&STORE_WRITE).distribution(&[], &seen);
        let text = text.into_string();
        for line in [
            "clawgate_store_write_seconds_bucket{le=\"0.0025\"} 0",
            "clawgate_store_write_seconds_bucket{le=\"0.005\"} 1",
            "clawgate_store_write_seconds_bucket{le=\"+Inf\"} 1",
            "clawgate_store_write_seconds_sum 0.003",
            "clawgate_store_write_seconds_count 1",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
    }
}
