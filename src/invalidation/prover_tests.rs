use super::*;

/// Looks, a tenth of a second apart.
struct Looks {
    start: Instant,
    memory: Memory,
}

impl Looks {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            memory: Memory::default(),
        }
    }

    fn at(&self, tenth: u64) -> Instant {
        self.start + Duration::from_millis(100 * tenth)
    }

    fn saw(&mut self, tenth: u64, ids: &[i64], applying: &[i64]) -> Proof {
        let look = Look {
            begun: self.at(tenth),
            ids: ids.to_vec(),
            at_us: 0,
        };
        self.memory.saw(&look, &applying.iter().copied().collect())
    }

    fn proof(&self, fresh: u64, applied: u64) -> Proof {
        Proof {
            fresh: Some(self.at(fresh)),
            applied: Some(self.at(applied)),
        }
    }
}

const NOTHING: Proof = Proof {
    fresh: None,
    applied: None,
};

#[test]
fn an_empty_queue_proves_all_that_was_committed_before_the_look() {
    let mut looks = Looks::new();
    assert_eq!(looks.saw(1, &[], &[]), looks.proof(1, 1));
    assert_eq!(looks.saw(2, &[], &[]), looks.proof(2, 2));
}

#[test]
fn what_waits_was_committed_after_the_last_look_that_did_not_see_it() {
    let mut looks = Looks::new();
    looks.saw(1, &[], &[]);
    // Ids become visible in any order.
    assert_eq!(looks.saw(2, &[7], &[]), looks.proof(1, 1));
    assert_eq!(looks.saw(3, &[3, 7], &[]), looks.proof(1, 1));
    assert_eq!(looks.saw(4, &[3], &[]), looks.proof(2, 2));
    assert_eq!(looks.saw(5, &[], &[]), looks.proof(5, 5));
}

#[test]
fn what_was_there_at_the_first_look_may_be_of_any_age() {
    let mut looks = Looks::new();
    assert_eq!(looks.saw(1, &[7], &[]), NOTHING);
    assert_eq!(looks.saw(2, &[7, 8], &[]), NOTHING);
    assert_eq!(looks.saw(3, &[8], &[]), looks.proof(1, 1));
}

#[test]
fn what_we_are_applying_counts_for_the_barrier_and_again_once_that_failed() {
    let mut looks = Looks::new();
    looks.saw(1, &[], &[]);
    assert_eq!(looks.saw(2, &[7], &[7]), looks.proof(2, 1));
    assert_eq!(looks.saw(3, &[7, 8], &[7]), looks.proof(2, 1));
    assert_eq!(looks.saw(4, &[7], &[]), looks.proof(1, 1));
}

#[test]
fn rows_beyond_those_seen_prove_nothing_now_or_later() {
    let mut looks = Looks::new();
    looks.saw(1, &[], &[]);
    let many: Vec<i64> = (0..10_000).collect();
    assert_eq!(looks.saw(2, &many, &[]), NOTHING);
    // This one may have been there before, behind the others.
    assert_eq!(looks.saw(3, &[10_001], &[]), looks.proof(1, 1));
    assert_eq!(looks.saw(4, &[], &[]), looks.proof(4, 4));
}

#[test]
fn who_has_not_looked_for_a_while_was_out_of_reach() {
    let mut looks = Looks::new();
    assert!(looks.memory.was_out_of_reach(looks.at(0)));
    looks.saw(1, &[], &[]);
    assert!(!looks.memory.was_out_of_reach(looks.at(9)));
    assert!(looks.memory.was_out_of_reach(looks.at(12)));
}
