//! Time and peak memory of inspecting large inputs: `cargo run --release -p clawgate-policy
//! --example weigh -- upload MIB`, or `plan MIB`. The figures stand in `docs/performance.md`.

use std::io::Write;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use policy::EXAMPLE_CONTRACT;
use policy::configuration::{Limits, ReadableStates, inspect_upload, judge_configuration};
use policy::contract::Contract;
use policy::plan::{PlanReader, judge};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let size = |text: &str| text.parse::<usize>().expect("a number of MiB") << 20;
    match words[..] {
        ["upload", mib] => upload(size(mib)),
        ["plan", mib] => plan(size(mib)),
        _ => {
            eprintln!("usage: weigh upload MIB | plan MIB");
            std::process::exit(2);
        }
    }
}

/// An archive of about that many packed bytes: a third is text that packs well, as configuration
/// does, the rest does not pack, as artefacts do not.
fn archive(packed: usize) -> Vec<u8> {
    let encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut tar = tar::Builder::new(encoder);
    let mut add = |path: String, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, path, content).expect("memory");
    };
    for number in 0..200 {
        let mut text = String::new();
        for resource in 0..60 {
            text.push_str(&format!(
                "resource \"aws_instance\" \"r{number}_{resource}\" {{\n  ami = var.ami\n  tags = {{\n    Name = \"host-{resource}-${{var.stage}}\"\n  }}\n}}\n"
            ));
        }
        add(format!("m{number}/main.tf"), text.as_bytes());
    }
    let mut state = 1u64;
    for number in 0..8 {
        let noise: Vec<u8> = (0..packed / 8 - (64 << 10))
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        add(format!("artefacts/{number}.bin"), &noise);
    }
    tar.into_inner()
        .and_then(GzEncoder::finish)
        .expect("memory")
}

fn upload(packed: usize) {
    let gz = archive(packed);
    let contract = Contract::parse(EXAMPLE_CONTRACT.as_bytes()).expect("the example is valid");
    let before = peak();
    let began = Instant::now();
    let upload = inspect_upload(&gz, &Limits::default()).expect("the archive is plain");
    let unpacked = began.elapsed();
    let findings = judge_configuration(&contract, &upload, &ReadableStates::none());
    let judged = began.elapsed();
    assert!(findings.is_empty(), "{findings:?}");
    let files: usize = upload.files.iter().map(|file| file.content.len()).sum();
    report(&format!(
        "{} MiB packed, {} MiB unpacked, {} files: unpacked and packed anew in {unpacked:.2?}, judged in {:.2?}, peak {} MiB (before: {} MiB)",
        gz.len() >> 20,
        files >> 20,
        upload.files.len(),
        judged - unpacked,
        peak() >> 20,
        before >> 20,
    ));
}

/// A plan of about that many bytes, as a workspace with many objects has it: each stands in the
/// prior state, in the planned values and among the changes, and one in fifty changes. It is made
/// piece by piece and never held.
fn plan(bytes: usize) {
    // What one object takes, in all three places together.
    let count = bytes / 3110;
    let values = |number: usize, size: &str| {
        let tags: Vec<String> = (0..12)
            .map(|tag| format!("\"tag-{tag}\":\"value {tag} of object {number}\""))
            .collect();
        let digest = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(
            "{{\"ami\":\"ami-{digest:016x}\",\"arn\":\"arn:aws:ec2:eu-central-1:123456789012:instance/i-{digest:016x}\",\"instance_type\":\"{size}\",\"tags\":{{{}}},\"user_data\":\"{digest:064x}\"}}",
            tags.join(",")
        )
    };
    let object = |number: usize| {
        format!(
            "\"address\":\"aws_instance.host[{number}]\",\"mode\":\"managed\",\"type\":\"aws_instance\",\"name\":\"host\",\"index\":{number},\"provider_name\":\"registry.terraform.io/hashicorp/aws\""
        )
    };
    let mut reader = PlanReader::default();
    let before = peak();
    let began = Instant::now();
    let mut written = 0;
    let mut push = |text: &str| {
        written += text.len();
        reader.push(text.as_bytes()).expect("within the bounds");
    };
    push("{\"format_version\":\"1.2\",\"terraform_version\":\"1.11.4\"");
    for member in ["planned_values", "prior_state"] {
        let state = member == "prior_state";
        push(&format!(",\"{member}\":{{"));
        push(if state {
            "\"format_version\":\"1.0\",\"values\":{"
        } else {
            ""
        });
        push("\"root_module\":{\"resources\":[");
        for number in 0..count {
            let size = if state && number % 50 == 0 {
                "t3.small"
            } else {
                "t3.large"
            };
            let comma = if number > 0 { "," } else { "" };
            push(&format!(
                "{comma}{{{},\"values\":{}}}",
                object(number),
                values(number, size)
            ));
        }
        push(if state { "]}}}" } else { "]}}" });
    }
    push(",\"resource_changes\":[");
    for number in 0..count {
        let changes = number % 50 == 0;
        let (action, size) = if changes {
            ("update", "t3.small")
        } else {
            ("no-op", "t3.large")
        };
        let comma = if number > 0 { "," } else { "" };
        push(&format!(
            "{comma}{{{},\"change\":{{\"actions\":[\"{action}\"],\"before\":{},\"after\":{},\"after_unknown\":{{}},\"before_sensitive\":{{}},\"after_sensitive\":{{}}}}}}",
            object(number),
            values(number, size),
            values(number, "t3.large"),
        ));
    }
    push(
        "],\"configuration\":{\"root_module\":{}},\"timestamp\":\"2026-11-22T07:38:29Z\",\"applyable\":true,\"complete\":true,\"errored\":false}",
    );
    let packed = began.elapsed();
    let facts = reader.inspect().expect("the plan can be judged");
    let inspected = began.elapsed();
    let contract = Contract::parse(EXAMPLE_CONTRACT.as_bytes()).expect("the example is valid");
    let violations = judge(&contract, &facts, None);
    assert!(violations.is_empty(), "{violations:?}");
    report(&format!(
        "{} MiB, {count} objects, {} changes: made and packed in {packed:.2?}, judged and hashed in {:.2?}, peak {} MiB (before: {} MiB)",
        written >> 20,
        facts.resources.len(),
        inspected - packed,
        peak() >> 20,
        before >> 20,
    ));
}

fn report(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}

/// The process' largest resident size so far, in bytes; zero where the system does not say.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok())
        .map_or(0, |kib| kib << 10)
}
