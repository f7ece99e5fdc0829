//! What a release hands out: for each program an archive with its licence and what it is made of,
//! and the checksums of all.
//!
//! Built so that whoever builds the same sources with the same compiler should get the same bytes: paths
//! are written as if the sources lay in `/source`, archives hold no owner, and their times are those
//! of the last commit.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
