//! What is said between `clawgate run` and the program that it confines, and how: JSON after its
//! length, with a descriptor where one belongs to it.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Report;

/// Longest message in bytes. An environment has 2 MiB at most, and JSON writes a byte as four.
const MOST: usize = 16 << 20;

/// What comes from inside.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// The socket on which the relay is asked; it comes with this.
    Listens,
    /// What holds from now on.
    Ready(Report),
    /// The command was not started.
    NotStarted(String),
    /// How the command ended, as `waitpid` says it.
    Ended(i32),
}

/// What is to be run; the descriptor that comes with it is the command's standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Go {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
}

pub(super) fn send(
    mut to: &UnixStream,
    message: &impl Serialize,
    with: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok();
    let Some(length) = length.filter(|_| body.len() <= MOST) else {
        return Err(io::Error::other("the environment is too large"));
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = with.as_slice();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let length = length.to_be_bytes();
    let flags = SendFlags::NOSIGNAL;
    let sent = rustix::net::sendmsg(to, &[IoSlice::new(&length)], &mut control, flags)?;
    to.write_all(&length[sent..])?;
    to.write_all(&body)
}

/// # Errors
/// `UnexpectedEof` when the other side is gone.
pub(super) fn receive<T: DeserializeOwned>(
    mut from: &UnixStream,
) -> io::Result<(T, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut length = [0; 4];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let into = &mut [IoSliceMut::new(&mut length)];
    let read = rustix::net::recvmsg(from.as_fd(), into, &mut control, flags)?.bytes;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    from.read_exact(&mut length[read..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((serde_json::from_slice(&body)?, descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_with_their_descriptor() {
        let (here, there) = UnixStream::pair().unwrap();
        send(&here, &Said::Ended(9), None).unwrap();
        send(&here, &Said::Listens, Some(here.as_fd())).unwrap();
        drop(here);
        let (said, with) = receive::<Said>(&there).unwrap();
        assert!(matches!(said, Said::Ended(9)) && with.is_none());
        let (said, with) = receive::<Said>(&there).unwrap();
        assert!(matches!(said, Said::Listens));
        // The descriptor is the other end, which lives as long as it.
        let again = UnixStream::from(with.unwrap());
        send(&again, &Said::NotStarted("x".to_owned()), None).unwrap();
        drop(again);
        assert!(matches!(
            receive::<Said>(&there).unwrap().0,
            Said::NotStarted(_)
        ));
        let gone = receive::<Said>(&there).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
    }
}
