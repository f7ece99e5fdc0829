//! What a release hands out: for each build an archive with its licence and what it is made of, and
//! the checksums of all.
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

mod smoke;

/// A build of the release.
struct Build {
    package: &'static str,
    /// What the names of its files end in: two builds of one program differ by it.
    suffix: &'static str,
    /// Linked with everything that it needs, the C library included.
    is_static: bool,
    /// What a reader is promised of it.
    promise: Promise,
    /// What comes with it, from the root of the sources.
    with: &'static [&'static str],
}

enum Promise {
    /// It serves.
    Gateway,
    /// It is small, and there at once.
    Verifier,
}

const WITH_GATEWAY: &[&str] = &[
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "packaging/systemd",
    "packaging/grafana",
];

/// The static ones one after the other: what both are made of is built once.
const BUILDS: [Build; 3] = [
    // Loads PKCS#11 modules, and looks names up by all that the machine has for it.
    Build {
        package: "clawgate",
        suffix: "",
        is_static: false,
        promise: Promise::Gateway,
        with: WITH_GATEWAY,
    },
    Build {
        package: "clawgate",
        suffix: "-static",
        is_static: true,
        promise: Promise::Gateway,
        with: WITH_GATEWAY,
    },
    Build {
        package: "clawverify",
        suffix: "",
        is_static: true,
        promise: Promise::Verifier,
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
    for build in &BUILDS {
        let built = build.run()?;
        println!("{}", build.check(&built, &out)?);
        let bill = serde_json::to_string_pretty(&sbom::of(&packages, build.package)?)? + "\n";
        let version = &packages.linked_into(build.package)?.program.version;
        let name = format!("{}-{version}-{TARGET}{}", build.package, build.suffix);
        let bill_file = format!("{name}.cdx.json");
        fs::write(out.join(&bill_file), &bill)?;
        build.archive(&built, &bill, &out, &name)?;
        made.extend([format!("{name}.tar.gz"), bill_file]);
    }
    made.sort();
    let sums = output(Command::new("sha256sum").args(&made).current_dir(&out))?;
    fs::write(out.join("SHA256SUMS"), &sums)?;
    print!("{}:\n{sums}", out.display());
    Ok(())
}

/// Largest verifier, in bytes.
const MAX_BYTES: u64 = 5_000_000;

/// Longest time from start to end of its `--version`, the median of [`STARTS`].
const MAX_START: Duration = Duration::from_millis(10);
const STARTS: usize = 51;

impl Build {
    /// Checks what readers are promised of it, and says what it is.
    fn check(&self, built: &Path, out: &Path) -> anyhow::Result<String> {
        let name = built.display();
        let bytes = fs::read(built)?;
        let loads =
            loader(&bytes).with_context(|| format!("`{name}` is no program for {TARGET}"))?;
        let linked = match (self.is_static, loads) {
            (true, false) => "static",
            (false, true) => "dynamic",
            (true, true) => bail!("`{name}` is not static: it asks for a loader"),
            (false, false) => bail!("`{name}` is static"),
        };
        let size = bytes.len() as u64;
        let kept = match self.promise {
            Promise::Gateway => {
                smoke::serves(built, self.is_static, &out.join("smoke"))?;
                "serves".to_owned()
            }
            Promise::Verifier if size > MAX_BYTES => {
                bail!("`{name}` has {size} bytes, more than {MAX_BYTES}")
            }
            Promise::Verifier => starts(built)?,
        };
        Ok(format!("{name}: {linked}, {size} bytes, {kept}"))
    }
}

/// Checks that a program is there at once.
fn starts(program: &Path) -> anyhow::Result<String> {
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
            "`{}` takes {start:?} for `--version`, more than {MAX_START:?}; on an idle machine?",
            program.display()
        );
    }
    Ok(format!(
        "{:.1} ms for `--version`",
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

impl Build {
    /// Builds a program and tells where it is.
    fn run(&self) -> anyhow::Result<PathBuf> {
        let (source, home) = (root().display(), cargo_home()?);
        let home = home.display();
        let mut flags =
            format!("--remap-path-prefix={source}=/source --remap-path-prefix={home}=/cargo");
        if self.is_static {
            flags.push_str(" -C target-feature=+crt-static");
        }
        let package = self.package;
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

    fn archive(&self, built: &Path, bill: &str, out: &Path, name: &str) -> anyhow::Result<()> {
        let folder = out.join(name);
        fs::create_dir(&folder)?;
        fs::copy(built, folder.join(self.package))?;
        fs::write(folder.join("sbom.cdx.json"), bill)?;
        for path in self.with {
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
