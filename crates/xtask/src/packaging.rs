//! Tests of `packaging/`, each by the tool that its readers use.

#![cfg(test)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo::root;
use crate::packages::Packages;
use crate::sbom;

/// Names the interpreter that has the checkers; `.ci/run` sets it.
const PYTHON: &str = "CLAWGATE_PYTHON";

/// Most that systemd may find exposed, of 10: what a service cannot do without is the network.
const EXPOSED: &str = "15";

fn python() -> Option<OsString> {
    let python = std::env::var_os(PYTHON);
    if python.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI, {PYTHON} must be set"
        );
        println!("skipped: {PYTHON} does not name a Python");
    }
    python
}

fn packaging(path: &str) -> PathBuf {
    root().join("packaging").join(path)
}

/// Runs a checker; returns whether it is content, and what it says.
fn checked(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn the_image_is_built_as_hadolint_wants_it() {
    let Some(python) = python() else { return };
    let hadolint = Path::new(&python).with_file_name("hadolint");
    let lint = |file: &Path| checked(Command::new(&hadolint).arg(file));
    let dockerfile = packaging("docker/Dockerfile");
    let (good, said) = lint(&dockerfile);
    assert!(good, "{said}");

    let text = std::fs::read_to_string(&dockerfile).unwrap();
    let last = text.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("gcr.io/distroless/cc-debian12:nonroot\n"));
    assert!(last.contains("\nUSER 65532:65532\n"), "{last}");
    assert!(!last.contains("\nRUN "), "there is no shell to run it");
    assert!(last.contains("HEALTHCHECK") && text.contains("--no-default-features"));
    // The linter finds what is there to be found.
    let folder = std::env::temp_dir().join(format!("clawgate-lint-{}", std::process::id()));
    std::fs::write(&folder, "FROM debian\nRUN apt-get install curl\n").unwrap();
    let (good, said) = lint(&folder);
    std::fs::remove_file(&folder).unwrap();
    assert!(!good && said.contains("DL3006"), "{said}");
}

#[test]
fn the_chart_is_what_helm_and_kubernetes_take() {
    let Some(python) = python() else { return };
    let mut check = Command::new(python);
    check
        .arg(packaging("checks/chart.py"))
        .arg(packaging("helm/clawgate"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let (good, said) = checked(&mut check);
    assert!(
        good && said.contains("everything as it should be"),
        "{said}"
    );
}

#[test]
fn the_bill_of_materials_is_cyclonedx() {
    let Some(python) = python() else { return };
    let packages = Packages::read().unwrap();
    // The smaller one: its shape is the same, and the validator compares each part with each other.
    let document = sbom::of(&packages, "clawverify").unwrap();
    let file = std::env::temp_dir().join(format!("clawgate-sbom-{}.json", std::process::id()));
    std::fs::write(&file, document.to_string()).unwrap();
    let mut check = Command::new(&python);
    check.arg(packaging("checks/sbom.py")).arg(&file);
    let (good, said) = checked(&mut check);
    std::fs::remove_file(&file).unwrap();
    assert!(
        good && said.contains("everything as it should be"),
        "{said}"
    );
}

/// Without systemd at hand, nothing can be said about its files.
#[test]
fn the_unit_is_what_systemd_takes_and_confines() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI, `systemd-analyze` must be on PATH (`apt-get install systemd`)"
        );
        println!("skipped: `systemd-analyze` is not here");
        return;
    }
    let unit = packaging("systemd/clawgate.service");
    let exposed = |unit: &Path| {
        let mut analyze = Command::new("systemd-analyze");
        analyze
            .args(["security", "--offline=yes", "--no-pager"])
            .arg(format!("--threshold={EXPOSED}"))
            .arg(unit);
        checked(&mut analyze)
    };
    let (good, said) = exposed(&unit);
    assert!(good, "{said}");

    // The program is not installed here: the unit is looked at as if it were `true`.
    let folder = std::env::temp_dir().join(format!("clawgate-unit-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let copy = folder.join("clawgate.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    let verified = |text: &str| {
        std::fs::write(&copy, text).unwrap();
        checked(Command::new("systemd-analyze").arg("verify").arg(&copy))
    };
    let (good, said) = verified(&text.replace("/usr/bin/clawgate", "/bin/true"));
    assert!(good && said.is_empty(), "{said}");
    let (_, said) = verified(&text.replace("ProtectHome", "ProtectHouse"));
    assert!(said.contains("ProtectHouse"), "{said}");
    std::fs::write(
        &copy,
        text.replace("NoNewPrivileges=yes\nCapabilityBoundingSet=\n", ""),
    )
    .unwrap();
    assert!(!exposed(&copy).0, "less would be found");
    std::fs::remove_dir_all(&folder).unwrap();
}
