//! That a gateway which was built is one: it is set up, serves, is found by its name, and stops.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use super::output;

/// Credentials that a new configuration names; nobody is shown them here.
const CREDENTIALS: [&str; 3] = [
    "CLAWGATE_TFC_PLANNER",
    "CLAWGATE_TFC_EXECUTOR",
    "CLAWGATE_TFC_READER",
];

/// What else it reads from its environment, and shall not from ours.
const VARIABLES: [&str; 3] = ["CLAWGATE_CREDENTIAL", "CLAWGATE_LOG", "CLAWGATE_LOG_FORMAT"];

/// A key as only a program has it that loads modules.
const MODULE: &str = "
[keys.receipt]
kind = \"pkcs11\"
module = \"module.so\"
token_label = \"gateway\"
key_label = \"receipt\"
pin = { file = \"pin\" }
";

/// Runs it in a new folder, which stays when something is not as it should be.
pub(super) fn serves(program: &Path, is_static: bool, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir(folder)?;
    let name = program.display();
    let program = fs::canonicalize(program)?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(folder);
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command
    };
    let version = output(&mut command(&["--version"]))?;
    if version.trim_end().ends_with(" (static)") != is_static {
        bail!("`{name}` calls itself `{}`", version.trim_end());
    }
    output(&mut command(&["init", "--save"]))?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let file = folder.join("clawgate.toml");
    let text = fs::read_to_string(&file)?;
    let text = text.replace("127.0.0.1:8787", "127.0.0.1:0");
    let text = text.replace("127.0.0.1:8788", &format!("127.0.0.1:{port}"));
    fs::write(&file, &text)?;
    if is_static {
        fs::write(folder.join("module.toml"), text + MODULE)?;
        let refused = command(&["health", "--config", "module.toml"]).output()?;
        let said = String::from_utf8_lossy(&refused.stderr);
        if refused.status.success() || !said.contains("static build") {
            bail!("`{name}` does not refuse a key in a module: {said}");
        }
    }

    let mut serving = command(&["serve"]);
    serving.envs(CREDENTIALS.map(|credential| (credential, "none")));
    let serving = Serving::start(serving)?;
    output(&mut command(&["health"]))?;
    let operator = format!("http://localhost:{port}");
    output(&mut command(&["job", "list", "--operator", &operator]))?;
    serving.stop()?;
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// A gateway that ends with this.
struct Serving(Child);

impl Serving {
    /// Waits until it serves.
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut serving = Self(command.stderr(Stdio::piped()).spawn()?);
        let mut log = BufReader::new(serving.0.stderr.take().context("no standard error")?);
        let mut said = String::new();
        while !said.lines().any(|line| line.contains(" serving ")) {
            if log.read_line(&mut said)? == 0 {
                bail!("the gateway does not serve: {said}");
            }
        }
        // What it says further is nobody's concern, but it must get rid of it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(serving)
    }

    fn stop(mut self) -> anyhow::Result<()> {
        let id = self.0.id().to_string();
        output(Command::new("kill").args(["-TERM", &id]))?;
        let status = self.0.wait()?;
        if !status.success() {
            bail!("the gateway does not stop well: {status}");
        }
        Ok(())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
