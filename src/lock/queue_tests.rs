use super::*;

/// Redis, as far as a queue knows it: who may hold what beside whom.
struct World {
    queues: Queues,
    now: Instant,
    next: Ticket,
}

const LOCK: Bytes = Bytes::from_static(b"lock");
const TTL: Duration = Duration::from_secs(30);
const A_WHILE: Duration = Duration::from_secs(20);

impl World {
    fn new() -> Self {
        Self {
            queues: Queues::default(),
            now: Instant::now(),
            next: 0,
        }
    }

    fn join(&mut self, kind: Kind, until: Option<Instant>) -> Ticket {
        self.next += 1;
        let wish = Wish {
            ticket: self.next,
            kind,
            since: self.now,
            until,
        };
        self.queues.join(&LOCK, wish);
        self.next
    }

    /// Somebody who waits long.
    fn wait(&mut self, kind: Kind) -> Ticket {
        let until = self.now + Duration::from_secs(3600);
        self.join(kind, Some(until))
    }

    fn tries(&mut self) -> Vec<Try> {
        self.queues.tries()
    }

    /// Who is tried for now; whether they may take it.
    fn tried(&mut self) -> Vec<(Ticket, bool)> {
        let tries = self.tries();
        let told = tries.iter().map(|tried| (tried.ticket, !tried.is_behind));
        let told = told.collect();
        for tried in &tries {
            self.refuse(tried);
        }
        told
    }

    fn refuse(&mut self, tried: &Try) -> bool {
        self.queues.refused(tried, A_WHILE, self.now)
    }

    fn take(&mut self, tried: &Try) -> bool {
        self.queues.took(tried, TTL, self.now)
    }
}

#[test]
fn the_first_tries_and_who_comes_behind_it_is_asked_for_once() {
    let mut world = World::new();
    let first = world.wait(Kind::Exclusive);
    assert_eq!(world.tried(), [(first, true)]);
    let second = world.wait(Kind::Exclusive);
    assert_eq!(world.tried(), [(second, false)]);
    assert_eq!(world.tried(), [], "nothing has happened since");
    world.queues.wake(&LOCK);
    assert_eq!(world.tried(), [(first, true)]);
}

#[test]
fn who_holds_it_is_the_first_no_more_and_the_next_takes_its_place() {
    let mut world = World::new();
    let (first, second) = (world.wait(Kind::Exclusive), world.wait(Kind::Exclusive));
    let tries = world.tries();
    assert_eq!(tries.len(), 1, "one may hold it");
    let next = tries[0].next.map(|(ticket, ..)| ticket);
    assert_eq!((tries[0].ticket, next), (first, Some(second)));
    assert!(world.take(&tries[0]));
    assert_eq!(world.tried(), [(second, true)]);
    world.queues.leave(&LOCK, second);
    assert_eq!(world.tried(), []);
    assert_eq!(world.queues.left(), [LOCK], "its mark is taken away");
    assert_eq!((world.queues.len(), world.queues.next_due()), (0, None));
}

#[test]
fn readers_and_permits_go_together_up_to_who_wants_something_else() {
    for (kind, most) in [(Kind::Shared, 5), (Kind::Permits(3), 3)] {
        let mut world = World::new();
        let alike: Vec<_> = (0..5).map(|_| world.wait(kind)).collect();
        let writer = world.wait(Kind::Exclusive);
        let late = world.wait(kind);
        let tries = world.tries();
        let tickets: Vec<_> = tries.iter().map(|tried| tried.ticket).collect();
        assert_eq!(tickets, alike[..most]);
        tries.iter().for_each(|tried| assert!(world.take(tried)));
        let rest = world.tries().into_iter().map(|tried| tried.ticket);
        let rest: Vec<_> = rest.collect();
        match kind {
            Kind::Shared => assert_eq!(rest, [writer]),
            _ => assert_eq!(rest, alike[most..]),
        }
        assert!(!rest.contains(&late));
    }
}

#[test]
fn who_does_not_wait_is_refused_at_once_and_the_next_is_asked_for() {
    let mut world = World::new();
    let (writer, reader) = (
        world.join(Kind::Exclusive, None),
        world.join(Kind::Shared, None),
    );
    let tries = world.tries();
    assert_eq!(tries.len(), 1, "{writer} first: it may be free");
    assert!(!world.refuse(&tries[0]));
    assert_eq!(world.tried(), [(reader, true)]);
    assert_eq!(world.queues.len(), 0);
    assert_eq!(world.tried(), []);
    assert_eq!(world.queues.left().len(), 0, "nobody left a mark");
}

#[test]
fn a_wait_is_over_in_time_unless_its_answer_is_on_the_way() {
    let mut world = World::new();
    let until = world.now + Duration::from_secs(5);
    let (first, second) = (
        world.join(Kind::Exclusive, Some(until)),
        world.join(Kind::Exclusive, Some(until)),
    );
    let tries = world.tries();
    assert_eq!(world.queues.next_due(), Some(until));
    world.now = until;
    assert_eq!(world.queues.due(until), [(LOCK, second)]);
    assert!(!world.refuse(&tries[0]), "{first} does not wait on");
    assert_eq!(world.tried(), []);
    assert_eq!(world.queues.left(), [LOCK]);
}

#[test]
fn the_first_looks_again_by_itself_and_when_the_holder_expires() {
    for (pause, after) in [
        (A_WHILE, POLL_EVERY),
        (Duration::from_millis(300), Duration::from_millis(301)),
    ] {
        let mut world = World::new();
        let first = world.wait(Kind::Exclusive);
        let tries = world.tries();
        world.queues.refused(&tries[0], pause, world.now);
        let due = world.queues.next_due().expect("a retry");
        assert_eq!(due, world.now + after);
        world.now = due;
        assert_eq!(world.queues.due(due), []);
        assert_eq!(world.tried(), [(first, true)]);
    }
}

#[test]
fn what_happens_during_a_try_is_not_lost() {
    let mut world = World::new();
    let first = world.wait(Kind::Exclusive);
    let tries = world.tries();
    world.queues.wake(&LOCK);
    assert_eq!(world.tries(), [], "one try at a time");
    world.refuse(&tries[0]);
    assert_eq!(world.tried(), [(first, true)]);
}

#[test]
fn who_left_while_it_was_tried_for_is_told_and_the_line_goes_on() {
    let mut world = World::new();
    let (first, second) = (world.wait(Kind::Exclusive), world.wait(Kind::Exclusive));
    let tries = world.tries();
    world.queues.leave(&LOCK, first);
    assert_eq!(world.tries(), [], "one try at a time");
    assert!(!world.take(&tries[0]), "{first} has left");
    assert_eq!(world.tried(), [(second, true)]);
}

/// The release that follows may come too late, or fail: then nobody else says that the lock is free.
#[test]
fn who_is_next_looks_by_itself_though_the_one_before_left_while_it_was_tried_for() {
    let mut world = World::new();
    let (first, second) = (world.wait(Kind::Exclusive), world.wait(Kind::Exclusive));
    assert_eq!(world.tried(), [(first, true)]);
    assert_eq!(world.tried(), [(second, false)]);
    world.now += POLL_EVERY;
    assert_eq!(world.queues.due(world.now), []);
    let tries = world.tries();
    world.queues.leave(&LOCK, first);
    assert!(!world.take(&tries[0]), "{first} has left");
    assert_eq!(world.tried(), [], "it is told that it is next");
    world.now += POLL_EVERY;
    assert_eq!(world.queues.due(world.now), []);
    assert_eq!(world.tried(), [(second, true)]);
}

#[test]
fn who_lost_it_on_the_way_is_back_in_its_old_place() {
    let mut world = World::new();
    let first = world.wait(Kind::Exclusive);
    let since = world.now;
    let tries = world.tries();
    assert!(world.take(&tries[0]));
    world.now += Duration::from_secs(1);
    let second = world.wait(Kind::Exclusive);
    assert_eq!(world.tried(), [(second, true)]);
    let wish = Wish {
        ticket: first,
        kind: Kind::Exclusive,
        since,
        until: Some(world.now + A_WHILE),
    };
    world.queues.join(&LOCK, wish);
    assert_eq!(world.tried(), [(first, true)]);
    world.queues.wake(&LOCK);
    assert_eq!(world.tried(), [(first, true)]);
}
