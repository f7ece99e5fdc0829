//! How a command fails: what went wrong, and what to do next.

use std::fmt;
use std::process::ExitCode;

use policy::ReasonCode;

use super::term;

/// A command that did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    message: String,
    next: Option<String>,
    code: Option<String>,
    usage: bool,
    lasting: bool,
}

impl Failure {
    /// Something went wrong: exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            next: None,
            code: None,
            usage: false,
            lasting: false,
        }
    }

    /// The command line asks for something that makes no sense: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            usage: true,
            ..Self::new(message)
        }
    }

    /// The same with exit code 2, for commands whose exit code 1 is an answer.
    #[must_use]
    pub fn into_usage(self) -> Self {
        Self {
            usage: true,
            ..self
        }
    }

    /// The gateway said no, with a reason code.
    pub fn refused(code: &str, message: impl Into<String>) -> Self {
        let advice = code
            .parse::<ReasonCode>()
            .ok()
            .map(|code| code.advice().to_owned());
        Self {
            code: Some(code.to_owned()),
            next: advice,
            ..Self::new(message)
        }
    }

    /// No time mends it: the same command fails in the same way again.
    #[must_use]
    pub fn lasting(self) -> Self {
        Self {
            lasting: true,
            ..self
        }
    }

    /// Says what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// The reason code, when the gateway gave one.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Prints it to standard error.
    pub fn print(&self) {
        let (bad, dim, off) = (term::BAD, term::DIM, term::OFF);
        let code = self
            .code
            .as_deref()
            .map(|code| format!(" [{code}]"))
            .unwrap_or_default();
        anstream::eprintln!("{bad}error{off}{code}: {}", self.message);
        if let Some(next) = &self.next {
            anstream::eprintln!("{dim} next{off}: {next}");
        }
    }

    /// 1, or 2 for a command line that makes no sense.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.usage { 2 } else { 1 })
    }

    /// Whether it is the command line that is wrong.
    pub fn is_usage(&self) -> bool {
        self.usage
    }

    /// Whether trying again is in vain.
    pub fn is_lasting(&self) -> bool {
        self.lasting || self.usage
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(next) = &self.next {
            write!(f, "; {next}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Every cause of an error in one line, outermost first, nothing said twice.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

macro_rules! from_error {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(chain(&error))
            }
        })*
    };
}

from_error!(
    crate::config::ConfigError,
    crate::keys::KeysError,
    crate::secret::SecretError,
    proof::EnvelopeError,
    store::StoreError,
);
