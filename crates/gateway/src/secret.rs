//! Secrets and where they come from. They are never logged, stored or answered.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Longest secret, in bytes; tokens and keys are far shorter.
const MAX_BYTES: usize = 16 * 1024;

/// How long a secrets manager's command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// A secret text. `Debug` shows nothing of it; it is wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text that nobody else keeps.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the one header that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret comes from: exactly one of a file, an environment variable or a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum SecretSource {
    /// The file's content, surrounding white space ignored.
    File(PathBuf),
    /// The variable's value.
    Env(String),
    /// What a program prints: any secrets manager's command line works.
    Command(Vec<String>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
}

impl TryFrom<Written> for SecretSource {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written {
                file: Some(file),
                env: None,
                command: None,
            } => Ok(Self::File(file)),
            Written {
                file: None,
                env: Some(name),
                command: None,
            } => Ok(Self::Env(name)),
            Written {
                file: None,
                env: None,
                command: Some(words),
            } if !words.is_empty() => Ok(Self::Command(words)),
            _ => Err("a secret is given by one of `file`, `env` and `command`"),
        }
    }
}

impl From<SecretSource> for Written {
    fn from(source: SecretSource) -> Self {
        let mut written = Self {
            file: None,
            env: None,
            command: None,
        };
        match source {
            SecretSource::File(file) => written.file = Some(file),
            SecretSource::Env(name) => written.env = Some(name),
            SecretSource::Command(words) => written.command = Some(words),
        }
        written
    }
}

/// Why a secret is not to be had. The texts never repeat the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret file `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The variable is not set.
    #[error("the environment variable `{0}` is not set")]
    Env(String),
    /// The program cannot be started, failed or took too long.
    #[error("the secret command `{program}` failed: {reason}")]
    Command {
        /// Its first word.
        program: String,
        /// Exit status or cause.
        reason: String,
    },
    /// Empty, too long, or with characters that no header can carry.
    #[error("the secret from {0} is empty, too long or not plain text")]
    Unusable(String),
}

impl SecretSource {
    /// Makes a relative file relative to the configuration's folder.
    pub fn resolve_against(&mut self, folder: &Path) {
        if let Self::File(file) = self {
            *file = folder.join(&file);
        }
    }

    /// Fetches the secret.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub async fn fetch(&self) -> Result<Secret, SecretError> {
        // What a header can carry.
        self.fetch_of(|c| matches!(c, '\x21'..='\x7e')).await
    }

    /// Fetches a passphrase: any text on one line.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub async fn fetch_passphrase(&self) -> Result<Secret, SecretError> {
        self.fetch_of(|c| !c.is_control()).await
    }

    async fn fetch_of(&self, may_hold: impl Fn(char) -> bool) -> Result<Secret, SecretError> {
        let (text, from) = match self {
            Self::File(path) => (
                tokio::fs::read_to_string(path)
                    .await
                    .map_err(|source| SecretError::File {
                        path: path.clone(),
                        source,
                    })?,
                format!("`{}`", path.display()),
            ),
            Self::Env(name) => (
                std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?,
                format!("`{name}`"),
            ),
            Self::Command(words) => (run(words).await?, format!("`{}`", words[0])),
        };
        let text = Zeroizing::new(text);
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.len() > MAX_BYTES || !trimmed.chars().all(may_hold) {
            return Err(SecretError::Unusable(from));
        }
        Ok(Secret::new(trimmed.to_owned()))
    }
}

async fn run(words: &[String]) -> Result<String, SecretError> {
    let failed = |reason: String| SecretError::Command {
        program: words[0].clone(),
        reason,
    };
    let child = tokio::process::Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(COMMAND_TIMEOUT, child)
        .await
        .map_err(|_| failed(format!("no answer in {} s", COMMAND_TIMEOUT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("its output is not text".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_source_gives_its_secret_and_says_what_is_wrong() {
        let command = |words: &[&str]| {
            SecretSource::Command(words.iter().map(|word| (*word).to_owned()).collect())
        };
        assert_eq!(
            command(&["echo", "abc"]).fetch().await.unwrap().expose(),
            "abc"
        );
        for (source, says) in [
            (command(&["false"]), "exit"),
            (command(&["no-such-program-here"]), "no-such-program-here"),
            (command(&["true"]), "empty"),
            (command(&["echo", "a b"]), "plain"),
            (
                SecretSource::Env("NO_SUCH_VARIABLE_HERE".into()),
                "NO_SUCH_VARIABLE_HERE",
            ),
            (SecretSource::File("/no/such/file".into()), "/no/such/file"),
        ] {
            let error = source.fetch().await.unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("abc".into())), "Secret(…)");
        assert!(Secret::new("abc".into()).matches("abc"));
        assert!(!Secret::new("abc".into()).matches("abd"));
    }
}
