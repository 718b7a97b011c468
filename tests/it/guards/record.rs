//! What was answered and what was written, and whether that may be so.

use std::collections::BTreeMap;
use std::time::Instant;

/// An acquisition that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Acquired {
    pub sent: Instant,
    pub answered: Instant,
    pub fence: i64,
}

/// How many acquisitions of one lock have a fence that is not higher than one that was answered before they were sent.
pub fn unordered(acquired: &[Acquired]) -> usize {
    let (mut by_answer, mut by_sending) = (acquired.to_vec(), acquired.to_vec());
    by_answer.sort_by_key(|one| one.answered);
    by_sending.sort_by_key(|one| one.sent);
    let mut answered = by_answer.iter().peekable();
    let (mut highest, mut wrong) = (i64::MIN, 0);
    for one in by_sending {
        while let Some(before) = answered.next_if(|before| before.answered < one.sent) {
            highest = highest.max(before.fence);
        }
        wrong += usize::from(one.fence <= highest);
    }
    wrong
}

/// How many writes, in the order in which they were committed, come behind one under a newer fence of the same lock.
pub fn overtaken(writes: &[(String, i64)]) -> usize {
    let mut newest = BTreeMap::new();
    let mut wrong = 0;
    for (lock, fence) in writes {
        let newest = newest.entry(lock).or_insert(*fence);
        wrong += usize::from(fence < newest);
        *newest = (*newest).max(*fence);
    }
    wrong
}

#[test]
fn fences_that_fall_are_found_and_those_of_acquisitions_side_by_side_are_not() {
    let begun = Instant::now();
    let at = |ms| begun + std::time::Duration::from_millis(ms);
    let acquired = |sent, answered, fence| Acquired {
        sent: at(sent),
        answered: at(answered),
        fence,
    };
    let rising = [acquired(0, 10, 1), acquired(20, 30, 2), acquired(5, 40, 3)];
    assert_eq!(unordered(&rising), 0);
    let side_by_side = [acquired(0, 10, 2), acquired(5, 30, 1)];
    assert_eq!(unordered(&side_by_side), 0);
    let falling = [acquired(0, 10, 2), acquired(11, 30, 1)];
    assert_eq!(unordered(&falling), 1);
    let twice = [acquired(0, 10, 2), acquired(11, 30, 2)];
    assert_eq!(unordered(&twice), 1);
}
