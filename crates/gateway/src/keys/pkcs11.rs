//! Keys in a module with the interface PKCS#11.
//!
//! A module's calls block, and may block for ever: a few threads of their own make them, each with
//! its own session. What waits longer than its caller is dropped.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use futures_util::future::BoxFuture;
use proof::keys::Signature;
use proof::{Did, PublicKey};
use tokio::sync::oneshot;

use super::remote::Place;
use crate::config::{NO_MODULES, Pkcs11Key};
use crate::secret::Secret;

/// Threads, and so sessions, of one key.
pub(super) const WORKERS: usize = 4;

/// Signatures that wait for a thread.
const QUEUE: usize = 64;

/// The modules of this process. A module is initialised once in a process and stays so: others may
/// use it until the end.
static MODULES: LazyLock<Mutex<HashMap<PathBuf, Arc<Module>>>> = LazyLock::new(Mutex::default);

/// A library, and what its tokens said to PINs.
struct Module {
    calls: Pkcs11,
    logins: Logins,
}

/// Logins to the tokens of one module, one at a time. A PIN that a token has refused is not tried
/// again, by no role and no thread: tokens lock themselves after a few.
#[derive(Default)]
struct Logins(Mutex<Vec<Refused>>);

/// A PIN that a token has refused.
struct Refused {
    token_label: String,
    pin: Secret,
}

impl Logins {
    /// Logs in, unless this PIN was refused before.
    fn log_in(
        &self,
        token_label: &str,
        pin: &Secret,
        log_in: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), String> {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_refused =
            |known: &Refused| known.token_label == token_label && known.pin.matches(pin.expose());
        if refused.iter().any(was_refused) {
            return Err(
                "the PIN was refused, and is not tried again: correct it and start \
                        the gateway anew"
                    .to_owned(),
            );
        }
        match log_in() {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(
                error @ (RvError::PinIncorrect | RvError::PinLocked | RvError::PinExpired),
                _,
            )) => {
                refused.push(Refused {
                    token_label: token_label.to_owned(),
                    pin: pin.clone(),
                });
                Err(format!("the PIN is refused: {error}"))
            }
            Err(error) => Err(format!("cannot log in: {error}")),
        }
    }
}

/// A key on a token.
pub struct Pkcs11Place {
    name: String,
    jobs: SyncSender<Job>,
}

struct Job {
    message: Vec<u8>,
    answer: oneshot::Sender<Result<Signature, String>>,
}

/// What is needed to log in and to find the key.
struct Token {
    module: Arc<Module>,
    settings: Pkcs11Key,
    pin: Secret,
}

impl Pkcs11Place {
    /// Logs in, finds the key, and reads its public half.
    pub(super) async fn connect(settings: &Pkcs11Key) -> Result<(Self, Did), String> {
        let pin = settings.pin.fetch_passphrase().await;
        let pin = pin.map_err(|error| format!("its PIN: {error}"))?;
        let settings = settings.clone();
        let (answer, opened) = oneshot::channel();
        // Not a task that blocks: the end of the process would wait for a module that hangs.
        std::thread::spawn(move || {
            let _ = answer.send(open(settings, pin));
        });
        opened.await.map_err(|_| "the module broke off")?
    }
}

fn open(settings: Pkcs11Key, pin: Secret) -> Result<(Pkcs11Place, Did), String> {
    let token = Token {
        module: module(&settings.module)?,
        settings,
        pin,
    };
    let (session, _) = token.open()?;
    let public = token.public(&session)?;
    let wanted = token.settings.did.clone();
    let did = public.or(wanted).ok_or(
        "the token has no public key beside the private one: give it one, or name the did",
    )?;
    let name = format!(
        "the key `{}` on the token `{}`",
        token.settings.key_label, token.settings.token_label
    );
    let (jobs, waiting) = sync_channel(QUEUE);
    let (token, waiting) = (Arc::new(token), Arc::new(Mutex::new(waiting)));
    for _ in 0..WORKERS {
        let (token, waiting) = (Arc::clone(&token), Arc::clone(&waiting));
        std::thread::Builder::new()
            .name("pkcs11".to_owned())
            .spawn(move || work(&token, &waiting))
            .map_err(|error| format!("no thread: {error}"))?;
    }
    Ok((Pkcs11Place { name, jobs }, did))
}

/// Signs what waits, until nobody can ask any more. A session that fails is opened anew once: a
/// token that was away for a moment has forgotten it.
fn work(token: &Token, waiting: &Mutex<Receiver<Job>>) {
    let mut opened = None;
    loop {
        let job = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(job) = job else { return };
        if job.answer.is_closed() {
            continue;
        }
        let known = opened.is_some();
        let mut signed = token.sign(&mut opened, &job.message);
        if signed.is_err() && known {
            signed = token.sign(&mut opened, &job.message);
        }
        let _ = job.answer.send(signed);
    }
}

impl Token {
    /// A session that is logged in, and the private key.
    fn open(&self) -> Result<(Session, ObjectHandle), String> {
        let label = &self.settings.token_label;
        let slots = self.module.calls.get_slots_with_token();
        let slots = slots.map_err(|error| format!("its tokens: {error}"))?;
        let mut found = slots.into_iter().filter(|slot| {
            let info = self.module.calls.get_token_info(*slot);
            info.is_ok_and(|info| info.label().trim_end() == label)
        });
        let (slot, none) = (found.next(), found.next().is_none());
        let Some(slot) = slot.filter(|_| none) else {
            return Err(format!("there must be one token with the label `{label}`"));
        };
        let session = self.module.calls.open_ro_session(slot);
        let session = session.map_err(|error| format!("no session: {error}"))?;
        let logins = &self.module.logins;
        logins.log_in(label, &self.pin, || {
            let pin = AuthPin::from(self.pin.expose().to_owned());
            session.login(UserType::User, Some(&pin))
        })?;
        let key = self.find(&session, ObjectClass::PRIVATE_KEY)?;
        let Some(key) = key else {
            let label = &self.settings.key_label;
            return Err(format!(
                "there must be one private Ed25519 key with the label `{label}`"
            ));
        };
        Ok((session, key))
    }

    /// The Ed25519 key of the label; `None` when there is none, or when there are several.
    fn find(&self, session: &Session, class: ObjectClass) -> Result<Option<ObjectHandle>, String> {
        let label = self.settings.key_label.clone().into_bytes();
        let found = session.find_objects(&[
            Attribute::Class(class),
            Attribute::KeyType(KeyType::EC_EDWARDS),
            Attribute::Label(label),
        ]);
        let found = found.map_err(|error| format!("its keys: {error}"))?;
        Ok(match found[..] {
            [one] => Some(one),
            _ => None,
        })
    }

    fn public(&self, session: &Session) -> Result<Option<Did>, String> {
        let Some(key) = self.find(session, ObjectClass::PUBLIC_KEY)? else {
            return Ok(None);
        };
        let attributes = session.get_attributes(key, &[AttributeType::EcPoint]);
        let attributes = attributes.map_err(|error| format!("its public key: {error}"))?;
        let point = attributes.iter().find_map(|attribute| match attribute {
            Attribute::EcPoint(point) => Some(point.as_slice()),
            _ => None,
        });
        // An OCTET STRING in DER, or, of some modules, the bytes themselves.
        let bytes = point.map(|point| point.strip_prefix(&[0x04, 0x20]).unwrap_or(point));
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        let key = bytes.and_then(|bytes| PublicKey::from_bytes(&bytes).ok());
        let key = key.ok_or("its public key is no Ed25519 key")?;
        Ok(Some(key.did()))
    }

    fn sign(
        &self,
        opened: &mut Option<(Session, ObjectHandle)>,
        message: &[u8],
    ) -> Result<Signature, String> {
        let (session, key) = match opened.take() {
            Some(known) => known,
            None => self.open()?,
        };
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
        let signed = session.sign(&mechanism, key, message);
        let bytes = signed.map_err(|error| error.to_string())?;
        *opened = Some((session, key));
        let bytes: Result<[u8; 64], _> = bytes.try_into();
        bytes
            .map(Signature::from_bytes)
            .map_err(|_| "what it answered is no Ed25519 signature".to_owned())
    }
}

fn module(path: &Path) -> Result<Arc<Module>, String> {
    // Not reached: such a configuration is not read. With it, nothing that loads is linked in.
    if names::STATIC {
        return Err(NO_MODULES.to_owned());
    }
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(path) {
        return Ok(Arc::clone(module));
    }
    let calls = Pkcs11::new(path)
        .map_err(|error| format!("cannot load the module `{}`: {error}", path.display()))?;
    let threads = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    match calls.initialize(threads) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(format!("the module does not start: {error}")),
    }
    let logins = Logins::default();
    let module = Arc::new(Module { calls, logins });
    modules.insert(path.to_owned(), Arc::clone(&module));
    Ok(module)
}

impl Place for Pkcs11Place {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, Result<Signature, String>> {
        Box::pin(async move {
            let (answer, signed) = oneshot::channel();
            let message = message.to_vec();
            let waits = self.jobs.try_send(Job { message, answer });
            waits.map_err(|_| "too many signatures wait for the module".to_owned())?;
            signed.await.map_err(|_| "the module broke off")?
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn a_refused_pin_is_tried_once_however_many_want_to() {
        let (logins, tried) = (Logins::default(), AtomicUsize::new(0));
        let wrong = Secret::new("4321".to_owned());
        let refuse = || {
            tried.fetch_add(1, Ordering::Relaxed);
            Err(Error::Pkcs11(RvError::PinIncorrect, Function::Login))
        };
        let together = Barrier::new(WORKERS);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    together.wait();
                    let said = logins.log_in("gateway", &wrong, refuse).unwrap_err();
                    assert!(said.contains("refused"), "{said}");
                });
            }
        });
        assert_eq!(tried.load(Ordering::Relaxed), 1);
        // Another token may have this PIN, and this token has another one.
        assert_eq!(logins.log_in("another", &wrong, || Ok(())), Ok(()));
        let right = Secret::new("1234".to_owned());
        assert_eq!(logins.log_in("gateway", &right, || Ok(())), Ok(()));
        // What is no word about the PIN is tried again.
        let away = || Err(Error::Pkcs11(RvError::TokenNotPresent, Function::Login));
        let said = logins.log_in("gateway", &right, away).unwrap_err();
        assert!(said.contains("cannot log in"), "{said}");
        assert_eq!(logins.log_in("gateway", &right, || Ok(())), Ok(()));
    }
}
