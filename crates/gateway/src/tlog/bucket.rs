//! The log's static files in a bucket of an S3-compatible store.
//!
//! Everything is written under a condition, which the store decides: a tile only when nothing has
//! its name, the checkpoint only in the place of the one that was read. So two that publish into
//! one bucket cannot overwrite each other, whatever they believe. Nothing is ever deleted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::client::{
    HttpClient as Client, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload, RetryConfig, UpdateVersion,
};
use tokio::time::timeout;

use super::{Added, MAX_FILE_BYTES, TlogError};
use crate::config::{Bucket as Settings, Writer};
use crate::upstream::HttpClient;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a request is sent again when the store is overloaded, and until when.
const RETRIES: usize = 2;
const RETRY_UNTIL: Duration = Duration::from_secs(60);

/// A bucket of static files.
#[derive(Debug)]
pub struct Bucket {
    store: AmazonS3,
    prefix: String,
    /// The checkpoint that was read last: what the next one takes the place of.
    checkpoint: Mutex<Option<UpdateVersion>>,
}

impl Bucket {
    /// The bucket of the configuration. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When the credentials cannot be fetched.
    pub(super) async fn open(settings: &Settings, http: HttpClient) -> anyhow::Result<Self> {
        let mut builder = match &settings.writer {
            None => AmazonS3Builder::from_env(),
            Some(Writer {
                access_key_id,
                secret_access_key,
                session_token,
            }) => {
                let secret = secret_access_key.fetch().await?;
                let mut builder = AmazonS3Builder::new()
                    .with_access_key_id(access_key_id)
                    .with_secret_access_key(secret.expose());
                if let Some(token) = session_token {
                    builder = builder.with_token(token.fetch().await?.expose());
                }
                builder
            }
        };
        if let Some(region) = &settings.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &settings.endpoint {
            // Plain HTTP is on loopback: the configuration saw to that.
            builder = builder
                .with_endpoint(endpoint)
                .with_allow_http(endpoint.starts_with("http://"));
        }
        let store = builder
            .with_bucket_name(&settings.name)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: RETRIES,
                retry_timeout: RETRY_UNTIL,
            })
            .with_http_connector(Ours(http))
            .build()?;
        Ok(Self {
            store,
            prefix: settings.prefix.clone(),
            checkpoint: Mutex::default(),
        })
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    /// A file's bytes, when it is there.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, TlogError> {
        let found = match self.store.get(&self.path(name)).await {
            Ok(found) => Some(found),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(unusable(name)(error)),
        };
        if name == "checkpoint" {
            let version = found.as_ref().map(|found| UpdateVersion {
                e_tag: found.meta.e_tag.clone(),
                version: found.meta.version.clone(),
            });
            *self.last() = version;
        }
        let Some(found) = found else { return Ok(None) };
        if found.meta.size > MAX_FILE_BYTES {
            return Err(TlogError::Forked(format!(
                "`{name}` is larger than a file of a log"
            )));
        }
        let bytes = found.bytes().await.map_err(unusable(name))?;
        Ok(Some(bytes.to_vec()))
    }

    /// Whether a file is there.
    pub(super) async fn has(&self, name: &str) -> Result<bool, TlogError> {
        match self.store.head(&self.path(name)).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(unusable(name)(error)),
        }
    }

    /// Adds a file that never changes.
    pub(super) async fn add(&self, name: &str, bytes: Vec<u8>) -> Result<Added, TlogError> {
        // Twice, for one that somebody else added in between.
        for _ in 0..2 {
            match self.read(name).await? {
                Some(there) if there == bytes => return Ok(Added::Fine),
                Some(_) => return Ok(Added::Differs),
                None => {}
            }
            match self.put(name, bytes.clone(), PutMode::Create).await {
                Ok(_) => return Ok(Added::Fine),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(error) => return Err(unusable(name)(error)),
            }
        }
        Err(TlogError::Elsewhere(name.to_owned()))
    }

    /// Puts a checkpoint in the place of the one that was read last.
    pub(super) async fn put_checkpoint(&self, bytes: Vec<u8>) -> Result<(), TlogError> {
        let name = "checkpoint";
        let last = self.last().clone();
        let mode = last.map_or(PutMode::Create, PutMode::Update);
        match self.put(name, bytes, mode).await {
            Ok(version) => {
                *self.last() = Some(version);
                Ok(())
            }
            // The next look says whose it is.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Err(TlogError::Elsewhere(name.to_owned()))
            }
            Err(error) => Err(unusable(name)(error)),
        }
    }

    async fn put(&self, name: &str, bytes: Vec<u8>, mode: PutMode) -> Result<UpdateVersion, Error> {
        let (path, options) = (self.path(name), PutOptions::from(mode));
        let put = self.store.put_opts(&path, PutPayload::from(bytes), options);
        Ok(put.await?.into())
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<UpdateVersion>> {
        self.checkpoint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn unusable(name: &str) -> impl FnOnce(Error) -> TlogError {
    let name = name.to_owned();
    move |source| TlogError::Bucket {
        name,
        source: Arc::new(source),
    }
}

/// Our own connections, with the TLS that all our requests have.
#[derive(Debug, Clone)]
struct Ours(HttpClient);

impl HttpConnector for Ours {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<Client> {
        Ok(Client::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Ours {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let request = Request::from_parts(parts, Full::<Bytes>::new(body));
        let answered = async {
            let response = self.0.request(request).await.map_err(|error| {
                let kind = match error.is_connect() {
                    true => HttpErrorKind::Connect,
                    false => HttpErrorKind::Request,
                };
                HttpError::new(kind, error)
            })?;
            let (parts, body) = response.into_parts();
            let most = usize::try_from(MAX_FILE_BYTES).unwrap_or(usize::MAX) + 1;
            let body = Limited::new(body, most).collect().await;
            let body =
                body.map_err(|error| HttpError::new_boxed(HttpErrorKind::Interrupted, error))?;
            let body = HttpResponseBody::from(body.to_bytes());
            Ok(HttpResponse::from_parts(parts, body))
        };
        let elapsed = |error| HttpError::new(HttpErrorKind::Timeout, error);
        timeout(REQUEST_TIMEOUT, answered).await.map_err(elapsed)?
    }
}
