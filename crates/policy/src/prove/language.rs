//! Languages of names: what some globs admit and others take away, compared exactly.
//!
//! A glob is a regular expression, so whether one list admits a name that another does not is
//! decidable: all globs read the same word in step, one set of positions for each, and the first
//! word at which they say so is a shortest one. Nothing is guessed; what would take too long is
//! [`Undecided`], never "no".

use std::collections::{HashSet, VecDeque};

use crate::glob::Glob;

/// Most steps of single globs for one question: some seconds. Lists that people write need some
/// thousands.
const MAX_STEPS: usize = 20_000_000;

/// Most sets of positions that are held for one glob of the new list: some hundred megabytes.
const MAX_HELD: usize = 2_000_000;

/// The question is too large to be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undecided;

/// The names that a list admits and another list does not take away again.
#[derive(Debug, Clone)]
pub(super) struct Language {
    allow: Vec<Glob>,
    deny: Vec<Glob>,
}

impl Language {
    /// `None` admits every name.
    pub(super) fn new(allow: Option<&[Glob]>, deny: &[Glob]) -> Self {
        Self {
            allow: allow.map_or_else(|| globs(&["*"]), <[Glob]>::to_vec),
            deny: deny.to_vec(),
        }
    }

    /// The same without the names that these globs match.
    pub(super) fn without(mut self, taken: &[&str]) -> Self {
        self.deny.extend(globs(taken));
        self
    }

    /// Whether it has this name.
    fn has(&self, name: &str) -> bool {
        let listed = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(name));
        listed(&self.allow) && !listed(&self.deny)
    }

    /// A shortest name of at most `longest` bytes that is in this language and not in `other`.
    /// The empty name counts for nothing.
    ///
    /// # Errors
    /// When that is too much to decide.
    pub(super) fn beyond(&self, other: &Self, longest: usize) -> Result<Option<String>, Undecided> {
        self.first(other, false, longest)
    }

    /// A shortest name that is in both.
    ///
    /// # Errors
    /// When that is too much to decide.
    pub(super) fn shared(&self, other: &Self, longest: usize) -> Result<Option<String>, Undecided> {
        self.first(other, true, longest)
    }

    fn first(
        &self,
        other: &Self,
        within: bool,
        longest: usize,
    ) -> Result<Option<String>, Undecided> {
        let mut shortest: Option<String> = None;
        let mut steps = 0;
        for glob in &self.allow {
            // What has no wildcard is one name, and needs no search.
            if glob.is_literal() {
                let name = glob.as_str();
                let fits =
                    name.len() <= longest && shortest.as_ref().is_none_or(|s| name.len() < s.len());
                if fits && self.has(name) && other.has(name) == within {
                    shortest = Some(name.to_owned());
                }
                continue;
            }
            let same = other.allow.contains(glob);
            if !within && same && other.deny.iter().all(|one| self.deny.contains(one)) {
                continue;
            }
            let longest = shortest.as_ref().map_or(longest, |word| word.len() - 1);
            let search = Search::new(glob, self, other, within);
            if let Some(word) = search.run(longest, &mut steps)? {
                shortest = Some(word);
            }
        }
        Ok(shortest)
    }
}

fn globs(texts: &[&str]) -> Vec<Glob> {
    texts
        .iter()
        .map(|text| Glob::new(text).expect("a fixed pattern is one"))
        .collect()
}

/// Where one glob may stand after a word: how much of its pattern is behind it. Sorted.
type Positions = Vec<u8>;

/// A word that one glob matches, that no glob of `own_deny` matches, and that is in the other
/// language or not in it, as `within` says.
struct Search<'a> {
    /// The one that must match, then those that must not, then the other language's two lists.
    globs: Vec<&'a Glob>,
    own_deny: usize,
    other_allow: usize,
    within: bool,
    letters: Vec<u8>,
}

impl<'a> Search<'a> {
    fn new(must: &'a Glob, own: &'a Language, other: &'a Language, within: bool) -> Self {
        let mut globs = vec![must];
        globs.extend(&own.deny);
        globs.extend(&other.allow);
        globs.extend(&other.deny);
        let letters = letters(&globs);
        Self {
            globs,
            own_deny: own.deny.len(),
            other_allow: other.allow.len(),
            within,
            letters,
        }
    }

    /// Breadth first, so that the first word found is a shortest.
    fn run(&self, longest: usize, steps: &mut usize) -> Result<Option<String>, Undecided> {
        let start: Vec<Positions> = self
            .globs
            .iter()
            .map(|glob| closed(glob, vec![0]))
            .collect();
        // Not the start: it is left without a name, and may be reached again with one.
        let mut seen = HashSet::new();
        let mut next = VecDeque::from([(start, String::new())]);
        while let Some((state, word)) = next.pop_front() {
            if word.len() == longest {
                continue;
            }
            for letter in &self.letters {
                *steps += self.globs.len();
                if *steps > MAX_STEPS || seen.len() * self.globs.len() > MAX_HELD {
                    return Err(Undecided);
                }
                let state: Vec<Positions> = self
                    .globs
                    .iter()
                    .zip(&state)
                    .map(|(glob, positions)| step(glob, positions, *letter))
                    .collect();
                if self.hopeless(&state) || !seen.insert(state.clone()) {
                    continue;
                }
                let mut word = word.clone();
                word.push(char::from(*letter));
                if self.accepts(&state) {
                    return Ok(Some(word));
                }
                next.push_back((state, word));
            }
        }
        Ok(None)
    }

    fn parts<'s>(&self, state: &'s [Positions]) -> [&'s [Positions]; 4] {
        let (must, rest) = state.split_at(1);
        let (own_deny, rest) = rest.split_at(self.own_deny);
        let (other_allow, other_deny) = rest.split_at(self.other_allow);
        [must, own_deny, other_allow, other_deny]
    }

    fn accepts(&self, state: &[Positions]) -> bool {
        let matched: Vec<bool> = self
            .globs
            .iter()
            .zip(state)
            .map(|(glob, positions)| is_match(glob, positions))
            .collect();
        let (own, other) = matched.split_at(1 + self.own_deny);
        let (other_allow, other_deny) = other.split_at(self.other_allow);
        let in_other = other_allow.contains(&true) && !other_deny.contains(&true);
        own[0] && !own[1..].contains(&true) && in_other == self.within
    }

    /// Whether no longer word can be accepted either, however it goes on.
    fn hopeless(&self, state: &[Positions]) -> bool {
        let [must, own_deny, other_allow, other_deny] = self.parts(state);
        let globs = |skip: usize| self.globs[skip..].iter();
        let dead = |positions: &[Positions]| positions.iter().all(Vec::is_empty);
        let any_for_ever = |skip: usize, positions: &[Positions]| {
            globs(skip)
                .zip(positions)
                .any(|(glob, positions)| matches_for_ever(glob, positions))
        };
        let (allow_at, deny_at) = (1 + self.own_deny, 1 + self.own_deny + self.other_allow);
        dead(must)
            || any_for_ever(1, own_deny)
            || if self.within {
                dead(other_allow) || any_for_ever(deny_at, other_deny)
            } else {
                any_for_ever(allow_at, other_allow) && dead(other_deny)
            }
    }
}

/// Every byte that some pattern names, and one that none does and that stands for all others.
fn letters(globs: &[&Glob]) -> Vec<u8> {
    let mut named: Vec<u8> = globs
        .iter()
        .flat_map(|glob| glob.as_str().bytes())
        .filter(|byte| !b"*?".contains(byte))
        .collect();
    named.sort_unstable();
    named.dedup();
    // Patterns hold printable characters only, so one of these is always left.
    let all = (b'a'..=b'z')
        .chain(b'0'..=b'9')
        .chain(b'A'..=b'Z')
        .chain(1..=127);
    let other = all.into_iter().find(|byte| !named.contains(byte));
    named.splice(0..0, other);
    named
}

/// What is reached without reading: a `*` may stand for nothing.
///
/// Of a pattern's stars only the last one reached counts: from there every word is matched that
/// an earlier position could match, so that the earlier ones are dropped. This keeps the sets
/// small, and the number of different ones near the pattern's length.
fn closed(glob: &Glob, mut positions: Positions) -> Positions {
    let pattern = glob.as_str().as_bytes();
    positions.sort_unstable();
    positions.dedup();
    let mut all = Positions::new();
    for at in positions {
        let mut at = at;
        all.push(at);
        while pattern.get(usize::from(at)) == Some(&b'*') {
            at += 1;
            all.push(at);
        }
    }
    all.sort_unstable();
    all.dedup();
    let is_star = |at: &u8| pattern.get(usize::from(*at)) == Some(&b'*');
    if let Some(last) = all.iter().rposition(is_star) {
        all.drain(..last);
    }
    all
}

/// One character further.
fn step(glob: &Glob, positions: &[u8], letter: u8) -> Positions {
    let pattern = glob.as_str().as_bytes();
    let mut after = Positions::new();
    for at in positions {
        match pattern.get(usize::from(*at)) {
            Some(b'*') => after.push(*at),
            Some(byte) if *byte == b'?' || *byte == letter => after.push(at + 1),
            _ => {}
        }
    }
    closed(glob, after)
}

fn is_match(glob: &Glob, positions: &[u8]) -> bool {
    positions.last().map(|at| usize::from(*at)) == Some(glob.as_str().len())
}

/// Whether every longer word matches, too: only stars are left.
fn matches_for_ever(glob: &Glob, positions: &[u8]) -> bool {
    let rest = |at: &u8| &glob.as_str().as_bytes()[usize::from(*at)..];
    positions
        .iter()
        .any(|at| !rest(at).is_empty() && rest(at).iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests;
