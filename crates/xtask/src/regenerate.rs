//! Files that are made from the code: a test compares each with what the code makes now, and
//! the same test writes it anew when [`SWITCH`] is set.
//!
//! To add one: a test target named `documents` (for people) or `vectors` (for programs) in the
//! crate that knows the content, which honours the switch. Nothing is listed here.

use anyhow::{Context, bail};

use crate::cargo::cargo;

/// The environment variable that turns comparing into writing.
const SWITCH: &str = "CLAWGATE_REGENERATE";

/// Runs the test targets of one name, over the whole workspace so that the features are those
/// of every other build, with the switch set and then once more without it.
pub(crate) fn run(target: &str) -> anyhow::Result<()> {
    for (what, write) in [("write", true), ("compare", false)] {
        let mut command = cargo(&["test", "--workspace", "--quiet", "--test", target]);
        command.env_remove(SWITCH);
        if write {
            command.env(SWITCH, "1");
        }
        let status = command.status().context("cannot start cargo")?;
        if !status.success() {
            bail!("could not {what} the files of the test target `{target}`: {status}");
        }
    }
    println!("written anew; look at them with `git diff` before you commit");
    Ok(())
}
