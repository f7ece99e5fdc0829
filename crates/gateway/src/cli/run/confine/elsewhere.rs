//! Where there is no Linux, nothing is confined, and `clawgate run --confine` says so.

use std::convert::Infallible;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use proof::record::Barrier;
use tokio::process::Child;

use super::super::Failure;
use super::Level;

pub(super) struct Lack {
    pub(super) barrier: Barrier,
    pub(super) why: String,
}

pub(super) struct Report {
    pub(super) holds: Vec<Barrier>,
    pub(super) lacks: Vec<Lack>,
}

pub(super) struct Wishes<'a> {
    pub(super) read: &'a [PathBuf],
    pub(super) write: &'a [PathBuf],
    pub(super) secrets: Vec<PathBuf>,
}

/// There is none.
pub(super) struct Confined {
    pub(super) report: Report,
    none: Infallible,
}

impl Confined {
    pub(super) fn prepare(_: Level, _: &Path, _: &Wishes<'_>) -> Result<Self, Failure> {
        Err(Failure::new("`--confine` needs Linux")
            .next("no job was opened; run it in a virtual machine or a container with Linux"))
    }

    pub(super) fn private(&self) -> PathBuf {
        match self.none {}
    }

    pub(super) fn listener(&mut self) -> Result<TcpListener, Failure> {
        match self.none {}
    }

    pub(super) fn begin(
        &mut self,
        _: &Path,
        _: &[OsString],
        _: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Child, Failure> {
        match self.none {}
    }

    pub(super) fn ended(&self, _: &Path, _: ExitStatus) -> Result<ExitStatus, Failure> {
        match self.none {}
    }
}
