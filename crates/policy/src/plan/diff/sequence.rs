//! What two sequences have in common.

use std::ops::Range;

/// Most pairs of elements that are compared, beside those that begin and end alike. Where there
/// are more, all of them go and come.
const MOST_PAIRS: usize = 1 << 20;

/// A stretch that differs: these elements go, and those come in their place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) goes: Range<usize>,
    pub(super) comes: Range<usize>,
}

/// The stretches between what stays, of which there is as much as possible.
pub(super) fn gaps(before: &[usize], after: &[usize]) -> Vec<Gap> {
    let alike = |(one, other): &(&usize, &usize)| one == other;
    let head = before.iter().zip(after).take_while(alike).count();
    let (one, other) = (&before[head..], &after[head..]);
    let tail = one.iter().rev().zip(other.iter().rev());
    let tail = tail.take_while(alike).count();
    let (one, other) = (&one[..one.len() - tail], &other[..other.len() - tail]);
    let mut gaps = Vec::new();
    let (mut from, mut to) = (0, 0);
    let end = (one.len(), other.len());
    for (place, counterpart) in common(one, other).into_iter().chain([end]) {
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
fn common(one: &[usize], other: &[usize]) -> Vec<(usize, usize)> {
    let width = other.len() + 1;
    if one.len().saturating_mul(width) > MOST_PAIRS {
        return Vec::new();
    }
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
