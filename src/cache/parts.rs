//! What goes to Redis in one exchange, and how much may be on its way at once.
//!
//! One connection answers in order: whatever is asked for behind a reply of a hundred megabytes waits for all of it, and
//! what waits longer than `redis.timeout` counts as an outage, for everybody. So what is large goes in parts, one part after
//! the other, and others go in between.

use std::collections::VecDeque;

/// Keys of one part: what Redis does for them holds up everybody else for as long as it runs.
pub(super) const MAX_PART_KEYS: usize = 256;

/// Bytes of values of one part, unless a single one has more. Over a network of 1 Gbit/s they take 35 ms.
pub(super) const MAX_PART_BYTES: usize = 4 << 20;

/// How much of what is to be sent goes in one part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) keys: usize,
    /// What their values have, or are expected to have, in bytes.
    pub(super) bytes: usize,
}

impl Part {
    /// The first part of what has so many `bytes` key by key: as much as it may be, and one key at least if there is one.
    pub(super) fn first(bytes: impl IntoIterator<Item = usize>) -> Self {
        let mut part = Part::default();
        for more in bytes.into_iter().take(MAX_PART_KEYS) {
            let sum = part.bytes.saturating_add(more);
            if part.keys > 0 && sum > MAX_PART_BYTES {
                break;
            }
            part.keys += 1;
            part.bytes = sum;
        }
        part
    }
}

/// The parts of one kind that are on their way: any number, while all of them together are no larger than one may be. So
/// small ones need not wait for one another, and large ones go one by one.
#[derive(Debug, Default)]
pub(super) struct Pace {
    out: usize,
    bytes: usize,
}

impl Pace {
    /// Whether this part may go now.
    pub(super) fn admits(&self, part: Part) -> bool {
        self.out == 0 || self.bytes.saturating_add(part.bytes) <= MAX_PART_BYTES
    }

    /// It went.
    pub(super) fn sent(&mut self, part: Part) {
        self.out += 1;
        self.bytes = self.bytes.saturating_add(part.bytes);
    }

    /// It came back.
    pub(super) fn came_back(&mut self, part: Part) {
        self.out = self.out.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(part.bytes);
    }

    /// How many are on their way.
    pub(super) fn out(&self) -> usize {
        self.out
    }
}

/// Batches that wait to go in parts; `C` is what all items of a batch have in common.
pub(super) struct Line<C, T> {
    waiting: VecDeque<(C, Vec<T>)>,
    pace: Pace,
}

impl<C: Copy, T> Line<C, T> {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            pace: Pace::default(),
        }
    }

    /// Adds a batch.
    pub(super) fn push(&mut self, common: C, items: Vec<T>) {
        if !items.is_empty() {
            self.waiting.push_back((common, items));
        }
    }

    /// The next part, if it may go now. What is left of its batch goes to the end: others go in between.
    pub(super) fn next(&mut self, bytes: impl Fn(&T) -> usize) -> Option<(C, Vec<T>, Part)> {
        let (common, items) = self.waiting.front_mut()?;
        let part = Part::first(items.iter().map(bytes));
        if !self.pace.admits(part) {
            return None;
        }
        let common = *common;
        let rest = items.split_off(part.keys);
        let items = std::mem::take(items);
        self.waiting.pop_front();
        self.push(common, rest);
        self.pace.sent(part);
        Some((common, items, part))
    }

    /// A part went that never stood in the line.
    pub(super) fn sent(&mut self, part: Part) {
        self.pace.sent(part);
    }

    /// A part came back.
    pub(super) fn came_back(&mut self, part: Part) {
        self.pace.came_back(part);
    }

    /// How many parts are on their way.
    pub(super) fn out(&self) -> usize {
        self.pace.out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_go_by_number_and_large_ones_by_bytes() {
        let first = |bytes: &[usize]| Part::first(bytes.iter().copied());
        assert_eq!(first(&[]), Part { keys: 0, bytes: 0 });
        let many = first(&[100; 1000]);
        assert_eq!(
            many,
            Part {
                keys: MAX_PART_KEYS,
                bytes: 100 * MAX_PART_KEYS
            }
        );
        let large = first(&[1 << 20; 1000]);
        assert_eq!(
            large,
            Part {
                keys: 4,
                bytes: MAX_PART_BYTES
            }
        );
        assert_eq!(first(&[1, MAX_PART_BYTES]), Part { keys: 1, bytes: 1 });
    }

    #[test]
    fn one_value_alone_always_goes() {
        let part = Part::first([usize::MAX, usize::MAX]);
        assert_eq!(
            part,
            Part {
                keys: 1,
                bytes: usize::MAX
            }
        );
        assert!(Pace::default().admits(part));
    }

    #[test]
    fn small_parts_go_together_and_a_large_one_only_when_the_others_are_back() {
        let small = Part {
            keys: 256,
            bytes: MAX_PART_BYTES / 4,
        };
        let large = Part {
            keys: 4,
            bytes: MAX_PART_BYTES,
        };
        let mut pace = Pace::default();
        for _ in 0..4 {
            assert!(pace.admits(small));
            pace.sent(small);
        }
        assert!(!pace.admits(small) && !pace.admits(large));
        for out in (0..4).rev() {
            pace.came_back(small);
            assert_eq!(pace.admits(large), out == 0);
        }
        pace.sent(large);
        assert!(!pace.admits(small));
    }

    #[test]
    fn what_is_left_of_a_batch_goes_to_the_end_of_the_line() {
        let mut line = Line::new();
        line.push('a', vec![MAX_PART_BYTES; 2]);
        line.push('b', vec![1, 1]);
        line.push('c', vec![]);
        let mut gone = Vec::new();
        while let Some((name, items, part)) = line.next(|bytes| *bytes) {
            assert_eq!(line.out(), 1);
            assert_eq!(line.next(|bytes| *bytes), None);
            line.came_back(part);
            gone.push((name, items.len()));
        }
        assert_eq!(gone, [('a', 1), ('b', 2), ('a', 1)]);
        assert_eq!(line.out(), 0);
    }
}
