//! Where the log's files are read: a gateway, or wherever its static files are served.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use proof::tiles::{Missing, Tile, Tiles};

use super::super::{Failure, OperatorApi};
use crate::upstream::{HttpClient, cause, http_client_with};

/// Largest file that is read: a full tile has 8 KiB, a checkpoint less.
const MAX_FILE_BYTES: usize = 64 << 10;

/// How long a file may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Most tiles that two roots need: two for each level, and as many again for partial ones.
const MAX_TILES: usize = 64;

/// Where the files are.
pub(super) enum Source {
    /// Below `/tlog/` of a gateway's operator listener.
    Gateway(OperatorApi),
    /// Below an address, for everybody.
    Files {
        /// Asks.
        http: HttpClient,
        /// Without a slash at the end.
        base: String,
    },
}

impl Source {
    /// Files below an address; what they say is believed only as far as it is signed.
    ///
    /// # Errors
    /// When it is no address, or TLS cannot be set up.
    pub(super) fn files(url: &str, ca_file: Option<&Path>) -> Result<Self, Failure> {
        let base = url.trim_end_matches('/').to_owned();
        let known = base.parse::<Uri>().ok();
        let scheme = known.as_ref().and_then(Uri::scheme_str);
        if !matches!(scheme, Some("http" | "https")) {
            return Err(Failure::usage(format!(
                "`{base}` must begin with https:// or http://"
            )));
        }
        let http = http_client_with(ca_file)
            .map_err(|error| Failure::new(format!("cannot set up TLS: {error:#}")))?;
        Ok(Self::Files { http, base })
    }

    /// One file; `None` when it is not there.
    async fn file(&self, name: &str) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Gateway(api) => match api.download(&format!("/tlog/{name}")).await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(failure) if failure.code() == Some("LOG_PLACE_UNKNOWN") => Ok(None),
                Err(failure) => Err(failure),
            },
            Self::Files { http, base } => {
                let url = format!("{base}/{name}");
                let asked = tokio::time::timeout(TIMEOUT, fetch(http, &url));
                asked
                    .await
                    .unwrap_or_else(|_| Err(format!("no answer in {} s", TIMEOUT.as_secs())))
                    .map_err(|why| Failure::new(format!("cannot read `{url}`: {why}")))
            }
        }
    }

    /// The newest checkpoint, as it is served.
    pub(super) async fn checkpoint(&self) -> Result<String, Failure> {
        let note = self.file("checkpoint").await?.ok_or_else(|| {
            Failure::new("there is no checkpoint").next("name the folder that holds `checkpoint`")
        })?;
        String::from_utf8(note.to_vec())
            .map_err(|_| Failure::new("the checkpoint is not text").lasting())
    }

    /// Computes something over the tree of `size` leaves, of which tiles are fetched as they are
    /// asked for. Whatever comes out is no more than what the source says.
    pub(super) async fn compute<T>(
        &self,
        size: u64,
        work: impl Fn(&Tiles) -> Result<T, Missing>,
    ) -> Result<T, Failure> {
        let mut tiles = Tiles::new(size);
        for _ in 0..MAX_TILES {
            match work(&tiles) {
                Ok(done) => return Ok(done),
                Err(Missing(tile)) => {
                    let bytes = self.tile(tile).await?;
                    if !tiles.insert(tile, &bytes) {
                        let message = format!("`{tile}` has another length than it must have");
                        return Err(Failure::new(message).lasting());
                    }
                }
            }
        }
        Err(Failure::new("the tree asks for more tiles than it can have").lasting())
    }

    /// A tile; a partial one that is gone is the beginning of the full one.
    async fn tile(&self, tile: Tile) -> Result<Bytes, Failure> {
        let partial = tile.to_string();
        let full = partial.split(".p/").next().unwrap_or_default().to_owned();
        for name in [&partial, &full] {
            if let Some(bytes) = self.file(name).await? {
                let length = bytes.len().min(tile.width() as usize * 32);
                return Ok(bytes.slice(..length));
            }
        }
        let message = format!("`{partial}` is not there, though the checkpoint needs it");
        Err(Failure::new(message).lasting())
    }
}

async fn fetch(http: &HttpClient, url: &str) -> Result<Option<Bytes>, String> {
    let request = Request::get(url)
        .header(
            header::USER_AGENT,
            concat!("clawgate-cli/", env!("CARGO_PKG_VERSION")),
        )
        .body(Full::default())
        .map_err(|error| error.to_string())?;
    let response = http.request(request).await.map_err(|error| cause(&error))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        status => return Err(format!("the answer is {status}")),
    }
    let body = Limited::new(response.into_body(), MAX_FILE_BYTES).collect();
    let body = body.await.map_err(|error| error.to_string())?;
    Ok(Some(body.to_bytes()))
}
