//! Namespaces of the command's own: users, network, processes, mounts, System V IPC.

use std::io;

use nix::sched::{CloneFlags, unshare};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};
use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
};

/// What the next program needs to build the root and to give the rest away.
const FOR_THE_ROOT: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::SETPCAP);

/// Moves this process into namespaces of its own, and its children into one of processes. The
/// user stays who it is; capabilities are those within the namespaces.
///
/// # Errors
/// A sentence that says which step the kernel refused.
pub(super) fn enter() -> Result<(), String> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    unshare(
        CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC,
    )
    .map_err(|error| format!("the kernel gives no namespaces: {error}{}", why_not()))?;
    let map = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| format!("the user cannot be mapped ({file}): {error}{}", why_not()))
    };
    map("setgroups", "deny".to_owned())?;
    map("uid_map", format!("{0} {0} 1", uid.as_raw()))?;
    map("gid_map", format!("{0} {0} 1", gid.as_raw()))?;
    raise_loopback().map_err(|error| format!("loopback cannot be raised: {error}{}", why_not()))?;
    keep_for_the_root().map_err(|error| format!("capabilities cannot be kept: {error}"))
}

/// The settings that forbid it, as far as they can be read.
fn why_not() -> String {
    let is = |file: &str, value: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/{file}"));
        text.is_ok_and(|text| text.trim() == value)
    };
    let settings = [
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user/max_user_namespaces", "0", "10000"),
    ];
    let found = settings.iter().find(|(file, value, _)| is(file, value));
    found.map_or(String::new(), |(file, value, better)| {
        let name = file.replace('/', ".");
        format!(" (`{name}` is {value}; an administrator may set it to {better})")
    })
}

/// Raises the interface `lo`, which is there in each network namespace, and down.
fn raise_loopback() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_WITH_ACKNOWLEDGEMENT: u16 = 1 | 4;
    const LO: i32 = 1;
    const IFF_UP: u32 = 1;
    // struct nlmsghdr and struct ifinfomsg (rtnetlink(7)), 16 bytes each.
    let mut message = Vec::with_capacity(32);
    message.extend(32u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_WITH_ACKNOWLEDGEMENT.to_ne_bytes());
    message.extend([0; 8 + 4]);
    message.extend(LO.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(&socket, &message, SendFlags::empty(), &kernel)?;
    let mut answer = [0; 128];
    let (read, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // A struct nlmsgerr follows the header: zero, or an error's number below zero.
    match answer.get(16..20).filter(|_| read >= 20) {
        Some(&[0, 0, 0, 0]) => Ok(()),
        Some(&[a, b, c, d]) => {
            let number = i32::from_ne_bytes([a, b, c, d]);
            Err(io::Error::from_raw_os_error(number.saturating_neg()))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A program that is executed by a user other than root has only ambient capabilities.
fn keep_for_the_root() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.inheritable |= FOR_THE_ROOT;
    set_capabilities(None, sets)?;
    for one in FOR_THE_ROOT.iter() {
        configure_capability_in_ambient_set(one, true)?;
    }
    Ok(())
}
