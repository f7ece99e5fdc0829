//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

use super::families::Family;
use super::snapshot::{Snapshot, Value};

/// Its media type.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes all of a snapshot.
pub fn written(seen: &Snapshot) -> String {
    let mut text = String::new();
    for family in &seen.families {
        let of = family.family;
        let (name, kind, help) = (of.name, of.kind.as_str(), escaped(of.help));
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for line in &family.lines {
            let mut write = |suffix: &str, end: Option<f64>, value: f64| {
                let labels = labels(of, &line.labels, end);
                let _ = writeln!(text, "{name}{suffix}{labels} {value}");
            };
            match &line.value {
                Value::Number(value) => write("", None, *value),
                Value::Distribution(seen) => {
                    let mut all = 0;
                    for (end, below) in &seen.up_to {
                        all = *below;
                        write("_bucket", Some(*end), *below as f64);
                    }
                    write("_sum", None, seen.sum);
                    write("_count", None, all as f64);
                }
            }
        }
    }
    text
}

fn labels(family: &Family, values: &[String], end: Option<f64>) -> String {
    let pairs = family.labels.iter().zip(values);
    let mut labels: Vec<String> = pairs
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value).replace('"', "\\\"")))
        .collect();
    labels.extend(end.map(|end| match end.is_infinite() {
        true => "le=\"+Inf\"".to_owned(),
        false => format!("le=\"{end}\""),
    }));
    match labels.is_empty() {
        true => String::new(),
        false => format!("{{{}}}", labels.join(",")),
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
        let mut seen = Snapshot::default();
        seen.family(&MODEL_SPEND)
            .value(&["a\"b\\c\nd"], 0.5)
            .value(&["plain"], 2.0);
        seen.family(&RUNS);
        let text = written(&seen);
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
        let mut seen = Snapshot::default();
        seen.family(&STORE_WRITE)
            .distribution(&[], histogram.distribution());
        let text = written(&seen);
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
