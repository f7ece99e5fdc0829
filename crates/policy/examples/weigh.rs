//! Time and peak memory of inspecting large inputs: `cargo run --release -p clawgate-policy
//! --example weigh -- upload [MIB]`. The figures stand in `docs/performance.md`.

use std::io::Write;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use policy::EXAMPLE_CONTRACT;
use policy::configuration::{Limits, ReadableStates, inspect_upload, judge_configuration};
use policy::contract::Contract;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let size = |text: &str| text.parse::<usize>().expect("a number of MiB") << 20;
    match words[..] {
        ["upload", mib] => upload(size(mib)),
        _ => {
            eprintln!("usage: weigh upload MIB");
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
