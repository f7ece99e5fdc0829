//! Keys that are sealed under a passphrase.

use clawgate::keys::{IDENTITY, Keys, seal_all};
use clawgate::secret::Secret;
use clawgate::upstream::http_client;

use super::config;

#[tokio::test]
async fn keys_that_were_sealed_are_the_same_keys_under_their_passphrase_only() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let passphrase = folder.join("passphrase");
    std::fs::write(&passphrase, "correct horse battery staple\n").unwrap();
    let plain = config(folder, "");
    let (keys_dir, http) = (plain.keys_dir(), http_client(&plain).unwrap());
    let before = Keys::open(&plain, &http).await.unwrap().roles();

    let secret = Secret::new("correct horse battery staple".to_owned());
    let identity = keys_dir.join(IDENTITY);
    assert_eq!(seal_all(&keys_dir, &identity, &secret).unwrap(), 5);
    assert_eq!(seal_all(&keys_dir, &identity, &secret).unwrap(), 0);
    let left = std::fs::read_dir(&keys_dir).unwrap();
    let names: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    // The root of the key sets is for its owner to take away, and signs nothing here.
    let of_the_root = |name: &std::ffi::OsString| name == "keyset.key";
    let sealed = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".age");
    assert!(
        names.iter().all(|name| sealed(name) || of_the_root(name)),
        "{names:?}"
    );
    let says = Keys::open(&plain, &http).await.unwrap_err().to_string();
    assert!(says.contains("receipt.key`"), "{says}");

    let file = passphrase.display();
    let sealed = format!("[keys]\nkind = \"age\"\npassphrase = {{ file = \"{file}\" }}");
    // Plain files that lie there again are not what is used.
    let sealed = config(folder, &sealed);
    let keys = Keys::open(&sealed, &http).await.unwrap();
    assert_eq!(keys.roles(), before);

    std::fs::write(&passphrase, "correct horse battery stable").unwrap();
    let says = Keys::open(&sealed, &http).await.unwrap_err().to_string();
    assert!(says.contains("it is wrong"), "{says}");
    let mut unsaid = sealed.clone();
    unsaid.keys.passphrase = None;
    let says = Keys::open(&unsaid, &http).await.unwrap_err().to_string();
    assert!(says.contains("--key-passphrase-file"), "{says}");
}
