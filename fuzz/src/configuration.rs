//! One file of configuration, in either syntax.

use std::collections::BTreeSet;

use policy::ReasonCode;
use policy::configuration::{
    InspectedUpload, ReadableStates, UploadRefusal, UploadedFile, judge_configuration,
};
use policy::contract::Contract;
use proof::Hash;

use crate::{LENIENT, RUNBOOK, choice};

/// A lenient contract refuses nothing that a strict one lets pass, and whatever stands before a
/// forbidden call does not hide it.
pub fn configuration(data: &[u8]) {
    let (kind, data) = choice(data);
    let name = match kind % 4 {
        0 => "main.tf.json",
        1 => ".terraform.lock.hcl",
        _ => "main.tf",
    };
    let strict = judged(&RUNBOOK, name, data);
    let lenient = judged(&LENIENT, name, data);
    let codes = |found: &[UploadRefusal]| -> BTreeSet<ReasonCode> {
        found.iter().map(|refusal| refusal.code).collect()
    };
    if strict.is_empty() {
        assert!(lenient.is_empty(), "{lenient:?}");
    }
    if name != "main.tf" || codes(&strict).contains(&ReasonCode::ConfigurationSyntax) {
        return;
    }
    let text = std::str::from_utf8(data).expect("it was read");
    // A second block after whatever stands here is still seen.
    let appended = format!("{text}\nlocals {{\n  zz = file(\"/proc/self/environ\")\n}}\n");
    let found = judged(&RUNBOOK, name, appended.as_bytes());
    assert!(
        codes(&found).contains(&ReasonCode::ConfigurationFunction) || found.len() >= 100,
        "{found:?}"
    );
}

fn judged(contract: &Contract, name: &str, content: &[u8]) -> Vec<UploadRefusal> {
    let file = |path: &str, content: &[u8]| UploadedFile {
        path: path.to_owned(),
        content: content.to_vec(),
    };
    let mut files = vec![
        file("a.tpl", b"${x}"),
        file("base.tf", b""),
        file(name, content),
        file("mod/main.tf", b""),
    ];
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let upload = InspectedUpload {
        files,
        repacked_tar_gz: Vec::new(),
        sha256: Hash::of(content),
    };
    judge_configuration(contract, &upload, &ReadableStates::none())
}
