//! Archives of configuration.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use policy::configuration::{
    Limits, ReadableStates, inspect_in_place, inspect_upload, judge_configuration,
};

use crate::{RUNBOOK, choice};

/// What is accepted is plain files under plain paths, and our archive of them is accepted as the
/// same files and packed to the same bytes.
pub fn upload(data: &[u8]) {
    let (kind, data) = choice(data);
    let limits = Limits {
        packed: 1 << 20,
        unpacked: 1 << 20,
        entries: 50,
        ..Limits::default()
    };
    // Mostly the archive inside: chance hardly ever makes a gzip stream.
    let packed = if kind % 8 == 0 {
        data.to_vec()
    } else {
        gzip(data)
    };
    let Ok(upload) = inspect_upload(&packed, &limits) else {
        return;
    };
    assert!(!upload.files.is_empty() && upload.files.len() <= limits.entries);
    assert!(
        upload.files.is_sorted_by(|a, b| a.path < b.path),
        "{:?}",
        upload.files
    );
    for file in &upload.files {
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        assert!(
            file.path.len() <= limits.path && file.path.split('/').all(plain),
            "{file:?}"
        );
        assert!(!file.path.contains(['\\', ':', '\0', '\n']), "{file:?}");
    }
    let roomy = Limits {
        packed: 4 << 20,
        unpacked: 4 << 20,
        ..Limits::default()
    };
    let again = inspect_in_place(&upload.repacked_tar_gz, &roomy).expect("our archive is plain");
    assert_eq!(again.files, upload.files);
    assert_eq!(again.repacked_tar_gz, upload.repacked_tar_gz);
    assert_eq!(again.sha256, upload.sha256);
    let none = ReadableStates::none();
    let findings = judge_configuration(&RUNBOOK, &upload, &none);
    assert_eq!(findings, judge_configuration(&RUNBOOK, &again, &none));
}

/// As the command line packs it.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}
