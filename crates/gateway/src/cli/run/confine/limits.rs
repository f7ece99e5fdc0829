//! What the process gives up for good: files by Landlock, system calls by seccomp, capabilities.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::fs::ResolveFlags;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities,
    capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use proof::record::Barrier;

use super::root::{is_folder, place, unlinked};
use super::{DEVICES, Lack, Report, Spec};

/// The newest Landlock whose rights were looked at one by one.
const KNOWN: ABI = ABI::V9;

/// Gives up what can be given up, and says of each part whether it holds.
pub(super) fn apply(spec: &Spec, port: u16, report: &mut Report) {
    files(spec, port, report);
    report.tell(Barrier::Privileges, privileges(spec.namespaces));
    report.tell(Barrier::SystemCalls, system_calls(spec.namespaces));
}

fn files(spec: &Spec, port: u16, report: &mut Report) {
    let (files, signals) = match landlock(spec, port) {
        Ok(abi) if abi >= ABI::V6 => (Ok(()), Ok(())),
        Ok(_) => {
            let why = "the kernel's Landlock cannot hold signals back (Linux 6.12 and later)";
            (Ok(()), Err(why.to_owned()))
        }
        Err(error) => {
            let why = format!("the kernel's Landlock is missing, off or too old ({error})");
            (Err(why.clone()), Err(why))
        }
    };
    report.tell(Barrier::Files, files);
    report.tell(Barrier::Signals, signals);
}

/// What of it is enforced: that of Linux 6.2, or nothing; and what is newer, where it is there.
fn landlock(spec: &Spec, port: u16) -> Result<ABI, Box<dyn std::error::Error>> {
    let (all, read) = (AccessFs::from_all(KNOWN), AccessFs::from_read(KNOWN));
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V3))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::from_all(ABI::V6))?;
    if !spec.namespaces {
        ruleset = ruleset.handle_access(AccessNet::from_all(ABI::V4))?;
    }
    let mut rules = ruleset.create()?;
    if !spec.namespaces {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    let mut allow = |place: OwnedFd, access: BitFlags<AccessFs>| {
        let access = match is_folder(&place)? {
            true => access,
            false => access & AccessFs::from_file(KNOWN),
        };
        let rule = PathBeneath::new(place, access);
        (&mut rules).add_rule(rule).map(|_| ())?;
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    for grant in &spec.grants {
        allow(unlinked(&grant.path)?, if grant.write { all } else { read })?;
    }
    let own = |path: &str| place(Path::new(path), ResolveFlags::empty());
    allow(own("/proc")?, read)?;
    for device in DEVICES {
        allow(own(device)?, AccessFs::ReadFile | AccessFs::WriteFile)?;
    }
    if spec.namespaces {
        for folder in ["/tmp", "/dev/shm", "/dev/pts"] {
            allow(own(folder)?, all)?;
        }
    }
    let status = rules.restrict_self()?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Err("it is not enforced".into()),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(effective_abi),
        _ => Err("it is not there".into()),
    }
}

/// No capability, now or later.
fn privileges(namespaces: bool) -> Result<(), String> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    let dropped = || {
        rustix::thread::set_no_new_privs(true)?;
        clear_ambient_capability_set()?;
        let may = capabilities(None)?
            .effective
            .contains(CapabilitySet::SETPCAP);
        if may {
            for one in (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
                // The kernel refuses to speak of those that it does not know.
                if capability_is_in_bounding_set(one).unwrap_or(false) {
                    remove_capability_from_bounding_set(one)?;
                }
            }
            set_capabilities_secure_bits(
                CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED,
            )?;
        }
        set_capabilities(None, none)
    };
    dropped().map_err(|error| format!("capabilities cannot be given up: {error}"))?;
    match namespaces {
        true => Ok(()),
        false => Err("the command may make user namespaces of its own".to_owned()),
    }
}

/// Keys of the kernel's keyrings are nobody's files; the last three are for those who look into
/// the kernel or at other programs; `io_uring` makes calls that no filter sees.
const FORBIDDEN: [i64; 7] = [
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_io_uring_setup,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
];

/// Families of sockets of which each network namespace has its own. `AF_VSOCK`, which leads to a
/// virtual machine's host, has none before Linux 7.0.
const FAMILIES: [i32; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

fn system_calls(namespaces: bool) -> Result<(), String> {
    let is = |argument, operator, value: i64| {
        let value = u64::from_ne_bytes(value.to_ne_bytes());
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
    };
    let built = || {
        // What a terminal is made to believe was typed, runs in the shell afterwards.
        let typing = [libc::TIOCSTI, libc::TIOCLINUX].map(|request| {
            let request = i64::from_ne_bytes(request.to_ne_bytes());
            SeccompRule::new(vec![is(1, SeccompCmpOp::Eq, request)?])
        });
        let typing = typing.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut denied = rules(libc::SYS_ioctl, typing);
        for call in FORBIDDEN {
            denied.extend(rules(call, Vec::new()));
        }
        let foreign = FAMILIES.map(|family| is(0, SeccompCmpOp::Ne, family.into()));
        let foreign = foreign.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut sockets = vec![
            SeccompRule::new(foreign)?,
            SeccompRule::new(vec![
                is(0, SeccompCmpOp::Eq, libc::AF_NETLINK.into())?,
                is(2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE.into())?,
            ])?,
        ];
        if !namespaces {
            let unix = is(0, SeccompCmpOp::Eq, libc::AF_UNIX.into())?;
            sockets.push(SeccompRule::new(vec![unix])?);
            for family in [libc::AF_INET, libc::AF_INET6] {
                for kind in [2, 3, 4, 5, 6, 10] {
                    sockets.push(SeccompRule::new(vec![
                        is(0, SeccompCmpOp::Eq, family.into())?,
                        is(1, SeccompCmpOp::MaskedEq(0xf), kind)?,
                    ])?);
                }
                sockets.push(SeccompRule::new(vec![
                    is(0, SeccompCmpOp::Eq, family.into())?,
                    is(2, SeccompCmpOp::Ne, 0)?,
                    is(2, SeccompCmpOp::Ne, libc::IPPROTO_TCP.into())?,
                ])?);
            }
        }
        let sockets = rules(libc::SYS_socket, sockets);
        let arch = std::env::consts::ARCH.try_into()?;
        for (rules, answer) in [(denied, libc::EPERM), (sockets, libc::EAFNOSUPPORT)] {
            let answer = SeccompAction::Errno(answer.unsigned_abs());
            let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch)?;
            let program: seccompiler::BpfProgram = filter.try_into()?;
            seccompiler::apply_filter(&program)?;
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    built().map_err(|error| format!("system calls cannot be filtered: {error}"))
}

/// Rules for a call under each of its numbers.
fn rules(call: i64, rules: Vec<SeccompRule>) -> BTreeMap<i64, Vec<SeccompRule>> {
    let mut numbers = vec![call];
    if cfg!(target_arch = "x86_64") {
        // The same call of the x32 ABI, which counts as this architecture.
        let other = if call == libc::SYS_ioctl { 514 } else { call };
        numbers.push(other | 0x4000_0000);
    }
    let rules = numbers.into_iter().map(|number| (number, rules.clone()));
    rules.collect()
}

impl Report {
    pub(super) fn tell(&mut self, barrier: Barrier, holds: Result<(), String>) {
        match holds {
            Ok(()) => self.holds.push(barrier),
            Err(why) => self.lacks.push(Lack { barrier, why }),
        }
    }
}
