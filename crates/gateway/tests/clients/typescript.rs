//! `clients/typescript`. What is tested is what is packed: compiled, packed by npm, unpacked as a
//! package of a user's.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::{World, named, project, run};

/// The folder of packages that has `typescript` and the rest.
fn packages() -> Option<PathBuf> {
    let folder = named(
        "CLAWGATE_NODE_MODULES",
        "a folder of packages with `typescript`, `openapi-typescript` and `@types/node`",
    );
    folder.map(PathBuf::from)
}

/// Compiles the sources in a folder of their own, and packs them; the user's folder, and the names
/// of the package's files.
async fn packed(packages: &Path, folder: &Path) -> (PathBuf, Vec<String>) {
    let package = folder.join("package");
    copy(&project("clients/typescript"), &package);
    let mut tsc = Command::new("node");
    tsc.arg(packages.join("typescript/bin/tsc"));
    tsc.arg("--typeRoots").arg(packages.join("@types"));
    run(tsc.current_dir(&package)).await;
    let mut pack = Command::new("npm");
    pack.args(["pack", "--ignore-scripts", "--silent"])
        .env("npm_config_cache", folder.join("cache"))
        .env("npm_config_update_notifier", "false");
    let name = run(pack.current_dir(&package)).await;
    let file = std::fs::File::open(package.join(name.trim())).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let user = folder.join("user");
    let place = user.join("node_modules/@clawgate");
    std::fs::create_dir_all(&place).unwrap();
    archive.unpack(&place).unwrap();
    let place = place.join("package");
    let names = names(&place, &place);
    std::fs::rename(&place, user.join("node_modules/@clawgate/client")).unwrap();
    (user, names)
}

/// Copies sources; a developer's packages and builds stay where they are.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        } else if name == "src" {
            copy(&entry.path(), &target);
        }
    }
}

/// The files below a folder, sorted.
fn names(folder: &Path, root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(names(&path, root));
        } else {
            let name = path.strip_prefix(root).unwrap();
            found.push(name.to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

async fn plays(script: &str) {
    let Some(packages) = packages() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (user, _) = packed(&packages, folder.path()).await;
    // Packages are looked for from where the script stands.
    let place = user.join(script);
    std::fs::copy(project("crates/gateway/tests/clients").join(script), &place).unwrap();
    let world = World::start().await;
    let mut command = world.command("node".as_ref());
    world.plays(command.arg(place).current_dir(&user)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_job() {
    plays("whole_job.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_said() {
    plays("errors.mjs").await;
}

/// The example of the README, type-checked against the package and run.
#[tokio::test(flavor = "multi_thread")]
async fn the_package_is_whole_and_its_example_runs() {
    let Some(packages) = packages() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (user, names) = packed(&packages, folder.path()).await;
    let modules = std::fs::read_dir(project("clients/typescript/src")).unwrap();
    let mut expected = vec!["README.md".to_owned(), "package.json".to_owned()];
    for module in modules {
        let name = module.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".ts").unwrap();
        expected.extend([format!("dist/{name}.js"), format!("dist/{name}.d.ts")]);
    }
    expected.sort();
    assert_eq!(names, expected);

    let readme = std::fs::read_to_string(project("clients/typescript/README.md")).unwrap();
    let example = readme.split("```ts\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    std::fs::write(user.join("example.mts"), example).unwrap();
    let mut tsc = Command::new("node");
    tsc.arg(packages.join("typescript/bin/tsc"))
        .args(["--strict", "--module", "nodenext", "--target", "es2022"])
        .args(["--types", "node", "--typeRoots"])
        .arg(packages.join("@types"))
        .arg("example.mts");
    run(tsc.current_dir(&user)).await;
    let world = World::start().await;
    let trust = world.sandbox.folder.join("trust.json");
    std::fs::copy(trust, user.join("trust.json")).unwrap();
    let mut example = world.command("node".as_ref());
    let output = run(example.arg("example.mjs").current_dir(&user)).await;
    assert!(output.trim_end().ends_with("valid"), "{output}");
}

#[tokio::test]
async fn it_is_made_from_the_document() {
    let Some(packages) = packages() else { return };
    let file = project("clients/typescript/src/schema.ts");
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("schema.ts");
    let mut generate = Command::new("node");
    generate
        .arg(packages.join("openapi-typescript/bin/cli.js"))
        .arg(project("docs/openapi.json"))
        .arg("-o")
        .arg(&made)
        .arg("--default-non-nullable=false");
    run(&mut generate).await;
    let made = std::fs::read_to_string(made).unwrap();
    if std::env::var_os("CLAWGATE_REGENERATE").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == made,
        "clients/typescript/src/schema.ts is stale: run `npm run generate` there"
    );
}
