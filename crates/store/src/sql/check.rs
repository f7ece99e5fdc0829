//! Whether a store is whole: its log recomputed from the records, each job's numbers without
//! gaps, and nothing that names what is not there.

use proof::Hash;
use proof::keyset::{History, SignedKeySet};
use proof::merkle;

use super::column::{self, Columns as _};
use super::connection::{Connection, Dialect, params};
use super::log::{self, Content};
use super::{key_sets, merkle as tree};
use crate::StoreError;

/// Records that are read together.
const PAGE: u32 = 500;

/// Faults that are named; there may be more.
const NAMED: usize = 20;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soundness {
    /// Records, and leaves of the log.
    pub records: u64,
    /// Root over them, as the records themselves give it.
    pub root: Hash,
    /// How many of the records are there without their content, which went after its time; for
    /// them the leaves stand, and the root is that over both.
    pub pruned: u64,
    /// Jobs.
    pub jobs: u64,
    /// Checkpoints, each of which was compared with the records.
    pub checkpoints: u64,
    /// What is not in order, at most 20 of it; empty when all is.
    pub faults: Vec<String>,
}

/// Checks everything that is seen in one state of the store. Takes memory for a page of records,
/// however many there are.
pub(crate) fn check(connection: &Connection) -> Result<Soundness, StoreError> {
    let mut faults = Faults(Vec::new());
    let mut roots = Roots::default();
    let mut history = History::default();
    let mut checkpoints = 0;
    let mut pruned = 0;
    let mut checkpoint = next_checkpoint(connection, None)?;
    loop {
        while let Some((size, root)) = checkpoint.take_if(|(size, _)| *size <= roots.size) {
            checkpoints += 1;
            if root != Some(roots.root()) {
                faults.add(format!("the checkpoint of {size} leaves is of another log"));
            }
            checkpoint = next_checkpoint(connection, Some(size))?;
        }
        let most = checkpoint.as_ref().map_or(u64::from(PAGE), |(size, _)| {
            (size - roots.size).min(u64::from(PAGE))
        });
        let page = page(connection, roots.size, most)?;
        if page.is_empty() {
            break;
        }
        for row in page {
            let place = roots.size;
            if row.leaf_index != place {
                faults.add(format!("the log has a hole at leaf {place}"));
                return Ok(faults.about(roots, pruned, 0, checkpoints));
            }
            let leaf = match row.entry.leaf_hash() {
                Some(leaf) => {
                    if row.stored != Some(leaf) {
                        faults.add(format!("leaf {place} is not the hash of its record"));
                    }
                    leaf
                }
                // Its content went; the leaf is what stays.
                None => {
                    pruned += 1;
                    let Some(leaf) = row.stored else {
                        faults.add(format!("there is no leaf {place}"));
                        return Ok(faults.about(roots, pruned, 0, checkpoints));
                    };
                    leaf
                }
            };
            match row.entry {
                Entry::Record {
                    seq,
                    job_id,
                    content: Content::Record(record),
                } if record.seq != seq || record.job_id.as_str() != job_id => {
                    faults.add(format!(
                        "the record of leaf {place} stands at another's place"
                    ));
                }
                Entry::Record { .. } => {}
                Entry::KeySet(entry) => {
                    if let Err(error) = history.extend(&entry, place) {
                        faults.add(format!("at leaf {place}: {error}"));
                    }
                }
            }
            for (level, root) in roots.add(leaf) {
                let first = place >> level;
                if tree::tile(connection, level, first)? != Some(root) {
                    faults.add(format!(
                        "tile {first} of level {level} is not that of its leaves"
                    ));
                }
            }
        }
    }
    if let Some((size, _)) = checkpoint {
        faults.add(format!(
            "there is a checkpoint of {size} leaves, and fewer leaves"
        ));
    }
    let size = tree::size(connection)?;
    if size != roots.size {
        faults.add(format!(
            "there are {size} leaves and {} records",
            roots.size
        ));
    } else {
        match tree::root(connection, size) {
            Ok(Some(root)) if root == roots.root() => {}
            Ok(_) => faults.add("the log's tree is not that of its leaves".to_owned()),
            Err(StoreError::Corrupt(fault)) => faults.add(fault),
            Err(error) => return Err(error),
        }
    }
    let jobs = check_jobs(connection, &mut faults)?;
    check_references(connection, &mut faults)?;
    check_prunings(connection, &mut faults)?;
    Ok(faults.about(roots, pruned, jobs, checkpoints))
}

/// An entry of the log as it stands in the tables.
struct Place {
    leaf_index: u64,
    stored: Option<Hash>,
    entry: Entry,
}

enum Entry {
    Record {
        seq: u64,
        job_id: String,
        content: Content,
    },
    KeySet(Box<SignedKeySet>),
}

impl Entry {
    /// None of a record whose content went.
    fn leaf_hash(&self) -> Option<Hash> {
        match self {
            Self::Record {
                content: Content::Record(record),
                ..
            } => Some(record.leaf_hash()),
            Self::Record { .. } => None,
            Self::KeySet(entry) => Some(entry.leaf_hash()),
        }
    }
}

/// The next entries, of which records and key sets have tables of their own.
fn page(connection: &Connection, from: u64, most: u64) -> Result<Vec<Place>, StoreError> {
    let mut places = records(connection, from, most)?;
    places.extend(column::all(
        connection,
        "SELECT key_sets.leaf_index, hash, entry
         FROM key_sets LEFT JOIN leaves USING (leaf_index)
         WHERE key_sets.leaf_index >= ?1 ORDER BY key_sets.leaf_index LIMIT ?2",
        params![column::integer(from)?, column::integer(most)?],
        |row| {
            Ok(Place {
                leaf_index: row.uint("leaf_index")?,
                stored: row.hash_opt("hash")?,
                entry: Entry::KeySet(Box::new(key_sets::entry(row)?)),
            })
        },
    )?);
    places.sort_by_key(|place| place.leaf_index);
    places.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(places)
}

fn records(connection: &Connection, from: u64, most: u64) -> Result<Vec<Place>, StoreError> {
    column::all(
        connection,
        "SELECT records.leaf_index, seq, job_id, hash, record
         FROM records JOIN jobs USING (job) LEFT JOIN leaves USING (leaf_index)
         WHERE records.leaf_index >= ?1 ORDER BY records.leaf_index LIMIT ?2",
        params![column::integer(from)?, column::integer(most)?],
        |row| {
            Ok(Place {
                leaf_index: row.uint("leaf_index")?,
                stored: row.hash_opt("hash")?,
                entry: Entry::Record {
                    seq: row.uint("seq")?,
                    job_id: row.text("job_id")?,
                    content: log::content(row)?,
                },
            })
        },
    )
}

/// The next checkpoint: its size, and the root that it names.
fn next_checkpoint(
    connection: &Connection,
    after: Option<u64>,
) -> Result<Option<(u64, Option<Hash>)>, StoreError> {
    let after = match after {
        None => -1,
        Some(after) => column::integer(after)?,
    };
    column::one(
        connection,
        "SELECT size, note FROM checkpoints WHERE size > ?1 ORDER BY size LIMIT 1",
        [after],
        |row| Ok((row.uint("size")?, root_of(&row.text("note")?))),
    )
}

/// The root in a checkpoint, which stands in its third line. Its signature is the verifier's to
/// check.
fn root_of(note: &str) -> Option<Hash> {
    let line = note.split('\n').nth(2)?.trim_end_matches('=');
    let line = line.replace('+', "-").replace('/', "_");
    let root = proof::hash::decode_b64u_exact(&line).ok()?;
    Some(Hash::from_bytes(root))
}

/// Each job's records are numbered from 1 to its last one, and its counters say so.
fn check_jobs(connection: &Connection, faults: &mut Faults) -> Result<u64, StoreError> {
    let gaps = column::all(
        connection,
        "SELECT job_id FROM jobs LEFT JOIN records USING (job)
         GROUP BY job_id, last_seq
         HAVING count(seq) <> last_seq OR coalesce(max(seq), 0) <> last_seq
         ORDER BY job_id LIMIT 20",
        [],
        |row| row.text("job_id"),
    )?;
    for job in gaps {
        faults.add(format!(
            "the records of job `{job}` are not numbered without gaps"
        ));
    }
    let jobs = column::one(connection, "SELECT count(*) AS jobs FROM jobs", [], |row| {
        row.uint("jobs")
    })?;
    Ok(jobs.unwrap_or_default())
}

/// What names another row, where the engine does not see to it, or could have been kept from it.
fn check_references(connection: &Connection, faults: &mut Faults) -> Result<(), StoreError> {
    let loose = column::one(
        connection,
        "SELECT count(*) AS loose FROM receipts
         LEFT JOIN records ON leaf_index = outcome AND records.job = receipts.job
             AND records.kind = 'outcome'
         WHERE leaf_index IS NULL",
        [],
        |row| row.uint("loose"),
    )?;
    if let Some(loose @ 1..) = loose {
        faults.add(format!("{loose} receipts have no outcome"));
    }
    let sql = match connection.dialect() {
        Dialect::Sqlite => {
            "SELECT \"table\" AS of_table, count(*) AS loose FROM pragma_foreign_key_check
             GROUP BY \"table\""
        }
        // The server keeps them, unless somebody has switched that off.
        Dialect::Postgres => {
            "SELECT CAST(conrelid::regclass AS TEXT) AS of_table, count(*) AS loose
             FROM pg_constraint
             WHERE NOT convalidated AND connamespace = CAST(current_schema() AS regnamespace)
             GROUP BY conrelid"
        }
    };
    let found = column::all(connection, sql, [], |row| {
        Ok((row.text("of_table")?, row.uint("loose")?))
    })?;
    for (table, loose) in found {
        faults.add(format!("{loose} rows of `{table}` name what is not there"));
    }
    Ok(())
}

/// Content is missing only where somebody let it go.
fn check_prunings(connection: &Connection, faults: &mut Faults) -> Result<(), StoreError> {
    for (what, sql) in [
        (
            "records",
            "SELECT count(*) AS gone FROM records
             LEFT JOIN prunings ON prunings.job = records.job AND part = 'records'
             WHERE length(record) = 8 AND part IS NULL",
        ),
        (
            "receipts",
            "SELECT count(*) AS gone FROM receipts
             LEFT JOIN prunings ON prunings.job = receipts.job AND part = 'records'
             WHERE length(envelope) = 0 AND part IS NULL",
        ),
    ] {
        let gone = column::one(connection, sql, [], |row| row.uint("gone"))?;
        if let Some(gone @ 1..) = gone {
            faults.add(format!("{gone} {what} are empty, and nobody let them go"));
        }
    }
    Ok(())
}

struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, fault: String) {
        if self.0.len() < NAMED {
            self.0.push(fault);
        }
    }

    fn about(self, roots: Roots, pruned: u64, jobs: u64, checkpoints: u64) -> Soundness {
        Soundness {
            records: roots.size,
            root: roots.root(),
            pruned,
            jobs,
            checkpoints,
            faults: self.0,
        }
    }
}

/// The root over leaves that come one by one: the roots of the complete subtrees, largest first.
#[derive(Default)]
struct Roots {
    size: u64,
    complete: Vec<Hash>,
}

impl Roots {
    /// Returns the roots, with their levels, of the complete subtrees that the tree keeps as tiles
    /// and that this leaf is the last of.
    fn add(&mut self, leaf: Hash) -> Vec<(u32, Hash)> {
        let mut root = leaf;
        let mut tiles = Vec::new();
        for level in 1..=self.size.trailing_ones() {
            let left = self.complete.pop().expect("one for each bit of the size");
            root = merkle::node_hash(&left, &root);
            if level % tree::HEIGHT == 0 {
                tiles.push((level, root));
            }
        }
        self.complete.push(root);
        self.size += 1;
        tiles
    }

    fn root(&self) -> Hash {
        let mut roots = self.complete.iter().rev();
        match roots.next() {
            None => merkle::empty_root(),
            Some(last) => roots.fold(*last, |right, left| merkle::node_hash(left, &right)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_of_leaves_one_by_one_are_those_of_the_definition() {
        let mut roots = Roots::default();
        let mut leaves: Vec<Hash> = Vec::new();
        for n in 0..300_u64 {
            assert_eq!(Ok(roots.root()), merkle::root(leaves.as_slice(), n), "{n}");
            let leaf = merkle::leaf_hash(&n.to_be_bytes());
            let tiles = roots.add(leaf);
            leaves.push(leaf);
            let expected = match n {
                255 => vec![(8, merkle::root(leaves.as_slice(), 256).unwrap())],
                _ => Vec::new(),
            };
            assert_eq!(tiles, expected, "{n}");
        }
    }
}
