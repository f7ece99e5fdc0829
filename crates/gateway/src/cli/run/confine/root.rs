//! A root folder of the command's own, in which there is only what was granted.
//!
//! What is not there cannot be opened, asked about or, if it is a socket, connected to: Landlock
//! says nothing about sockets with a path before its ABI 9, nor about `chmod`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::{DEVICES, Grant, Spec};

/// Where the machine's own root is while this one is built.
const OLD: &str = "/.old";

/// What each mount of ours has.
const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Builds the root and moves this process there. It must be the first process of its namespace of
/// processes, and have the capabilities to mount.
///
/// # Errors
/// A sentence that says which step the kernel refused.
pub(super) fn build(spec: &Spec) -> Result<(), String> {
    let new = spec.folder.join("root");
    let mut grants: Vec<&Grant> = spec.grants.iter().collect();
    // What lies within another comes after it.
    grants.sort_by_key(|grant| grant.path.components().count());
    let at = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .map_err(|error| at("mounts cannot be separated")(error.into()))?;
    // Opened once: what a link has taken the place of since it was granted is not shown.
    let cannot_show =
        |path: &Path, error: io::Error| format!("{} cannot be shown: {error}", path.display());
    let tmp = spec.folder.join("private/tmp");
    let tmp = unlinked(&tmp).map_err(|error| cannot_show(&tmp, error.into()))?;
    let opened = grants.into_iter().map(|grant| {
        let place = unlinked(&grant.path);
        let place = place.map_err(|error| cannot_show(&grant.path, error.into()))?;
        Ok((grant, place))
    });
    let opened = opened.collect::<Result<Vec<_>, String>>()?;
    mount("tmpfs", &new, "tmpfs", PLAIN, c"mode=0755,size=64m")
        .map_err(|error| at("no root can be mounted")(error.into()))?;
    fs::create_dir(new.join(".old")).map_err(at("the root cannot be filled"))?;
    chdir(&new).map_err(|error| at("the root cannot be entered")(error.into()))?;
    pivot_root(".", ".old").map_err(|error| at("the root cannot be changed")(error.into()))?;
    chdir("/").map_err(|error| at("the root cannot be entered")(error.into()))?;

    for (place, target) in &spec.system_links {
        link(place, target).map_err(|error| format!("{}: {error}", place.display()))?;
    }
    bind(&tmp, Path::new("/tmp")).map_err(at("/tmp"))?;
    for (grant, place) in &opened {
        bind(place, &grant.path).map_err(|error| cannot_show(&grant.path, error))?;
    }
    drop((tmp, opened));
    for (place, target) in &spec.links {
        link(place, target).map_err(|error| format!("{}: {error}", place.display()))?;
    }
    devices().map_err(at("/dev cannot be filled"))?;
    processes().map_err(at(
        "the kernel gives no /proc (some containers forbid it: run outside, or allow it there)",
    ))?;
    unmount(OLD, UnmountFlags::DETACH)
        .map_err(|error| at("the old root does not go")(error.into()))?;
    fs::remove_dir(OLD).map_err(at("the old root does not go"))?;
    read_only(spec).map_err(at("what is to be read only cannot be made so"))
}

/// Opens a place by a path on which there is no link.
///
/// # Errors
/// `LOOP` when there is one.
pub(super) fn unlinked(path: &Path) -> rustix::io::Result<OwnedFd> {
    place(path, ResolveFlags::NO_SYMLINKS)
}

/// Opens a place, neither to read nor to write.
pub(super) fn place(path: &Path, how: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        how,
    )
}

pub(super) fn is_folder(place: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(place)?.st_mode).is_dir())
}

/// Shows something of the old root at a place of the new one.
fn bind(from: &OwnedFd, to: &Path) -> io::Result<()> {
    if is_folder(from)? {
        fs::create_dir_all(to)?;
    } else {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        if !to.exists() {
            File::create_new(to)?;
        }
    }
    let to = unlinked(to)?;
    let [from, to] = [from, &to].map(|place| format!("{OLD}/proc/self/fd/{}", place.as_raw_fd()));
    Ok(mount_bind_recursive(&from, &to)?)
}

/// A link, where nothing is.
fn link(place: &Path, target: &Path) -> io::Result<()> {
    if fs::symlink_metadata(place).is_ok() {
        return Ok(());
    }
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    symlink(target, place)
}

fn devices() -> io::Result<()> {
    fs::create_dir_all("/dev/pts")?;
    fs::create_dir_all("/dev/shm")?;
    for device in DEVICES {
        let from = PathBuf::from(format!("{OLD}{device}"));
        bind(&place(&from, ResolveFlags::empty())?, Path::new(device))?;
    }
    let flags = PLAIN | MountFlags::NOEXEC;
    mount("tmpfs", "/dev/shm", "tmpfs", flags, c"mode=1777")?;
    let terminals = c"newinstance,ptmxmode=0666,mode=620";
    mount(
        "devpts",
        "/dev/pts",
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        terminals,
    )?;
    for (place, target) in [
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, place)?;
    }
    Ok(())
}

/// `/proc` of this namespace. While the old one is still there: the kernel gives a new one only
/// to who sees all of another.
fn processes() -> io::Result<()> {
    let flags = PLAIN | MountFlags::NOEXEC;
    fs::create_dir("/proc")?;
    mount("proc", "/proc", "proc", flags, None)?;
    // Within a user namespace of its own, the command would have capabilities again.
    fs::write("/proc/sys/user/max_user_namespaces", "0")?;
    // Root's own user may write settings of the kernel there, with or without capabilities.
    let flags = flags | MountFlags::BIND | MountFlags::RDONLY;
    Ok(mount_remount("/proc", flags, c"")?)
}

/// Makes every mount read only that is not within what may be written.
fn read_only(spec: &Spec) -> io::Result<()> {
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let mut fields = line.split(' ');
        let (place, options) = (fields.nth(4).unwrap_or("/"), fields.next().unwrap_or(""));
        let place = unescaped(place);
        if place != Path::new("/proc") && !spec.may_write(&place) {
            // Flags that are locked must be named again.
            let mut flags = MountFlags::BIND | MountFlags::RDONLY;
            for option in options.split(',') {
                flags |= match option {
                    "nosuid" => MountFlags::NOSUID,
                    "nodev" => MountFlags::NODEV,
                    "noexec" => MountFlags::NOEXEC,
                    _ => MountFlags::empty(),
                };
            }
            mount_remount(&place, flags, c"")?;
        }
    }
    Ok(())
}

/// A path as `mountinfo` writes it: blanks and the like as a backslash and three octal digits.
fn unescaped(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal.filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir(folder.join("there")).unwrap();
        fs::write(folder.join("there/file"), "x").unwrap();
        symlink("there", folder.join("link")).unwrap();
        symlink("there/file", folder.join("last")).unwrap();
        for (path, opens) in [
            ("there", true),
            ("there/file", true),
            ("there/../there/file", true),
            ("link", false),
            ("link/file", false),
            ("last", false),
        ] {
            let opened = unlinked(&folder.join(path)).map(drop);
            let wanted = if opens {
                Ok(())
            } else {
                Err(rustix::io::Errno::LOOP)
            };
            assert_eq!(opened, wanted, "{path}");
        }
    }

    #[test]
    fn places_are_read_as_the_kernel_writes_them() {
        for (text, path) in [
            ("/a", "/a"),
            (r"/a\040b", "/a b"),
            (r"/a\134\011", "/a\\\t"),
            (r"/a\9", r"/a\9"),
        ] {
            assert_eq!(unescaped(text), Path::new(path));
        }
    }
}
