//! A contract in a file, read as the gateway will read it.

use std::path::Path;

use policy::Contract;
use policy::contract::ContractError;

use super::{Failure, term};

/// Largest contract that is read; the example has 700 bytes.
const MAX_BYTES: usize = 1 << 20;

/// What a file holds.
pub(super) enum ContractFile {
    /// A contract.
    Sound(Box<Contract>),
    /// Something else, and everything that is wrong with it.
    Unsound(Vec<ContractError>),
}

/// Reads a file.
///
/// # Errors
/// When it cannot be read at all.
pub(super) fn read(file: &Path) -> Result<ContractFile, Failure> {
    let bytes = std::fs::read(file)
        .map_err(|error| Failure::usage(format!("cannot read `{}`: {error}", file.display())))?;
    if bytes.len() > MAX_BYTES {
        return Err(Failure::new(format!(
            "`{}` is too large for a contract",
            file.display()
        )));
    }
    Ok(match Contract::parse(&bytes) {
        Ok(contract) => ContractFile::Sound(Box::new(contract)),
        Err(errors) => ContractFile::Unsound(errors.0),
    })
}

/// Reads a contract that must be sound.
///
/// # Errors
/// Also when it is not: with every reason.
pub(super) fn read_sound(file: &Path) -> Result<Contract, Failure> {
    match read(file)? {
        ContractFile::Sound(contract) => Ok(*contract),
        ContractFile::Unsound(errors) => {
            let errors: Vec<String> = errors
                .iter()
                .map(|error| format!("\n  {}", term::plain(&error.to_string())))
                .collect();
            Err(Failure::new(format!(
                "`{}` is not a contract:{}",
                file.display(),
                errors.concat()
            ))
            .next("correct it and run `clawgate policy lint`"))
        }
    }
}
