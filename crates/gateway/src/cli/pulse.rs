//! `clawgate pulse`: sealed jobs for people who have no access to the gateway.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use proof::Hash;
use proof::record::JobId;
use serde_json::{Value, json};

use super::client::job_id;
use super::term::{self, BOLD, DIM, OFF};
use super::{Failure, Remote};
use crate::operator::published::LIFETIMES;
use crate::trust_pulse::published::{MAX_CARRIED_BYTES, PublishedFile, folder};

/// Publishes sealed jobs for reviewers outside.
#[derive(Debug, Subcommand)]
pub(super) enum Pulse {
    /// Publishes a sealed job: as a folder, by a link, or both
    #[command(after_help = "\
Examples:
  clawgate pulse publish job_0198… --out job            a folder; open job/index.html
  clawgate pulse publish job_0198… --link --expires 7d  a link that ends by itself
  clawgate pulse publish --bundle bundle.json --out job
                                  a folder by this program, whoever gave you the bundle

Both show what the job's bundle holds, and let the reader check it in a browser. A folder needs no
server: put it into an archive or an object store. There are no keys in it; `clawgate trust export`
writes them, and they reach the reader by another way. To have it on paper, print the page.")]
    Publish {
        /// The job; it must be closed
        #[arg(value_parser = job_id, required_unless_present = "bundle")]
        job: Option<JobId>,
        /// A bundle on disk, in place of a job; no gateway is asked
        #[arg(long, value_name = "FILE", conflicts_with_all = ["job", "link"])]
        bundle: Option<PathBuf>,
        /// Folder to write: index.html and all that it needs; must not exist, or be empty
        #[arg(long, value_name = "DIR", required_unless_present = "link")]
        out: Option<PathBuf>,
        /// Make a read-only link of this gateway
        #[arg(long)]
        link: bool,
        /// How long the link is good: minutes, hours or days, as in 30m, 24h, 30d
        #[arg(long, value_name = "SPAN", default_value = "30d", value_parser = span, requires = "link")]
        expires: u32,
        #[command(flatten)]
        remote: Remote,
    },
    /// Lists the links that were made, without the links
    #[command(after_help = "Examples:\n  clawgate pulse list\n  clawgate pulse list --json")]
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Ends a link: whoever opens it finds nothing from then on
    #[command(after_help = "\
Examples:
  clawgate pulse withdraw pub_5f8ee814-9b09-4e74-bf35-a97b9f8e698e

What somebody saved or printed before stays theirs.")]
    Withdraw {
        /// The publication, as `clawgate pulse list` names it
        #[arg(value_name = "PUBLICATION", value_parser = publication)]
        publication: String,
        #[command(flatten)]
        remote: Remote,
    },
}

/// How long a link is good.
fn span(text: &str) -> Result<u32, String> {
    let seconds = term::seconds(text).filter(|seconds| LIFETIMES.contains(seconds));
    seconds.ok_or_else(|| "give 1m to 365d, as in 24h or 30d".to_owned())
}

fn publication(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let rest = text.strip_prefix("pub_");
    let good = rest.is_some_and(|rest| (1..=64).contains(&rest.len()) && rest.bytes().all(plain));
    if good {
        Ok(text.to_owned())
    } else {
        Err("`clawgate pulse list` names publications: pub_…".to_owned())
    }
}

impl Pulse {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Publish {
                job,
                bundle,
                out,
                link,
                expires,
                remote,
            } => {
                let what = Published { job, bundle };
                let link = link.then_some(expires);
                what.publish(out.as_deref(), link, &remote).await
            }
            Self::List { remote } => list(&remote).await,
            Self::Withdraw {
                publication,
                remote,
            } => withdraw(&publication, &remote).await,
        }
    }
}

/// What is published: a job of the gateway, or a file.
struct Published {
    job: Option<JobId>,
    bundle: Option<PathBuf>,
}

impl Published {
    async fn publish(
        &self,
        out: Option<&Path>,
        link: Option<u32>,
        remote: &Remote,
    ) -> Result<(), Failure> {
        let mut told = json!({});
        if let Some(job) = &self.job {
            told["job_id"] = job.to_string().into();
        }
        if let Some(out) = out {
            let bundle = self.bytes(remote).await?;
            let (sha256, length) = (Hash::of(&bundle).to_hex(), bundle.len());
            let files = folder(bundle)
                .map_err(|error| Failure::new(format!("cannot make the page: {error}")))?;
            write(out, &files)?;
            told["folder"] = out.display().to_string().into();
            told["bundle_sha256"] = sha256.into();
            told["carries_bundle"] = (length <= MAX_CARRIED_BYTES).into();
        }
        if let (Some(job), Some(seconds)) = (&self.job, link) {
            let body = json!({ "job_id": job, "expires_in_seconds": seconds });
            let made = remote.connect()?.post("/v1/publications", &body).await?;
            for name in ["publication", "link", "expires_at"] {
                told[name] = made[name].clone();
            }
        }
        if remote.json {
            term::print_json(&told);
        } else {
            tell(&told);
        }
        Ok(())
    }

    async fn bytes(&self, remote: &Remote) -> Result<Vec<u8>, Failure> {
        match (&self.bundle, &self.job) {
            (Some(file), _) => read(file).map_err(|error| {
                Failure::new(format!("cannot read `{}`: {error}", file.display()))
            }),
            (None, Some(job)) => {
                let path = format!("/v1/jobs/{job}/bundle");
                Ok(remote.connect()?.download(&path).await?.to_vec())
            }
            (None, None) => Err(Failure::new("name a job, or a file with `--bundle`")),
        }
    }
}

fn tell(told: &Value) {
    if told.get("folder").is_some() {
        let folder = term::text(told, "folder");
        anstream::println!("{folder}/index.html");
        let sha256 = term::text(told, "bundle_sha256");
        anstream::eprintln!("{DIM}bundle.json has the SHA-256 {sha256}{OFF}");
        if told["carries_bundle"] == false {
            anstream::eprintln!(
                "The bundle is too large for the page to carry: readers choose the file."
            );
        }
        anstream::eprintln!(
            "next: give it away without keys; `clawgate trust export` writes those, for another way"
        );
    }
    if told.get("link").is_some() {
        anstream::println!("{}", term::text(told, "link"));
        anstream::eprintln!(
            "Shown this once, good until {}. Whoever has it reads this job.",
            term::text(told, "expires_at")
        );
        let publication = term::text(told, "publication");
        anstream::eprintln!("next: {BOLD}clawgate pulse withdraw {publication}{OFF} ends it");
    }
}

/// A bundle on disk, as far as one may be large.
fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let most = proof::bundle::MAX_BYTES as u64;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?
        .take(most + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(std::io::Error::other("larger than a bundle may be"));
    }
    Ok(bytes)
}

/// Writes a folder's files; nothing that is there is overwritten.
fn write(folder: &Path, files: &[PublishedFile]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("cannot write to `{}`: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    if std::fs::read_dir(folder).map_err(failed)?.next().is_some() {
        let shown = folder.display();
        let why = format!("`{shown}` is not empty: name a folder that does not exist yet");
        return Err(Failure::new(why));
    }
    for file in files {
        let made = std::fs::File::create_new(folder.join(file.name));
        made.and_then(|mut made| made.write_all(&file.content))
            .map_err(failed)?;
    }
    Ok(())
}

async fn list(remote: &Remote) -> Result<(), Failure> {
    let answer = remote.connect()?.get("/v1/publications").await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    let rows = term::items(&answer).iter().map(|one| {
        let until = match one["state"].as_str() {
            Some("withdrawn") => format!("by {}", term::text(one, "withdrawn_by")),
            _ => format!("until {}", term::text(one, "expires_at")),
        };
        let state = format!("{}, {until}", term::text(one, "state"));
        let name = |member| term::text(one, member);
        vec![
            name("publication"),
            name("job_id"),
            name("published_by"),
            state,
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let none = "no links: `clawgate pulse publish JOB --link` makes one";
    term::print_table(&["publication", "job", "by", "state"], &rows, none);
    Ok(())
}

async fn withdraw(publication: &str, remote: &Remote) -> Result<(), Failure> {
    let body = json!({ "publication": publication });
    let api = remote.connect()?;
    let answer = api.post("/v1/publications/withdraw", &body).await?;
    if remote.json {
        term::print_json(&answer);
    } else if answer["withdrawn"] == true {
        anstream::println!("withdrawn: the link leads nowhere from now on");
    } else {
        anstream::println!("it had been withdrawn before");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::published::DEFAULT_SECONDS;

    #[test]
    fn links_live_between_a_minute_and_a_year() {
        assert_eq!(span("30d"), Ok(DEFAULT_SECONDS));
        assert_eq!((span("1m"), span("365d")), (Ok(60), Ok(31_536_000)));
        for bad in ["0m", "366d", "59s", "", "d", "1", "-1d"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_that_is_there_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let files = [PublishedFile {
            name: "index.html",
            content: b"page".to_vec(),
        }];
        let out = folder.path().join("a/b");
        write(&out, &files).unwrap();
        assert_eq!(std::fs::read(out.join("index.html")).unwrap(), b"page");
        assert!(write(&out, &files).is_err());
    }
}
