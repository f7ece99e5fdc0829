//! Where the log's static files go: a folder, or a bucket of an S3-compatible store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::is_local;
use crate::secret::SecretSource;

/// Where the log's static files go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Tiles {
    /// A folder. Relative to the file's folder.
    Folder(PathBuf),
    /// A bucket.
    Bucket(Bucket),
}

/// A bucket of an S3-compatible store.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What all names in it begin with; empty, or without a slash at either end.
    pub prefix: String,
    /// Where it is.
    pub region: Option<String>,
    /// Address of a store that is not AWS's.
    pub endpoint: Option<String>,
    /// Who writes; without it the surroundings say it, as AWS's tools find it.
    pub writer: Option<Writer>,
}

/// Whose credentials write into a bucket.
#[derive(Debug, Clone)]
pub struct Writer {
    /// Names the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: SecretSource,
    /// What temporary credentials have besides.
    pub session_token: Option<SecretSource>,
}

/// The table as it is written.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_access_key: Option<SecretSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_token: Option<SecretSource>,
}

impl TryFrom<Written> for Tiles {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written {
            folder,
            bucket,
            region,
            endpoint,
            access_key_id,
            secret_access_key,
            session_token,
        } = written;
        let address = match (folder, bucket) {
            (Some(folder), None) => {
                let more = region.is_some() || endpoint.is_some() || access_key_id.is_some();
                if more || secret_access_key.is_some() || session_token.is_some() {
                    return Err("log.tiles: a folder has nothing else beside it".to_owned());
                }
                return Ok(Self::Folder(folder));
            }
            (None, Some(bucket)) => bucket,
            _ => return Err("log.tiles names either a folder or a bucket".to_owned()),
        };
        let wrong =
            || format!("log.tiles.bucket `{address}` must be s3://bucket or s3://bucket/prefix");
        let rest = address.strip_prefix("s3://").ok_or_else(wrong)?;
        let (name, prefix) = match rest.split_once('/') {
            None => (rest, ""),
            Some((_, "")) => return Err(wrong()),
            Some(parts) => parts,
        };
        let plain = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            !text.is_empty() && text != ".." && text != "." && text.bytes().all(plain)
        };
        if !plain(name) || !(prefix.is_empty() || prefix.split('/').all(plain)) {
            return Err(wrong());
        }
        if let Some(endpoint) = &endpoint {
            let uri = endpoint.parse::<http::Uri>().ok();
            let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
            let safe = match uri.as_ref().and_then(http::Uri::scheme_str) {
                Some("https") => true,
                Some("http") => is_local(host),
                _ => false,
            };
            if !safe || endpoint.ends_with('/') {
                return Err(format!(
                    "log.tiles.endpoint `{endpoint}` must begin with https:// and not end in a slash"
                ));
            }
        }
        let writer = match (access_key_id, secret_access_key, session_token) {
            (Some(access_key_id), Some(secret_access_key), session_token) => Some(Writer {
                access_key_id,
                secret_access_key,
                session_token,
            }),
            (None, None, None) => None,
            _ => {
                let both = "log.tiles: access_key_id and secret_access_key go together";
                return Err(both.to_owned());
            }
        };
        Ok(Self::Bucket(Bucket {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            region,
            endpoint,
            writer,
        }))
    }
}

impl From<Tiles> for Written {
    fn from(tiles: Tiles) -> Self {
        let bucket = match tiles {
            Tiles::Folder(folder) => {
                return Self {
                    folder: Some(folder),
                    ..Self::default()
                };
            }
            Tiles::Bucket(bucket) => bucket,
        };
        let address = bucket.address();
        let (id, secret, token) = match bucket.writer {
            Some(writer) => (
                Some(writer.access_key_id),
                Some(writer.secret_access_key),
                writer.session_token,
            ),
            None => (None, None, None),
        };
        Self {
            folder: None,
            bucket: Some(address),
            region: bucket.region,
            endpoint: bucket.endpoint,
            access_key_id: id,
            secret_access_key: secret,
            session_token: token,
        }
    }
}

impl Bucket {
    /// As it is written.
    pub fn address(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("s3://{}", self.name),
            prefix => format!("s3://{}/{prefix}", self.name),
        }
    }
}

impl Tiles {
    /// Where it is, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Bucket(bucket) => bucket.address(),
        }
    }

    pub(super) fn resolve_against(&mut self, base: &Path) {
        match self {
            Self::Folder(folder) => *folder = base.join(&*folder),
            Self::Bucket(bucket) => {
                if let Some(writer) = &mut bucket.writer {
                    writer.secret_access_key.resolve_against(base);
                    if let Some(token) = &mut writer.session_token {
                        token.resolve_against(base);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Tiles, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_folder_or_a_bucket_and_nothing_in_between() {
        for good in [
            "folder = \"tiles\"",
            "bucket = \"s3://logs/gateway/one\"\nregion = \"eu-central-1\"",
            "bucket = \"s3://logs\"\nendpoint = \"http://127.0.0.1:9000\"\naccess_key_id = \"a\"\n\
             secret_access_key = { env = \"SECRET\" }",
        ] {
            let tiles = read(good).unwrap();
            let again = toml::to_string(&tiles).unwrap();
            assert_eq!(read(&again).unwrap().name(), tiles.name());
        }
        for (bad, says) in [
            ("", "either"),
            ("folder = \"a\"\nbucket = \"s3://b\"", "either"),
            ("folder = \"a\"\nregion = \"b\"", "nothing else"),
            ("bucket = \"logs\"", "s3://"),
            ("bucket = \"s3://\"", "s3://"),
            ("bucket = \"s3://logs/\"", "s3://"),
            ("bucket = \"s3://logs/a/../b\"", "s3://"),
            ("bucket = \"s3://lo gs\"", "s3://"),
            (
                "bucket = \"s3://b\"\nendpoint = \"http://minio.example\"",
                "endpoint",
            ),
            (
                "bucket = \"s3://b\"\nendpoint = \"https://minio.example/\"",
                "endpoint",
            ),
            ("bucket = \"s3://b\"\naccess_key_id = \"a\"", "together"),
            (
                "bucket = \"s3://b\"\nsession_token = { env = \"A\" }",
                "together",
            ),
            ("bucket = \"s3://b\"\nother = 1", "other"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
