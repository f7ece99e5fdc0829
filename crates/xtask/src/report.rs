//! Judges what `clawgate demo --out` left: the demo says itself whether it went well, and this
//! looks again at what it wrote down.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

/// Files that the demo leaves.
const FILES: &[&str] = &["bundle.json", "trust.json", "wpc.json"];

/// Reads the report in a folder; an error names everything that is not in order.
pub(crate) fn run(folder: &Path) -> anyhow::Result<()> {
    let file = folder.join("report.json");
    let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let report: Value = serde_json::from_slice(&text).context("report.json is not JSON")?;
    let mut wrong = judge(&report);
    for name in FILES.iter().filter(|name| !folder.join(name).is_file()) {
        wrong.push(format!("{name} was not left"));
    }
    if !wrong.is_empty() {
        bail!(
            "the demo's report is not in order:\n  {}",
            wrong.join("\n  ")
        );
    }
    println!(
        "demo: {} steps, {} refusals, engine {}, verdict {}, after tampering {}",
        report["steps"].as_array().map_or(0, Vec::len),
        report["refusals"].as_array().map_or(0, Vec::len),
        report["engine"].as_str().unwrap_or_default(),
        report["verdict"].as_str().unwrap_or_default(),
        report["tamper_verdict"].as_str().unwrap_or_default(),
    );
    Ok(())
}

fn judge(report: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let steps = report["steps"].as_array().map_or(&[][..], Vec::as_slice);
    if steps.is_empty() {
        wrong.push("it has no steps".to_owned());
    }
    for step in steps.iter().filter(|step| step["ok"] != Value::Bool(true)) {
        wrong.push(format!(
            "step {} did not do what it should: {}",
            step["name"], step["detail"]
        ));
    }
    if report["refusals"].as_array().is_none_or(Vec::is_empty) {
        wrong.push("nothing was refused".to_owned());
    }
    for (member, wanted) in [("verdict", "valid"), ("tamper_verdict", "invalid")] {
        if report[member] != wanted {
            wrong.push(format!("{member} is {}, not \"{wanted}\"", report[member]));
        }
    }
    let engine = report["engine"].as_str().unwrap_or_default();
    if !["terraform ", "tofu "]
        .iter()
        .any(|name| engine.starts_with(name))
    {
        wrong.push(format!(
            "the engine was `{engine}`, not the real command line"
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({
            "steps": [{"name": "start", "ok": true, "detail": ""}],
            "refusals": [{"attempt": "read state", "code": "STATE_READ_DENIED"}],
            "engine": "terraform 1.11.4",
            "verdict": "valid",
            "tamper_verdict": "invalid",
        })
    }

    #[test]
    fn a_good_report_passes() {
        assert_eq!(judge(&good()), Vec::<String>::new());
    }

    #[test]
    fn each_way_to_go_wrong_is_named() {
        for (pointer, value, says) in [
            ("/steps", json!([]), "no steps"),
            ("/steps/0/ok", json!(false), "\"start\" did not"),
            ("/steps/0/ok", json!("true"), "\"start\" did not"),
            ("/refusals", json!([]), "nothing was refused"),
            ("/verdict", json!("not_proven"), "verdict is \"not_proven\""),
            ("/verdict", json!(null), "verdict is null"),
            (
                "/tamper_verdict",
                json!("valid"),
                "tamper_verdict is \"valid\"",
            ),
            (
                "/engine",
                json!("plans recorded from terraform 1.11.4"),
                "not the real",
            ),
        ] {
            let mut report = good();
            *report.pointer_mut(pointer).unwrap() = value;
            let wrong = judge(&report);
            assert!(
                wrong.iter().any(|line| line.contains(says)),
                "{says}: {wrong:?}"
            );
        }
        assert!(judge(&json!({})).len() >= 4);
    }
}
