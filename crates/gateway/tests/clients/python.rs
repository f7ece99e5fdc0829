//! `clients/python`.

use std::ffi::OsString;

use tokio::process::Command;

use crate::{World, named, project, run};

/// What schemathesis looks at in each answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,ignored_auth";

/// Paths that it leaves alone: what answers after a while or goes on, and what the agents' listener
/// answers. Each has one operation.
const LEFT_OUT: [&str; 6] = [
    "/v1/top",
    "/v1/export",
    "/v1/approvals/watch",
    "/v1/job",
    "/v1/job/runs",
    "/v1/job/receipts/{id}",
];

fn interpreter() -> Option<OsString> {
    named(
        "CLAWGATE_PYTHON",
        "a Python with `jsonschema`, `mypy` and more",
    )
}

async fn plays(script: &str) {
    let Some(python) = interpreter() else { return };
    let world = World::start().await;
    let mut command = world.command(&python);
    command
        .arg(project("crates/gateway/tests/clients").join(script))
        .env("PYTHONPATH", project("clients/python/src"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("README", project("clients/python/README.md"));
    world.plays(&mut command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_job() {
    plays("whole_job.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_said() {
    plays("errors.py").await;
}

#[tokio::test]
async fn it_is_made_from_the_document_and_typed() {
    let Some(python) = interpreter() else { return };
    let folder = project("clients/python");
    let make = Command::new(&python)
        .arg("generate.py")
        .args((std::env::var_os("CLAWGATE_REGENERATE").is_none()).then_some("--check"))
        .current_dir(&folder)
        .status();
    assert!(
        make.await.unwrap().success(),
        "run `python clients/python/generate.py`"
    );
    let cache = tempfile::tempdir().unwrap();
    let mut mypy = Command::new(&python);
    mypy.args(["-m", "mypy", "--strict", "--cache-dir"])
        .arg(cache.path());
    run(mypy.current_dir(&folder)).await;
}

#[tokio::test]
async fn it_is_packed_with_its_types() {
    let Some(python) = interpreter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut pack = Command::new(&python);
    pack.args(["-m", "hatchling", "build", "-t", "wheel", "-d"])
        .arg(folder.path());
    run(pack.current_dir(project("clients/python"))).await;
    let wheel = std::fs::read_dir(folder.path()).unwrap().next().unwrap();
    let list = "import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist(), sep='\\n')";
    let mut names = Command::new(&python);
    let names = run(names.args(["-c", list]).arg(wheel.unwrap().path())).await;
    let of_us: Vec<&str> = names
        .lines()
        .filter(|name| !name.contains("dist-info"))
        .collect();
    let modules = std::fs::read_dir(project("clients/python/src/clawgate")).unwrap();
    let mut modules: Vec<String> = modules
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".py") || name == "py.typed")
        .map(|name| format!("clawgate/{name}"))
        .collect();
    modules.sort();
    assert_eq!(of_us, modules);
}

/// Requests that follow the document and requests that do not, made at random: every answer is one
/// that the document names, none is a 5xx, and nothing is done without a credential.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_answers_as_the_document_says() {
    let Some(python) = interpreter() else { return };
    let world = World::start().await;
    let mut command = world.command(&python);
    command
        .args(["-m", "schemathesis.cli", "run"])
        .arg(project("docs/openapi.json"))
        .args(["--url", &world.sandbox.gateway.operator_url, "--header"])
        .arg(format!(
            "Authorization: Bearer {}",
            world.sandbox.operator_token
        ))
        .args(["--checks", CHECKS, "--phases", "coverage,fuzzing"])
        .args(LEFT_OUT.iter().flat_map(|path| ["--exclude-path", *path]))
        .args(["--max-examples", "5", "--generation-deterministic"])
        .args(["--warnings", "off", "--no-color"])
        .current_dir(world.folder.path());
    let output = run(&mut command).await;
    let document = clawgate::operator::openapi::document();
    let paths = document["paths"].as_object().unwrap().values();
    let all: usize = paths
        .map(|methods| methods.as_object().unwrap().len())
        .sum();
    let tested = format!("Tested: {}", all - LEFT_OUT.len());
    assert!(output.contains(&tested), "{output}");
}

#[tokio::test]
async fn the_document_is_one() {
    let Some(python) = interpreter() else { return };
    let mut validator = Command::new(&python);
    validator
        .args(["-m", "openapi_spec_validator"])
        .arg(project("docs/openapi.json"));
    run(&mut validator).await;
}
