//! `audit`: what the evidence of a job must have before it is sealed.

use proof::checkpoint::is_key_name;

use super::reader::Reader;
use crate::reason::quoted;

/// Most cosignatures that a contract can ask for, and most names that it can list.
const MAX_WITNESSES: i64 = 16;

/// `audit`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Who must have seen the checkpoint under which a bundle is sealed; `None` asks for nobody.
    pub witnesses: Option<Witnesses>,
    /// Whether that checkpoint must have a timestamp.
    pub timestamps: bool,
}

/// `audit.witnesses`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnesses {
    /// How many distinct witnesses, 1 to 16.
    pub required: u32,
    /// Whose word counts, by the names of the trust root; `None` is every one of it.
    pub names: Option<Vec<String>>,
}

impl Witnesses {
    /// Whether the word of a witness with this name counts.
    pub fn counts(&self, name: &str) -> bool {
        let listed = |names: &Vec<String>| names.iter().any(|one| one == name);
        self.names.as_ref().is_none_or(listed)
    }
}

impl Audit {
    /// Whether a bundle may be sealed whose checkpoint these have cosigned, each named once.
    pub fn is_satisfied<'a>(
        &self,
        cosigned_by: impl IntoIterator<Item = &'a str>,
        has_timestamp: bool,
    ) -> bool {
        let seen = |witnesses: &Witnesses| {
            let counted = cosigned_by
                .into_iter()
                .filter(|name| witnesses.counts(name));
            counted.count() >= witnesses.required as usize
        };
        self.witnesses.as_ref().is_none_or(seen) && (has_timestamp || !self.timestamps)
    }

    pub(super) fn read(root: &Reader<'_>) -> Self {
        let members = &[
            "gateway_receipts",
            "proof_bundle",
            "witnesses",
            "timestamps",
        ];
        let reader = root.object("audit", members);
        for name in ["gateway_receipts", "proof_bundle"] {
            reader.choice(name, &[("required", ())]);
        }
        Self {
            witnesses: reader
                .has("witnesses")
                .then(|| witnesses(&reader))
                .flatten(),
            timestamps: reader.boolean("timestamps", false),
        }
    }
}

/// `None` only together with errors.
fn witnesses(audit: &Reader<'_>) -> Option<Witnesses> {
    let reader = audit.object("witnesses", &["required", "names"]);
    reader.require("required");
    let required = reader.integer("required", 1..=MAX_WITNESSES);
    let names = reader.list("names", |text| match is_key_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{} is not the name of a witness", quoted(text))),
    });
    let required = u32::try_from(required?).ok()?;
    if let Some(names) = &names {
        if names.len() > MAX_WITNESSES as usize {
            reader.bad("names", format!("must list {MAX_WITNESSES} at most"));
        } else if names.len() < required as usize {
            reader.contradiction("names", "has fewer names than `required` asks for");
        }
    }
    Some(Witnesses { required, names })
}
