//! A listener's certificate: read at the start, and again when its files are others than before.
//!
//! Each handshake looks at the files' marks, which costs two calls of the system; nothing is read
//! unless one has changed, and then once. What cannot be used is told in the log, and the
//! certificate from before stays.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::Tls;

/// Most bytes of a file that is read while the gateway runs; chains are a few KiB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What tells one state of a file from another: device, inode, length, and the time of the last
/// change in seconds and nanoseconds.
type Mark = (u64, u64, u64, i64, i64);

/// The certificate of a listener, as its files have it.
pub(super) struct Certificate {
    tls: Tls,
    provider: Arc<CryptoProvider>,
    present: Mutex<Present>,
}

struct Present {
    key: Arc<CertifiedKey>,
    /// Of the files that were read last, usable or not; `None` when one was not there.
    marks: Option<[Mark; 2]>,
}

impl Certificate {
    /// Reads it.
    ///
    /// # Errors
    /// When a file cannot be read, or the key is not the certificate's.
    pub(super) fn read(tls: &Tls, provider: Arc<CryptoProvider>) -> anyhow::Result<Self> {
        // Marks first: what is written meanwhile is another mark later.
        let marks = marks(tls);
        let key = certified(tls, &provider)?;
        Ok(Self {
            tls: tls.clone(),
            provider,
            present: Mutex::new(Present { key, marks }),
        })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let mut present = self.present.lock().expect("no panic while it is held");
        let marks = marks(&self.tls);
        if marks != present.marks {
            present.marks = marks;
            let file = self.tls.certificate_file.display();
            match bounded(marks).and_then(|()| certified(&self.tls, &self.provider)) {
                Ok(key) => {
                    present.key = key;
                    tracing::info!(%file, "a new certificate from now on");
                }
                Err(error) => tracing::warn!(
                    %file,
                    error = format!("{error:#}"),
                    "the new certificate cannot be used; the one from before stays"
                ),
            }
        }
        Arc::clone(&present.key)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

fn marks(tls: &Tls) -> Option<[Mark; 2]> {
    let mark = |file: &Path| {
        let data = std::fs::metadata(file).ok().filter(|data| data.is_file())?;
        Some((
            data.dev(),
            data.ino(),
            data.len(),
            data.mtime(),
            data.mtime_nsec(),
        ))
    };
    Some([mark(&tls.certificate_file)?, mark(&tls.key_file)?])
}

fn bounded(marks: Option<[Mark; 2]>) -> anyhow::Result<()> {
    let marks = marks.context("the certificate's or the key's file is missing")?;
    ensure!(
        marks.iter().all(|(_, _, len, ..)| *len <= MAX_FILE_BYTES),
        "a file is larger than {MAX_FILE_BYTES} bytes"
    );
    Ok(())
}

fn certified(tls: &Tls, provider: &CryptoProvider) -> anyhow::Result<Arc<CertifiedKey>> {
    let chain = CertificateDer::pem_file_iter(&tls.certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read `{}`", tls.certificate_file.display()))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key_file)
        .with_context(|| format!("cannot read `{}`", tls.key_file.display()))?;
    let certified = CertifiedKey::from_der(chain, key, provider)
        .context("the certificate and its key do not fit")?;
    Ok(Arc::new(certified))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    /// Writes a file as if at that second: the clock of a file system is too coarse for a test.
    fn write(file: &Path, text: &str, second: u64) {
        std::fs::write(file, text).unwrap();
        let opened = std::fs::File::options().write(true).open(file).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        opened.set_modified(time).unwrap();
    }

    #[test]
    fn new_files_are_read_and_unusable_ones_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let tls = Tls {
            certificate_file: folder.path().join("tls.crt"),
            key_file: folder.path().join("tls.key"),
        };
        let made = [(); 3].map(|()| rcgen::generate_simple_self_signed(vec![]).unwrap());
        let [first, second, third] = made.each_ref().map(|made| {
            let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
            (chain, key, made.cert.der().clone())
        });
        write(&tls.certificate_file, &first.0, 1);
        write(&tls.key_file, &first.1, 1);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = Certificate::read(&tls, provider).unwrap();
        let shown = || certificate.current().cert[0].clone();
        assert_eq!(shown(), first.2);

        // One file after the other, as programs that renew write them.
        write(&tls.certificate_file, &second.0, 2);
        assert_eq!(shown(), first.2, "its key is not there yet");
        write(&tls.key_file, &second.1, 2);
        assert_eq!(shown(), second.2);

        write(&tls.certificate_file, "nothing", 3);
        assert_eq!(shown(), second.2);
        write(
            &tls.certificate_file,
            &third.0.repeat(MAX_FILE_BYTES as usize / third.0.len() + 1),
            4,
        );
        write(&tls.key_file, &third.1, 4);
        assert_eq!(shown(), second.2, "too large");
        std::fs::remove_file(&tls.certificate_file).unwrap();
        assert_eq!(shown(), second.2);
        write(&tls.certificate_file, &third.0, 5);
        assert_eq!(shown(), third.2);
    }
}
