//! What a release hands out: for each program an archive with its licence and what it is made of,
//! and the checksums of all.
//!
//! Whoever builds the same sources with the same compiler gets the same bytes: paths are written as
//! if the sources lay in `/source`, archives hold no owner, and their times are those of the last
//! commit.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cargo::{cargo, root, target};
use crate::packages::{Packages, TARGET};
use crate::sbom;

/// A program of the release.
struct Program {
    package: &'static str,
    /// Linked with everything that it needs. The gateway is not: it looks names up as the machine
    /// does, for which the C library loads parts of itself.
    is_static: bool,
    /// What comes with it, from the root of the sources.
    with: &'static [&'static str],
}

const PROGRAMS: [Program; 2] = [
    Program {
        package: "clawgate",
        is_static: false,
        with: &[
            "LICENSE",
            "README.md",
            "CHANGELOG.md",
            "packaging/systemd",
            "packaging/grafana",
        ],
    },
    Program {
        package: "clawverify",
        is_static: true,
        with: &["LICENSE"],
    },
];

/// Makes everything in `dist` of the target folder, or in a folder that is given.
pub(crate) fn run(folder: Option<&Path>) -> anyhow::Result<()> {
    let out = folder.map_or_else(|| target().join("dist"), Path::to_owned);
    if out.exists() {
        bail!("`{}` is there already; remove it first", out.display());
    }
    fs::create_dir_all(&out)?;
    let packages = Packages::read()?;
    let mut made = Vec::new();
    for program in &PROGRAMS {
        let built = build(program)?;
        if program.is_static {
            println!("{}", stands_alone(&built)?);
        }
        let bill = serde_json::to_string_pretty(&sbom::of(&packages, program.package)?)? + "\n";
        let version = &packages.linked_into(program.package)?.program.version;
        let name = format!("{}-{version}-{TARGET}", program.package);
        let bill_file = format!("{name}.cdx.json");
        fs::write(out.join(&bill_file), &bill)?;
        archive(program, &built, &bill, &out, &name)?;
        made.extend([format!("{name}.tar.gz"), bill_file]);
    }
    made.sort();
    let sums = output(Command::new("sha256sum").args(&made).current_dir(&out))?;
    fs::write(out.join("SHA256SUMS"), &sums)?;
    print!("{}:\n{sums}", out.display());
    Ok(())
}

/// Largest program that is linked with everything that it needs, in bytes.
const MAX_BYTES: u64 = 5_000_000;

/// Longest time from start to end of `--version`, the median of [`STARTS`].
const MAX_START: Duration = Duration::from_millis(10);
const STARTS: usize = 51;

/// Checks what an auditor is promised of a program: one file, small, there at once.
fn stands_alone(program: &Path) -> anyhow::Result<String> {
    let name = program.display();
    let bytes = fs::read(program)?;
    let needs = loader(&bytes).with_context(|| format!("`{name}` is no program for {TARGET}"))?;
    if needs {
        bail!("`{name}` is not static: it asks for a loader");
    }
    let size = bytes.len() as u64;
    if size > MAX_BYTES {
        bail!("`{name}` has {size} bytes, more than {MAX_BYTES}");
    }
    let mut starts = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let began = Instant::now();
        output(Command::new(program).arg("--version"))?;
        starts.push(began.elapsed());
    }
    starts.sort_unstable();
    let start = starts[STARTS / 2];
    if start > MAX_START {
        bail!(
            "`{name}` takes {start:?} for `--version`, more than {MAX_START:?}; on an idle machine?"
        );
    }
    Ok(format!(
        "{name}: static, {size} bytes, {:.1} ms for `--version`",
        start.as_secs_f64() * 1e3
    ))
}

/// Whether a program names a loader (ELF-64, a program header of type `PT_INTERP`), as every one
/// does that is linked dynamically. `None` for what is no such program.
fn loader(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let u16_at = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(elf.get(at..at + 8)?.try_into().ok()?));
    // The magic number, 64 bits, little-endian.
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(u64_at(0x20)?).ok()?;
    let (size, count) = (usize::from(u16_at(0x36)?), usize::from(u16_at(0x38)?));
    let mut found = false;
    for n in 0..count {
        let at = table.checked_add(n.checked_mul(size)?)?;
        let kind = elf.get(at..at.checked_add(4)?)?;
        found |= u32::from_le_bytes(kind.try_into().ok()?) == PT_INTERP;
    }
    Some(found)
}

/// Builds a program and tells where it is.
fn build(program: &Program) -> anyhow::Result<PathBuf> {
    let (source, home) = (root().display(), cargo_home()?);
    let home = home.display();
    let mut flags =
        format!("--remap-path-prefix={source}=/source --remap-path-prefix={home}=/cargo");
    if program.is_static {
        flags.push_str(" -C target-feature=+crt-static");
    }
    let package = program.package;
    // A target that is named keeps the flags away from what runs while building.
    let arguments = ["build", "--release", "--locked", "--target", TARGET];
    let mut build = cargo(&[&arguments[..], &["--package", package]].concat());
    build
        .env("RUSTFLAGS", flags)
        .env(
            "CFLAGS",
            format!("-ffile-prefix-map={source}=/source -ffile-prefix-map={home}=/cargo"),
        )
        .env("SOURCE_DATE_EPOCH", last_commit()?);
    let status = build.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`{package}` does not build: {status}");
    }
    Ok(target().join(TARGET).join("release").join(package))
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    let given = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    given
        .or_else(home)
        .context("neither CARGO_HOME nor HOME is set")
}

/// Its time in seconds since 1970.
fn last_commit() -> anyhow::Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(root());
    Ok(output(&mut git)?.trim().to_owned())
}

fn archive(
    program: &Program,
    built: &Path,
    bill: &str,
    out: &Path,
    name: &str,
) -> anyhow::Result<()> {
    let folder = out.join(name);
    fs::create_dir(&folder)?;
    fs::copy(built, folder.join(program.package))?;
    fs::write(folder.join("sbom.cdx.json"), bill)?;
    for path in program.with {
        let mut copy = Command::new("cp");
        copy.args(["-r", "--parents", path])
            .arg(&folder)
            .current_dir(root());
        output(&mut copy)?;
    }
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--mode=u=rwX,go=rX", "--format=ustar"])
        .arg(format!("--mtime=@{}", last_commit()?))
        .args(["--use-compress-program=gzip -9n", "-cf"])
        .arg(format!("{name}.tar.gz"))
        .arg(name)
        .current_dir(out);
    output(&mut tar)?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Runs a command to its good end and returns what it says.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_owned();
    let name = OsStr::to_string_lossy(&name);
    let output = command
        .output()
        .with_context(|| format!("cannot start `{name}`"))?;
    if !output.status.success() {
        bail!("`{name}`: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_is_seen() {
        // The tests themselves are linked dynamically.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(loader(&own), Some(true));
        let mut none = own.clone();
        none[0x38..0x3a].fill(0);
        assert_eq!(loader(&none), Some(false));
        assert_eq!(loader(&own[..100]), None);
        assert_eq!(loader(b"#!/bin/sh\n"), None);
    }
}
