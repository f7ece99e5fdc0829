//! What two sequences have in common.

use std::ops::Range;

/// A stretch that differs: these elements go, and those come in their place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) goes: Range<usize>,
    pub(super) comes: Range<usize>,
}

/// The stretches between what stays, of which there is as much as possible. Beside what begins and
/// ends alike, each element is compared with each, as long as so many comparisons are left; after
/// that all of them go and come.
pub(super) fn gaps(before: &[usize], after: &[usize], left: &mut usize) -> Vec<Gap> {
    let alike = |(one, other): &(&usize, &usize)| one == other;
    let head = before.iter().zip(after).take_while(alike).count();
    let (one, other) = (&before[head..], &after[head..]);
    let tail = one.iter().rev().zip(other.iter().rev());
    let tail = tail.take_while(alike).count();
    let (one, other) = (&one[..one.len() - tail], &other[..other.len() - tail]);
    let mut gaps = Vec::new();
    let (mut from, mut to) = (0, 0);
    let end = (one.len(), other.len());
    for (place, counterpart) in common(one, other, left).into_iter().chain([end]) {
        if place > from || counterpart > to {
            gaps.push(Gap {
                goes: head + from..head + place,
                comes: head + to..head + counterpart,
            });
        }
        (from, to) = (place + 1, counterpart + 1);
    }
    gaps
}

/// The places of a longest common subsequence, in order.
fn common(one: &[usize], other: &[usize], left: &mut usize) -> Vec<(usize, usize)> {
    let width = other.len() + 1;
    let Some(rest) = left.checked_sub(one.len().saturating_mul(other.len())) else {
        return Vec::new();
    };
    *left = rest;
    // How much the rests from each pair of places on have in common.
    let mut lengths = vec![0u32; (one.len() + 1) * width];
    for place in (0..one.len()).rev() {
        for counterpart in (0..other.len()).rev() {
            let at = place * width + counterpart;
            lengths[at] = if one[place] == other[counterpart] {
                lengths[at + width + 1] + 1
            } else {
                lengths[at + width].max(lengths[at + 1])
            };
        }
    }
    let (mut place, mut counterpart) = (0, 0);
    let mut pairs = Vec::new();
    while place < one.len() && counterpart < other.len() {
        let at = place * width + counterpart;
        if one[place] == other[counterpart] {
            pairs.push((place, counterpart));
            (place, counterpart) = (place + 1, counterpart + 1);
        } else if lengths[at + width] >= lengths[at + 1] {
            place += 1;
        } else {
            counterpart += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_as_much_as_possible_while_there_is_time() {
        let found = |before: &[usize], after: &[usize], left: &mut usize| {
            let gaps = gaps(before, after, left).into_iter();
            gaps.map(|gap| (gap.goes, gap.comes)).collect::<Vec<_>>()
        };
        let mut left = 16;
        assert_eq!(found(&[1, 2, 3], &[1, 2, 3], &mut left), []);
        assert_eq!(found(&[1, 2], &[1, 9, 2], &mut left), [(1..1, 1..2)]);
        assert_eq!(left, 16, "beginnings and ends cost nothing");
        let moved = [(0..1, 0..0), (2..3, 1..2), (4..4, 3..4)];
        assert_eq!(found(&[1, 2, 3, 4], &[2, 5, 4, 6], &mut left), moved);
        assert_eq!(left, 0);
        let all = [(0..4, 0..4)];
        assert_eq!(found(&[1, 2, 3, 4], &[2, 5, 4, 6], &mut left), all);
        assert_eq!(found(&[], &[1], &mut left), [(0..0, 0..1)]);
    }
}
