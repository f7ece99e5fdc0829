//! Unpacking within limits, and packing anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};

use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};
use proof::Hash;

use super::{InspectedUpload, Limits, UploadRefusal, UploadedFile, file};
use crate::reason::ReasonCode;

/// Below this size no ratio is looked at: small files compress well.
const RATIO_FREE: usize = 1 << 20;

/// Unpacks an upload as the Terraform CLI makes it (gzip, tar), checks it and packs it anew.
/// The same files give the same bytes, whoever packed them. Modules that `init` has fetched and
/// tests are left out: what is planned must be our archive, not the one that came.
///
/// # Errors
/// `UPLOAD_…` for anything that is not an archive of plain files and folders within `limits`.
pub fn inspect_upload(gz: &[u8], limits: &Limits) -> Result<InspectedUpload, UploadRefusal> {
    untar(gz, limits).map(inspected)
}

/// The same for an archive that is planned as it came, because upstream has it already: nothing
/// in it may go unjudged.
///
/// # Errors
/// Those of [`inspect_upload`]; `CONFIGURATION_VERSION_NOT_INSPECTED` where that leaves something
/// out.
pub fn inspect_in_place(gz: &[u8], limits: &Limits) -> Result<InspectedUpload, UploadRefusal> {
    let tree = untar(gz, limits)?;
    match &tree.left_out {
        None => Ok(inspected(tree)),
        Some(path) => Err(UploadRefusal::at(
            ReasonCode::ConfigurationVersionNotInspected,
            path,
            "nobody has judged this, and it would be planned with the rest: upload the \
             configuration through the gateway, or leave it out",
        )),
    }
}

fn inspected(tree: Tree) -> InspectedUpload {
    let repacked_tar_gz = pack(&tree);
    let files = tree
        .files
        .into_iter()
        .map(|(path, content)| UploadedFile { path, content })
        .collect();
    let sha256 = Hash::of(&repacked_tar_gz);
    InspectedUpload {
        files,
        repacked_tar_gz,
        sha256,
    }
}

/// The unpacked bytes as they are read, up to a bound.
struct Unpacked<'a> {
    decoder: GzDecoder<Cursor<&'a [u8]>>,
    most: u64,
    read: u64,
    /// The decoder has failed once; what it says afterwards means nothing.
    broken: bool,
}

impl<'a> Unpacked<'a> {
    fn of(gz: &'a [u8], limits: &Limits) -> Self {
        let most = limits
            .unpacked
            .min(gz.len().saturating_mul(limits.ratio).max(RATIO_FREE));
        Self {
            decoder: GzDecoder::new(Cursor::new(gz)),
            most: most as u64,
            read: 0,
            broken: false,
        }
    }

    fn is_too_large(&self) -> bool {
        self.read > self.most
    }

    /// Reads what stands behind the archive's end, so that the checksum is checked and nothing
    /// follows unseen.
    fn finish(mut self) -> Result<(), UploadRefusal> {
        let rest = std::io::copy(&mut self, &mut std::io::sink());
        if self.is_too_large() {
            let rule = format!("unpacks to more than {} bytes", self.most);
            return Err(UploadRefusal::whole(ReasonCode::UploadBomb, rule));
        }
        let not_gzip = |rule| UploadRefusal::whole(ReasonCode::UploadNotGzip, rule);
        if self.broken || rest.is_err() {
            return Err(not_gzip("not a whole gzip stream"));
        }
        // Another reader might go on with what follows; we would not have seen it.
        let packed = self.decoder.into_inner();
        if packed.position() != packed.get_ref().len() as u64 {
            return Err(not_gzip("data follows the gzip stream"));
        }
        Ok(())
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.is_too_large() {
            return Err(std::io::Error::other("too large"));
        }
        let read = self
            .decoder
            .read(buffer)
            .inspect_err(|_| self.broken = true)?;
        self.read += read as u64;
        if self.is_too_large() {
            return Err(std::io::Error::other("too large"));
        }
        Ok(read)
    }
}

#[derive(Default)]
struct Tree {
    files: BTreeMap<String, Vec<u8>>,
    folders: BTreeSet<String>,
    /// The first thing that stands in the archive and not here.
    left_out: Option<String>,
}

/// Reads the archive while it is unpacked: what is held is the files themselves.
fn untar(gz: &[u8], limits: &Limits) -> Result<Tree, UploadRefusal> {
    if gz.len() > limits.packed {
        let rule = format!("larger than {} bytes", limits.packed);
        return Err(UploadRefusal::whole(ReasonCode::UploadTooLarge, rule));
    }
    let mut archive = tar::Archive::new(Unpacked::of(gz, limits));
    let tree = entries(&mut archive, limits);
    // What is wrong with the stream explains what looked wrong in the archive.
    archive.into_inner().finish()?;
    tree
}

fn entries<R: Read>(archive: &mut tar::Archive<R>, limits: &Limits) -> Result<Tree, UploadRefusal> {
    let broken = || UploadRefusal::whole(ReasonCode::UploadNotTar, "not a whole tar archive");
    let mut tree = Tree::default();
    for (count, entry) in archive.entries().map_err(|_| broken())?.enumerate() {
        if count >= limits.entries {
            let rule = format!("more than {} files and folders", limits.entries);
            return Err(UploadRefusal::whole(ReasonCode::UploadTooManyEntries, rule));
        }
        let mut entry = entry.map_err(|_| broken())?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            tree.left_out
                .get_or_insert_with(|| "a header for all entries".to_owned());
            continue;
        }
        let raw = entry.path_bytes().into_owned();
        let shown = String::from_utf8_lossy(&raw).into_owned();
        if kind.is_symlink() || kind.is_hard_link() {
            return Err(UploadRefusal::at(
                ReasonCode::UploadLink,
                &shown,
                "is a link",
            ));
        }
        if !kind.is_file() && !kind.is_dir() {
            let rule = "is neither a file nor a folder";
            return Err(UploadRefusal::at(
                ReasonCode::UploadSpecialFile,
                &shown,
                rule,
            ));
        }
        let path = path(&raw, kind.is_dir(), limits)
            .map_err(|rule| UploadRefusal::at(ReasonCode::UploadPath, &shown, rule))?;
        // The archive's root, as some tools write it.
        let Some(path) = path else { continue };
        if is_dropped(&path) || (kind.is_file() && file::is_test(&path)) {
            // Tests are run by nobody who plans; but `init` fetches the modules that they name.
            if kind.is_file() {
                tree.left_out.get_or_insert(path);
            }
            continue;
        }
        let twice = || UploadRefusal::at(ReasonCode::UploadDuplicate, &shown, "is there twice");
        if kind.is_dir() {
            if tree.files.contains_key(&path) || !tree.folders.insert(path) {
                return Err(twice());
            }
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|_| broken())?;
        if content.len() as u64 != entry.size() {
            return Err(broken());
        }
        if tree.folders.contains(&path) || tree.files.insert(path, content).is_some() {
            return Err(twice());
        }
    }
    for path in tree.files.keys() {
        if let Some((folder, _)) =
            ancestors(path).find(|(folder, _)| tree.files.contains_key(*folder))
        {
            let rule = "is a file and a folder";
            return Err(UploadRefusal::at(ReasonCode::UploadDuplicate, folder, rule));
        }
    }
    if tree.files.is_empty() {
        return Err(UploadRefusal::whole(
            ReasonCode::ConfigurationEmpty,
            "no files",
        ));
    }
    Ok(tree)
}

/// Every folder above a path, with the rest.
fn ancestors(path: &str) -> impl Iterator<Item = (&str, &str)> {
    path.match_indices('/')
        .map(|(at, _)| (&path[..at], &path[at + 1..]))
}

/// The CLI uploads the modules that `init` has fetched. They are left out of our archive, as tests
/// are: upstream fetches them itself, from the source and at the version that was judged.
fn is_dropped(path: &str) -> bool {
    path == ".terraform" || path == ".terraform/modules" || path.starts_with(".terraform/modules/")
}

/// A clean relative path; `None` for the root itself.
fn path(raw: &[u8], is_folder: bool, limits: &Limits) -> Result<Option<String>, &'static str> {
    let text = std::str::from_utf8(raw).map_err(|_| "path is not UTF-8")?;
    if text.len() > limits.path {
        return Err("path is too long");
    }
    if text
        .chars()
        .any(|c| c.is_control() || matches!(c, '\\' | ':' | '\u{feff}' | '\u{202a}'..='\u{202e}'))
    {
        return Err("path has characters that are not accepted");
    }
    let text = match text.strip_suffix('/') {
        Some(text) if is_folder => text,
        Some(_) => return Err("file with the path of a folder"),
        None => text,
    };
    if matches!(text, "" | ".") && is_folder {
        return Ok(None);
    }
    let text = text.strip_prefix("./").unwrap_or(text);
    if text.starts_with('/') {
        return Err("absolute path");
    }
    if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("path with empty or dot components");
    }
    Ok(Some(text.to_owned()))
}

/// Everything sorted, nothing of the original headers.
fn pack(tree: &Tree) -> Vec<u8> {
    const MEMORY: &str = "writing to memory cannot fail";
    let encoder = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(Vec::new(), Compression::fast());
    let mut builder = tar::Builder::new(encoder);
    builder.mode(tar::HeaderMode::Deterministic);
    let mut folders = tree.folders.clone();
    for path in tree.files.keys().chain(&tree.folders) {
        folders.extend(ancestors(path).map(|(folder, _)| folder.to_owned()));
    }
    let header = |kind: tar::EntryType, mode: u32, size: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    for folder in &folders {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        builder
            .append_data(&mut header, format!("{folder}/"), std::io::empty())
            .expect(MEMORY);
    }
    for (path, content) in &tree.files {
        let mut header = header(tar::EntryType::Regular, 0o644, content.len());
        builder
            .append_data(&mut header, path, content.as_slice())
            .expect(MEMORY);
    }
    builder.into_inner().expect(MEMORY).finish().expect(MEMORY)
}
