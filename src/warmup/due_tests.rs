//! The rules of what is due, on scripted time.

use super::*;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
/// Noon of some day.
const NOON: u64 = 20_000 * 24 * 60 * MINUTE + 12 * 60 * MINUTE;

fn every_ten_minutes() -> Due {
    let schedule = Schedule::cron("0 */10 * * * *", "UTC").unwrap();
    Due::new(Some(schedule), false)
}

/// A look that finds nothing noted.
fn at(now: u64) -> Look {
    Look {
        now,
        ..Look::default()
    }
}

fn noted(now: u64, slot: u64) -> Look {
    Look {
        now,
        slot: Some(slot),
        began: Some(slot),
        ended: Some(slot + SECOND),
    }
}

#[test]
fn slots_from_before_the_first_daemon_are_nobodys() {
    let mut due = every_ten_minutes();
    due.look(&at(NOON + MINUTE));
    assert_eq!(due.cause(NOON + 9 * MINUTE), None);
    assert_eq!(
        due.cause(NOON + 10 * MINUTE),
        Some(Cause::Slot(NOON + 10 * MINUTE))
    );
}

#[test]
fn slots_that_nobody_ran_are_made_up_for_by_one_run() {
    let mut due = every_ten_minutes();
    let now = NOON + 63 * MINUTE;
    due.look(&noted(now, NOON));
    let slot = NOON + 60 * MINUTE;
    assert_eq!(due.cause(now), Some(Cause::Slot(slot)));
    let over = due.ran(now, now + SECOND);
    assert_eq!(over, (Some(slot), 0));
    assert_eq!(due.cause(now + 2 * SECOND), None);
}

#[test]
fn a_slot_that_another_daemon_has_run_is_over() {
    let mut due = every_ten_minutes();
    due.look(&at(NOON + MINUTE));
    let now = NOON + 10 * MINUTE + SECOND;
    assert!(due.cause(now).is_some());
    due.look(&noted(now, NOON + 10 * MINUTE));
    assert_eq!(due.cause(now), None);
}

#[test]
fn a_slot_that_comes_while_a_run_goes_on_is_skipped_and_counted() {
    let mut due = every_ten_minutes();
    due.look(&at(NOON - MINUTE));
    let over = due.ran(NOON + SECOND, NOON + 25 * MINUTE);
    assert_eq!(over, (Some(NOON + 20 * MINUTE), 2));
    assert_eq!(due.cause(NOON + 26 * MINUTE), None);
    assert!(due.cause(NOON + 30 * MINUTE).is_some());
}

#[test]
fn no_jump_of_the_clock_runs_a_slot_twice() {
    let mut due = every_ten_minutes();
    due.look(&at(NOON - MINUTE));
    let hour = 60 * MINUTE;
    let mut runs = Vec::new();
    // On, an hour ahead, an hour back, on again until that hour has come.
    let course = [NOON, NOON + hour + SECOND, NOON + 2 * SECOND]
        .into_iter()
        .chain((0..120).map(|minute| NOON + minute * MINUTE));
    for now in course {
        due.look(&at(now));
        if let Some(Cause::Slot(slot)) = due.cause(now) {
            runs.push(slot);
            due.ran(now, now + SECOND);
        }
    }
    let mut once = runs.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(runs, once, "each once, and in order");
    assert_eq!(runs[..2], [NOON, NOON + hour]);
    assert_eq!(runs[2], NOON + hour + 10 * MINUTE);
}

#[test]
fn a_note_from_years_ahead_stops_nothing() {
    let mut due = every_ten_minutes();
    due.look(&noted(NOON + MINUTE, NOON * 2));
    assert!(due.cause(NOON + 10 * MINUTE).is_some());
}

#[test]
fn a_start_is_answered_by_whoever_ran_since() {
    let mut due = Due::new(None, true);
    assert!(!due.has_started());
    due.look(&noted(NOON, NOON - MINUTE));
    assert_eq!(due.cause(NOON), Some(Cause::Start));
    let other = Look {
        now: NOON + SECOND,
        began: Some(NOON - SECOND),
        ended: Some(NOON + SECOND / 2),
        slot: None,
    };
    due.look(&other);
    assert_eq!(due.cause(NOON + SECOND), None);
    assert!(due.has_started());
}

#[test]
fn a_sweep_is_answered_by_a_run_that_began_since_and_only_by_that() {
    let mut due = Due::new(None, false);
    due.look(&at(NOON));
    due.swept(NOON);
    due.swept(NOON + SECOND / 2);
    assert_eq!(due.cause(NOON + SECOND / 2), None, "others may follow");
    assert_eq!(due.cause(NOON + SECOND), Some(Cause::Sweep));
    let began = |began| Look {
        now: NOON + SECOND,
        began: Some(began),
        ended: Some(NOON + SECOND),
        slot: None,
    };
    due.look(&began(NOON - 1));
    assert_eq!(due.cause(NOON + SECOND), Some(Cause::Sweep));
    due.look(&began(NOON + 1));
    assert_eq!(due.cause(NOON + SECOND), None);
}

#[test]
fn a_cache_that_is_swept_all_the_time_is_not_warmed_all_the_time() {
    let mut due = Due::new(None, false);
    due.look(&at(NOON));
    let mut runs = 0;
    for second in 0..60 {
        let now = NOON + second * SECOND;
        due.swept(now);
        if due.cause(now).is_some() {
            due.ran(now, now);
            runs += 1;
        }
    }
    assert_eq!(runs, 6);
}

#[test]
fn a_run_that_failed_is_tried_again_later_and_later() {
    let mut due = Due::new(None, true);
    due.look(&at(NOON));
    let mut now = NOON;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(due.cause(now), Some(Cause::Start));
        due.failed(now);
        assert_eq!(due.cause(now), None);
        let failed = now;
        while due.cause(now).is_none() {
            now += u64::try_from(due.wait(now).as_millis()).unwrap();
        }
        pauses.push((now - failed) / SECOND);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn the_wait_ends_with_the_next_slot_or_a_look_at_the_clock() {
    let mut due = every_ten_minutes();
    due.look(&at(NOON + MINUTE));
    assert_eq!(due.wait(NOON + MINUTE), Duration::from_secs(10));
    assert_eq!(
        due.wait(NOON + 10 * MINUTE - 300),
        Duration::from_millis(300)
    );
}

#[test]
fn what_redis_has_forgotten_is_warmed_again_where_that_is_wanted() {
    for wanted in [true, false] {
        let mut due = Due::new(None, false).after_loss(wanted);
        due.look(&at(NOON));
        due.look(&at(NOON + SECOND));
        assert_eq!(due.cause(NOON + MINUTE), None, "nothing was noted");
        due.look(&noted(NOON + MINUTE, NOON));
        due.look(&noted(NOON + MINUTE, NOON));
        assert_eq!(due.cause(NOON + 2 * MINUTE), None, "it is noted");
        due.look(&at(NOON + 2 * MINUTE));
        let cause = due.cause(NOON + 3 * MINUTE);
        assert_eq!(cause, wanted.then_some(Cause::Sweep));
        due.ran(NOON + 3 * MINUTE, NOON + 4 * MINUTE);
        due.look(&at(NOON + 5 * MINUTE));
        assert_eq!(due.cause(NOON + 6 * MINUTE), None, "once");
    }
}
