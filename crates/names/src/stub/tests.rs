//! What a static program makes of the machine's files and of a name server.

use super::*;
use crate::testing::Data::{Address, Alias};
use crate::testing::{A, AAAA, Asked, CUT, FAILED, GOOD, NO_SUCH_NAME, Server};

/// A machine whose files lie in a folder.
struct Machine {
    folder: tempfile::TempDir,
    stub: Stub,
}

impl Machine {
    fn new(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let stub = Stub {
            resolv_conf: file("resolv.conf"),
            hosts: file("hosts"),
            port: Some(port),
        };
        let machine = Self { folder, stub };
        machine.write(
            "resolv.conf",
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        );
        machine
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).unwrap();
    }

    /// The addresses in no order, or the error.
    async fn look_up(&self, name: &str) -> Result<Vec<String>, (io::ErrorKind, String)> {
        match self.stub.look_up(name).await {
            Ok(found) => {
                let mut found: Vec<_> = found.iter().map(ToString::to_string).collect();
                found.sort();
                Ok(found)
            }
            Err(error) => Err((error.kind(), error.to_string())),
        }
    }

    async fn finds(&self, name: &str, addresses: &[&str]) {
        let found = self.look_up(name).await;
        assert_eq!(
            found.as_deref().map_err(|error| &error.1),
            Ok(addresses
                .iter()
                .map(|ip| (*ip).to_owned())
                .collect::<Vec<_>>()
                .as_slice()),
            "{name}"
        );
    }

    async fn fails(&self, name: &str, kind: io::ErrorKind, why: &str) {
        let (found, said) = self.look_up(name).await.unwrap_err();
        assert!(found == kind && said.contains(why), "{name}: {said}");
    }
}

/// Knows a few names of `example`.
fn example(asked: &Asked) -> Vec<Vec<u8>> {
    let v4 = asked.kind == A;
    let one = |data| vec![asked.answer(GOOD, &[("", data)])];
    let nothing = || vec![asked.answer(GOOD, &[])];
    assert!(v4 || asked.kind == AAAA, "{}", asked.kind);
    match asked.name.to_lowercase().as_str() {
        "both.example" if v4 => one(Address("192.0.2.1")),
        "both.example" => one(Address("2001:db8::1")),
        "old.example" | "db.a.example" if v4 => one(Address("192.0.2.2")),
        "new.example" if !v4 => one(Address("2001:db8::2")),
        "old.example" | "new.example" | "none.example" | "db.a.example" => nothing(),
        "alias.example" if v4 => vec![asked.answer(
            GOOD,
            &[
                ("", Alias("further.example")),
                ("further.example", Address("192.0.2.3")),
            ],
        )],
        "alias.example" => vec![asked.answer(GOOD, &[("", Alias("further.example"))])],
        "long.example" if !v4 => nothing(),
        "long.example" if asked.over_tcp => {
            let many: Vec<_> = ["192.0.2.4", "192.0.2.5"]
                .map(|ip| ("", Address(ip)))
                .into();
            vec![asked.answer(GOOD, &many)]
        }
        "long.example" => vec![asked.answer(CUT, &[("", Address("192.0.2.4"))])],
        "guessed.example" if v4 => {
            let right = asked.answer(GOOD, &[("", Address("192.0.2.6"))]);
            let mut guessed = asked.answer(GOOD, &[("", Address("192.0.2.66"))]);
            guessed[0] ^= 0xff;
            let mut another = asked.answer(GOOD, &[("", Address("192.0.2.66"))]);
            another[13] = b'x';
            vec![b"nonsense".to_vec(), guessed, another, right]
        }
        "guessed.example" => nothing(),
        "half.example" if v4 => one(Address("192.0.2.7")),
        "hidden.example" | "hidden.b.example" if !v4 => nothing(),
        "half.example" | "silent.example" | "hidden.example" | "hidden.b.example" => Vec::new(),
        "broken.example" => {
            let mut broken = asked.answer(GOOD, &[("", Address("192.0.2.8"))]);
            broken.truncate(broken.len() - 1);
            vec![broken]
        }
        "failing.example" => vec![asked.answer(FAILED, &[])],
        name if name.ends_with(".failing.example") => vec![asked.answer(FAILED, &[])],
        name if name.ends_with(".silent.example") => Vec::new(),
        _ => vec![asked.answer(NO_SUCH_NAME, &[])],
    }
}

#[tokio::test]
async fn names_lead_where_the_server_says() {
    let machine = Machine::new(Server::start(example).await.port);
    for (name, addresses) in [
        ("both.example", &["192.0.2.1", "2001:db8::1"][..]),
        ("Both.Example.", &["192.0.2.1", "2001:db8::1"]),
        ("old.example", &["192.0.2.2"]),
        ("new.example", &["2001:db8::2"]),
        ("alias.example", &["192.0.2.3"]),
        ("long.example", &["192.0.2.4", "192.0.2.5"]),
        ("guessed.example", &["192.0.2.6"]),
        ("half.example", &["192.0.2.7"]),
    ] {
        machine.finds(name, addresses).await;
    }
    use io::ErrorKind::{InvalidInput, NotFound, Other};
    for (name, kind, why) in [
        (
            "none.example",
            NotFound,
            "no host has the name `none.example`",
        ),
        (
            "absent.example",
            NotFound,
            "no host has the name `absent.example`",
        ),
        (
            "silent.example",
            Other,
            "`silent.example`: the name server 127.0.0.1:",
        ),
        ("silent.example", Other, "timed out"),
        ("hidden.example", Other, "timed out"),
        ("failing.example", Other, "Server Failure"),
        ("broken.example", Other, "cannot look up `broken.example`"),
        ("no name", InvalidInput, "`no name` is no host's name"),
        ("", InvalidInput, "`` is no host's name"),
    ] {
        machine.fails(name, kind, why).await;
    }
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_does_not_know() {
    let silent = Server::start(|_| Vec::new()).await;
    let port = silent.port;
    let fails = |asked: &Asked| vec![asked.answer(FAILED, &[])];
    let failing = Server::start_at("127.0.0.2", port, fails).await.unwrap();
    let good = Server::start_at("127.0.0.3", port, example).await.unwrap();
    let machine = Machine::new(port);
    // Nobody listens at the fourth.
    for first in ["127.0.0.1", "127.0.0.2", "127.0.0.4"] {
        let servers = format!("nameserver {first}\nnameserver 127.0.0.3\noptions timeout:1");
        machine.write("resolv.conf", &servers);
        machine.finds("old.example", &["192.0.2.2"]).await;
    }
    for server in [silent, failing, good] {
        assert_eq!(server.asked(), ["old.example"]);
    }
    // One that knows that there is no such name knows it for all.
    machine.write("resolv.conf", "nameserver 127.0.0.3\nnameserver 127.0.0.1");
    machine
        .fails("absent.example", io::ErrorKind::NotFound, "no host")
        .await;
}

#[tokio::test]
async fn names_that_are_not_full_are_searched_for() {
    let server = Server::start(example).await;
    let machine = Machine::new(server.port);
    let search = |list: &str| {
        let text = format!("nameserver 127.0.0.1\nsearch {list}\noptions timeout:1 attempts:1");
        machine.write("resolv.conf", &text);
    };
    search("b.example failing.example a.example");
    machine.finds("db", &["192.0.2.2"]).await;
    assert_eq!(
        server.asked(),
        ["db.b.example", "db.failing.example", "db.a.example"]
    );
    // What is said in full is asked for as it is, and only so with a dot at its end.
    machine.finds("old.example", &["192.0.2.2"]).await;
    machine.fails("db.", io::ErrorKind::NotFound, "`db.`").await;
    assert_eq!(server.asked(), ["old.example", "db"]);
    // Who does not answer might have known it: the next one would be another host.
    search("silent.example a.example");
    machine.fails("db", io::ErrorKind::Other, "timed out").await;
    assert_eq!(server.asked(), ["db.silent.example"]);
    // Of one family it said that there is none; of the other one nobody knows.
    search("b.example a.example");
    machine
        .fails("hidden", io::ErrorKind::Other, "timed out")
        .await;
    assert_eq!(server.asked(), ["hidden.b.example"]);
}

#[tokio::test]
async fn nobody_is_asked_for_what_the_machine_knows() {
    let server = Server::start(|_| panic!("asked")).await;
    let machine = Machine::new(server.port);
    for own in ["localhost", "LOCALHOST.", "api.localhost"] {
        machine.finds(own, &["127.0.0.1", "::1"]).await;
    }
    machine.write("hosts", "127.0.0.1 localhost\n192.0.2.1 db.example db\n");
    machine.finds("localhost", &["127.0.0.1"]).await;
    machine.finds("db", &["192.0.2.1"]).await;
    // A change is seen.
    machine.write("hosts", "192.0.2.9 db\n2001:db8::9 db\n");
    machine.finds("db", &["192.0.2.9", "2001:db8::9"]).await;
    assert!(server.asked().is_empty());
    fs::create_dir(machine.folder.path().join("folder")).unwrap();
    let stub = Stub {
        hosts: machine.folder.path().join("folder"),
        ..machine.stub
    };
    let error = stub.look_up("db").await.unwrap_err().to_string();
    assert!(error.starts_with("cannot read `"), "{error}");
}

#[tokio::test]
async fn another_resolv_conf_is_seen() {
    let server = Server::start(example).await;
    let machine = Machine::new(server.port);
    machine.write("resolv.conf", "nameserver 127.0.0.4\noptions attempts:1");
    let (_, said) = machine.look_up("old.example").await.unwrap_err();
    assert!(said.contains("127.0.0.4"), "{said}");
    // Without one, this machine's own server is asked.
    fs::remove_file(machine.folder.path().join("resolv.conf")).unwrap();
    machine.finds("old.example", &["192.0.2.2"]).await;
}
