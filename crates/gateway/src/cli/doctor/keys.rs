//! The gateway's own keys: are they there, are they the right ones, do they sign?

use super::super::failure::chain;
use super::Report;
use super::local::open_to_others;
use crate::config::{Config, FileKind, KeyPlace};
use crate::keys::Keys;
use crate::upstream::http_client;

/// Opens each key, and has those that are elsewhere sign something of no meaning. What comes back
/// are the keys, when all can be used.
pub(super) async fn sign(config: &Config, offline: bool, report: &mut Report) -> Option<Keys> {
    let folder = config.keys_dir();
    for folder in [&config.data_dir, &folder, &config.bundles_dir()] {
        if open_to_others(folder) {
            report.warn(
                "keys",
                format!("others can look into `{}`", folder.display()),
                format!("chmod 700 {}", folder.display()),
            );
        }
    }
    let elsewhere: Vec<_> = config
        .keys
        .roles()
        .into_iter()
        .filter_map(|(role, place)| Some((role, kind(place?)?)))
        .collect();
    if offline && !elsewhere.is_empty() {
        let roles: Vec<&str> = elsewhere.iter().map(|(role, _)| *role).collect();
        report.warn(
            "keys",
            format!("not asked: the keys of {} are elsewhere", roles.join(", ")),
            "leave out --offline to have them sign",
        );
        return None;
    }
    let http = match http_client(config) {
        Ok(http) => http,
        Err(error) => {
            let next = "correct terraform_cloud.ca_file";
            report.problem("keys", format!("{error:#}"), next);
            return None;
        }
    };
    let keys = match Keys::open(config, &http).await {
        Ok(keys) => keys,
        Err(error) => {
            report.problem(
                "keys",
                chain(&error),
                "chmod 600 the key files; a lost key comes from the backup, or from `clawgate \
                 init` for a new set-up; docs/operations.md says what signers elsewhere need",
            );
            return None;
        }
    };
    let files = config.keys.files();
    let sealed = |wanted: FileKind| files.iter().filter(|(_, kind)| *kind == wanted).count();
    for (count, how) in [
        (sealed(FileKind::File), "as they are"),
        (sealed(FileKind::Age), "sealed"),
    ] {
        if count > 0 {
            let place = folder.display();
            report.ok(
                "keys",
                format!("{count} keys in `{place}`, mode 0600, {how}"),
            );
        }
    }
    for (role, kind) in elsewhere {
        report.ok("keys", format!("the {role} key signs ({kind})"));
    }
    Some(keys)
}

/// The name of a place elsewhere.
const fn kind(place: &KeyPlace) -> Option<&'static str> {
    match place {
        KeyPlace::File(_) | KeyPlace::Age(_) => None,
        KeyPlace::Pkcs11(_) => Some("PKCS#11"),
        KeyPlace::AwsKms(_) => Some("AWS KMS"),
        KeyPlace::Vault(_) => Some("Vault"),
    }
}
