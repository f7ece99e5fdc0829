//! A database server that is restarted without warning, and connections that are cut in commits.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use clawgate::secret::SecretSource;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::check;
use crate::story;
use crate::world::World;

#[path = "../../../store/tests/postgres/proxy.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the store, which use all of it"
)]
mod proxy;

use proxy::{Cut, Proxy};

/// A PostgreSQL of this test's own.
struct Server {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Server {
    /// Starts one; `None` where PostgreSQL is not installed, which in CI it must be.
    fn start() -> Option<Self> {
        let installed = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten();
        let programs = installed
            .map(|version| version.unwrap().path().join("bin"))
            .max();
        let Some(programs) = programs.filter(|bin| bin.join("initdb").exists()) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "PostgreSQL must be installed in CI"
            );
            println!("skipped: PostgreSQL is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let server = Self {
            folder,
            programs,
            port: free.port(),
        };
        if rustix::process::geteuid().is_root() {
            let mut chown = Command::new("chown");
            let given = chown
                .arg("postgres:postgres")
                .arg(server.folder.path())
                .status();
            assert!(given.unwrap().success());
        }
        let locale = ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
        server.run(
            "initdb",
            &[&["-U", "clawgate", "-A", "trust"][..], &locale].concat(),
        );
        server.control(&["start"]);
        Some(server)
    }

    fn address(&self) -> String {
        format!("postgres://clawgate:none@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends all of its processes where they stand, and starts it again: it recovers from its log.
    fn restart(&self) {
        self.control(&["-m", "immediate", "restart"]);
    }

    fn control(&self, words: &[&str]) {
        let sockets = self.folder.path().display();
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={sockets} -c fsync=off",
            self.port
        );
        let log = self.folder.path().join("log");
        let log = log.to_str().unwrap();
        self.run(
            "pg_ctl",
            &[words, &["-w", "-l", log, "-o", &options]].concat(),
        );
    }

    /// Runs one of its programs, which refuse to run as root.
    fn run(&self, program: &str, words: &[&str]) {
        let program = self.programs.join(program);
        let mut command = match rustix::process::geteuid().is_root() {
            true => {
                let mut command = Command::new("setpriv");
                let nobody = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];
                command.args(nobody).arg(&program);
                command
            }
            false => Command::new(&program),
        };
        let ran = command
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(words)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(ran.unwrap().success(), "{}", program.display());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.control(&["-m", "immediate", "stop"]);
        }
    }
}

/// What was answered is there, what was not may be asked for again, and nothing is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_and_connections_that_are_cut_lose_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    let address = server.address();
    let proxy = Proxy::start(&format!("127.0.0.1:{}", server.port));
    let by_proxy = proxy.instead_of(&address);
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("database.url");
    std::fs::write(&file, by_proxy).unwrap();
    let mut world = World::with(|config| config.store.url = Some(SecretSource::File(file))).await;
    world.outages = true;
    let world = world;
    let fails = async {
        let process = world.start_for_good().await;
        for turn in 0..9 {
            sleep(Duration::from_millis(300)).await;
            match turn % 3 {
                0 => proxy.arm(Cut::Commit),
                1 => proxy.arm(Cut::Answer),
                _ => tokio::task::block_in_place(|| server.restart()),
            }
        }
        process
    };
    let mut process = story::under_load(&world, 11, fails).await;
    check::at_the_end(&world, 9).await;
    world.kill(&mut process).await;
    check::store_is_sound(&world);
}
