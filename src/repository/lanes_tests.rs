use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::keyspace::{KeyTemplate, Router};
use crate::repository::call::{Answer, Call};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Lanes named `a`, `b`, … of a pool, at a time that is told.
struct World {
    lanes: Lanes,
    router: Router,
    now: Instant,
}

impl World {
    fn new(connections: usize, caches: usize, max_loads: usize) -> Self {
        let mut lanes = Lanes::new(connections);
        for name in ["a", "b", "c", "d", "e", "f"].iter().take(caches) {
            lanes.add(name, max_loads, TIMEOUT);
        }
        let template = KeyTemplate::parse("k:{id:int}").unwrap();
        Self {
            lanes,
            router: Router::new(&[("k".to_owned(), template)], &[]),
            now: Instant::now(),
        }
    }

    /// Lets `count` keys of one call wait.
    fn admit(&mut self, cache: usize, count: usize, admission: Admission) -> Arc<Call> {
        let call = Call::new(count, TIMEOUT);
        let route = self.router.route(b"k:1").unwrap();
        let key = route.with_key(Bytes::from_static(b"k:1"));
        let keys = (0..count).map(|slot| Pending::new(key.clone(), slot, &call));
        let keys = keys.collect();
        self.lanes.admit(cache, keys, admission, self.now);
        call
    }

    /// Starts what may start, no statement being awaited any moment; gives the caches and how many keys each statement has.
    fn start(&mut self) -> (Vec<Work>, Vec<(usize, usize)>) {
        for id in 0..=self.lanes.next_id {
            self.lanes.late(id);
        }
        self.start_promptly()
    }

    fn start_promptly(&mut self) -> (Vec<Work>, Vec<(usize, usize)>) {
        let works = self.lanes.start(self.now);
        let sizes = works
            .iter()
            .map(|work| (work.cache, work.keys.len()))
            .collect();
        (works, sizes)
    }

    fn finish(&mut self, work: &Work, end: End) {
        self.lanes.finish(work.id, end, Vec::new(), self.now);
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }
}

fn refused(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.is_err()).count()
}

#[test]
fn a_lane_has_half_of_the_connections_and_what_waits_goes_together() {
    let mut world = World::new(4, 1, 1000);
    let mut calls = Vec::new();
    let mut works = Vec::new();
    for expected in [vec![(0, 1)], vec![(0, 1)], vec![], vec![]] {
        calls.push(world.admit(0, 1, Admission::Wait));
        let (started, sizes) = world.start();
        assert_eq!(sizes, expected);
        works.extend(started);
    }
    calls.push(world.admit(0, 5, Admission::Wait));
    assert_eq!(world.lanes.waiting(), 7);
    world.finish(&works[0], End::Answered);
    assert_eq!(world.start().1, [(0, 7)]);
}

#[test]
fn few_keys_wait_for_a_statement_that_may_be_back_any_moment_and_many_do_not() {
    let mut world = World::new(8, 1, 1000);
    let mut calls = vec![world.admit(0, 1, Admission::Wait)];
    let (first, sizes) = world.start_promptly();
    assert_eq!(sizes, [(0, 1)]);
    calls.push(world.admit(0, WORTH_A_STATEMENT - 1, Admission::Wait));
    assert_eq!(world.start_promptly().1, []);
    calls.push(world.admit(0, 1, Admission::Wait));
    let (second, sizes) = world.start_promptly();
    assert_eq!(sizes, [(0, WORTH_A_STATEMENT)]);
    calls.push(world.admit(0, 1, Admission::Wait));
    world.lanes.late(first[0].id);
    assert_eq!(world.start_promptly().1, []);
    world.finish(&second[0], End::Answered);
    assert_eq!(world.start_promptly().1, [(0, 1)]);
}

#[test]
fn lanes_take_turns() {
    let mut world = World::new(2, 3, 1000);
    let calls: Vec<_> = (0..3)
        .map(|cache| world.admit(cache, 9, Admission::Wait))
        .collect();
    let (works, sizes) = world.start();
    assert_eq!(sizes, [(0, 9), (1, 9)]);
    let more = world.admit(0, 3, Admission::Wait);
    world.finish(&works[0], End::Answered);
    assert_eq!(world.start().1, [(2, 9)]);
    world.finish(&works[1], End::Answered);
    assert_eq!(world.start().1, [(0, 3)]);
    drop((calls, more));
}

#[test]
fn a_callers_keys_stay_together_and_no_more_than_max_loads_statements_run() {
    let mut world = World::new(8, 1, 2);
    let calls = [5, 5, 5].map(|keys| {
        let call = world.admit(0, keys, Admission::Wait);
        (call, world.start())
    });
    let sizes = calls.each_ref().map(|(_, (_, sizes))| sizes.clone());
    assert_eq!(sizes, [vec![(0, 5)], vec![(0, 5)], vec![]]);
    world.finish(&calls[0].1.0[0], End::Answered);
    assert_eq!(world.start().1, [(0, 5)]);
}

#[tokio::test]
async fn what_the_queue_has_no_room_for_is_busy_and_the_rest_is_not() {
    let mut world = World::new(2, 1, 2);
    let eager = world.admit(0, 3, Admission::NoWait);
    let patient = world.admit(0, 2 * QUEUE_FACTOR, Admission::Wait);
    let late = world.admit(0, 2, Admission::Wait);
    assert_eq!(world.lanes.waiting(), 2 + 2 * QUEUE_FACTOR);
    drop(world);
    for (call, keys, refused) in [(eager, 3, 1), (patient, 2 * QUEUE_FACTOR, 0), (late, 2, 2)] {
        let answers = call.answers().await;
        let busy = |answer: &&Answer| matches!(answer, Err(LoadError::Busy { limit: 2, .. }));
        assert_eq!(answers.len(), keys);
        assert_eq!(answers.iter().filter(busy).count(), refused);
    }
}

#[test]
fn keys_that_nobody_waits_for_make_room_and_are_not_sent() {
    let mut world = World::new(2, 1, 1);
    let gone = world.admit(0, QUEUE_FACTOR, Admission::Wait);
    world.pass(2_001);
    let stays = world.admit(0, 1, Admission::Wait);
    assert_eq!(world.lanes.waiting(), 1);
    drop((gone, stays));
}

#[test]
fn suspect_lanes_together_have_half_until_one_of_their_own_succeeds() {
    let mut world = World::new(4, 3, 1000);
    let mut calls = Vec::new();
    let mut works = Vec::new();
    for cache in [0, 0, 1] {
        calls.push(world.admit(cache, 1, Admission::Wait));
        works.extend(world.start().0);
    }
    world.pass(250);
    for work in &works {
        world.lanes.overdue(work.id);
    }
    calls.push(world.admit(1, 1, Admission::Wait));
    assert_eq!(world.start().1, [], "three of four are suspect already");
    calls.push(world.admit(2, 1, Admission::Wait));
    assert_eq!(world.start().1, [(2, 1)]);
    world.finish(&works[2], End::Answered);
    assert_eq!(world.start().1, [(1, 1)]);
}

#[test]
fn the_youngest_suspect_makes_room_for_a_lane_above_suspicion() {
    let mut world = World::new(4, 3, 1000);
    let mut calls = Vec::new();
    let mut works = Vec::new();
    for cache in [0, 1, 0, 1] {
        calls.push(world.admit(cache, 1, Admission::Wait));
        works.extend(world.start().0);
        world.pass(1);
    }
    calls.push(world.admit(2, 1, Admission::Wait));
    assert_eq!(world.start().1, []);
    for work in &works {
        world.lanes.overdue(work.id);
    }
    assert_eq!(world.start().1, []);
    let told: Vec<_> = works
        .iter_mut()
        .map(|work| work.evicted.try_recv().is_ok())
        .collect();
    assert_eq!(told, [false, false, false, true], "one, and the youngest");
    let last = works.pop().unwrap();
    let keys = last.keys;
    world.lanes.finish(last.id, End::Evicted, keys, world.now);
    assert_eq!(world.start().1, [(2, 1)]);
    assert_eq!(world.lanes.waiting(), 1, "what made room waits again");
    world.finish(&works[1], End::Answered);
    assert_eq!(world.start().1, [(1, 1)]);
}

#[test]
fn nobody_makes_room_while_a_connection_is_free_or_nobody_else_waits() {
    let mut world = World::new(4, 3, 1000);
    let mut calls = Vec::new();
    let mut works = Vec::new();
    for cache in [0, 1, 0] {
        calls.push(world.admit(cache, 1, Admission::Wait));
        works.extend(world.start().0);
    }
    for work in &works {
        world.lanes.overdue(work.id);
    }
    calls.push(world.admit(2, 1, Admission::Wait));
    works.extend(world.start().0);
    calls.push(world.admit(1, 1, Admission::Wait));
    assert_eq!(world.start().1, []);
    assert!(
        works
            .iter_mut()
            .all(|work| work.evicted.try_recv().is_err())
    );
}

#[test]
fn a_slow_query_is_sent_few_keys_at_a_time_and_more_again_when_it_is_quick() {
    let mut world = World::new(2, 1, 1000);
    let calls: Vec<_> = (0..6)
        .map(|_| world.admit(0, 100, Admission::Wait))
        .collect();
    let (works, sizes) = world.start();
    assert_eq!(sizes, [(0, 600)]);
    world.pass(2_000);
    world.finish(&works[0], End::TimedOut);
    drop((works, calls));
    world.now = Instant::now();
    let call = world.admit(0, 600, Admission::Wait);
    let (works, sizes) = world.start();
    assert_eq!(
        sizes,
        [(0, 150)],
        "a quarter of what took the whole timeout"
    );
    world.pass(1);
    world.finish(&works[0], End::Answered);
    assert_eq!(world.start().1, [(0, 450)]);
    drop(call);
}

#[tokio::test]
async fn without_connections_all_that_waits_and_comes_is_refused_until_there_are_some() {
    let mut world = World::new(4, 1, 10);
    let waits = world.admit(0, 2, Admission::Wait);
    world.lanes.refused_connection(0, &Arc::from("gone"));
    let comes = world.admit(0, 2, Admission::Wait);
    for call in [waits, comes] {
        let answers = call.answers().await;
        let reason = Arc::from("gone");
        assert_eq!(answers, vec![Err(LoadError::Unavailable { reason }); 2]);
    }
    world.lanes.connected();
    let later = world.admit(0, 2, Admission::Wait);
    assert_eq!(world.start().1, [(0, 2)]);
    assert_eq!(
        refused(&later.answers().await),
        2,
        "the test dropped its statement"
    );
}

#[test]
fn with_some_connections_refused_the_others_are_made_do_with() {
    let mut world = World::new(8, 2, 1);
    world.lanes.refused_connection(1, &Arc::from("too many"));
    let calls = [
        world.admit(0, 1, Admission::Wait),
        world.admit(1, 1, Admission::Wait),
    ];
    assert_eq!(world.start().1, [(0, 1)]);
    world.lanes.connected();
    assert_eq!(world.start().1, [(1, 1)]);
    drop(calls);
}
