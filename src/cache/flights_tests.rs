use super::*;

const PATIENCE: Duration = Duration::from_secs(1);

/// Flights of one key, `k`: readers are numbers, answers are texts.
struct Shard {
    flights: Flights<(), u32, &'static str>,
    now: Instant,
}

impl Shard {
    fn new() -> Self {
        Self {
            flights: Flights::new(100),
            now: Instant::now(),
        }
    }

    /// A shard whose first flight was sent to acquire, led by reader 1.
    fn acquiring() -> Self {
        let mut shard = Self::new();
        assert_eq!(shard.join(1), Join::Led);
        shard.send();
        shard
    }

    /// ... and whose load was sent.
    fn loading(leased: bool) -> Self {
        let mut shard = Self::acquiring();
        let acquired = if leased {
            Acquired::Leased
        } else {
            Acquired::NoLease
        };
        match shard.acquired(acquired) {
            Next::Load { leased: as_told } => assert_eq!(as_told, leased),
            next => panic!("{next:?}"),
        }
        shard
    }

    /// ... and whose load, joined by reader 2, has come back to be filled.
    fn filling() -> Self {
        let mut shard = Self::loading(true);
        shard.join(2);
        match shard.loaded(Loaded::Fill("v")) {
            Next::End { fill: true } => shard,
            next => panic!("{next:?}"),
        }
    }

    fn join(&mut self, reader: u32) -> Join<u32> {
        self.flights.join(&key(), &(), reader)
    }

    /// Sends what is queued: the one flight, and only once.
    fn send(&mut self) {
        let queued = self.flights.take_queued();
        assert!(matches!(&queued[..], [(only, (), _)] if *only == key()));
        assert!(!self.flights.any_queued());
    }

    fn acquired(&mut self, acquired: Acquired<&'static str>) -> Next<u32, &'static str> {
        self.flights.acquired(&key(), acquired, self.now, PATIENCE)
    }

    fn loaded(&mut self, loaded: Loaded<&'static str>) -> Next<u32, &'static str> {
        self.flights.loaded(&key(), loaded)
    }

    fn ended(&mut self, ended: Ended) -> Next<u32, &'static str> {
        self.flights.ended(&key(), ended)
    }

    /// Takes a flight that is loading under a lease through a refusal, and on to the next load.
    fn refuse_and_read_again(&mut self) {
        assert!(matches!(
            self.loaded(Loaded::Fill("old")),
            Next::End { fill: true }
        ));
        assert_waits(&self.ended(Ended::Refused));
        self.send();
        assert!(matches!(
            self.acquired(Acquired::Leased),
            Next::Load { leased: true }
        ));
    }

    /// The next flight is queued with these readers and no others.
    fn assert_next_flight(&mut self, readers: &[u32]) {
        self.send();
        assert_answers(&self.acquired(Acquired::There("next")), readers, "next");
        self.assert_nothing_left();
    }

    fn assert_nothing_left(&self) {
        assert!(self.flights.is_empty());
        assert_eq!(self.flights.len(), 0);
        assert_eq!(self.flights.waiting, 0, "readers counted as waiting");
        assert_eq!(self.flights.parked, 0, "flights counted as parked");
        assert!(!self.flights.any_queued());
    }
}

fn key() -> Bytes {
    Bytes::from_static(b"k")
}

fn assert_answers(next: &Next<u32, &str>, readers: &[u32], answer: &str) {
    match next {
        Next::Answer(told, what) => assert_eq!((told.as_slice(), *what), (readers, answer)),
        other => panic!("{other:?} instead of `{answer}` for {readers:?}"),
    }
}

fn assert_waits(next: &Next<u32, &str>) {
    assert!(matches!(next, Next::Wait), "{next:?}");
}

#[test]
fn readers_who_come_before_the_look_up_is_sent_share_it() {
    let mut shard = Shard::new();
    assert_eq!(shard.join(1), Join::Led);
    assert_eq!(shard.join(2), Join::Joined);
    shard.assert_next_flight(&[1, 2]);
}

#[test]
fn flights_of_different_keys_do_not_meet() {
    let mut flights: Flights<u8, u32, &str> = Flights::new(100);
    let (one, two) = (Bytes::from_static(b"1"), Bytes::from_static(b"2"));
    assert_eq!(flights.join(&one, &1, 1), Join::Led);
    assert_eq!(flights.join(&two, &2, 2), Join::Led);
    assert_eq!(flights.item(b"2"), Some(&2));
    assert_eq!(
        flights.take_queued(),
        [(one.clone(), 1, false), (two.clone(), 2, false)],
        "in order of arrival"
    );
    let now = Instant::now();
    let next = flights.acquired(&two, Acquired::There("v"), now, PATIENCE);
    assert_answers(&next, &[2], "v");
    assert_eq!(flights.len(), 1);
    assert_eq!(flights.item(b"2"), None);
}

#[test]
fn a_value_that_is_there_after_all_is_not_for_who_came_after_the_look_up_was_sent() {
    let mut shard = Shard::acquiring();
    assert_eq!(shard.join(2), Join::Joined);
    assert_answers(&shard.acquired(Acquired::There("v")), &[1], "v");
    shard.assert_next_flight(&[2]);
}

#[test]
fn who_came_while_the_lease_was_being_acquired_comes_before_the_read() {
    let mut shard = Shard::acquiring();
    shard.join(2);
    assert!(matches!(
        shard.acquired(Acquired::Leased),
        Next::Load { leased: true }
    ));
    shard.loaded(Loaded::Pass("v"));
    assert_answers(&shard.ended(Ended::Ours), &[1, 2], "v");
    shard.assert_nothing_left();
}

#[test]
fn what_was_filled_goes_to_all_who_joined_the_load() {
    let mut shard = Shard::filling();
    assert_answers(&shard.ended(Ended::Ours), &[1, 2], "v");
    shard.assert_nothing_left();
}

#[test]
fn who_comes_after_the_fill_was_sent_gets_the_next_read() {
    let mut shard = Shard::filling();
    assert_eq!(shard.join(3), Join::Joined);
    assert_answers(&shard.ended(Ended::Ours), &[1, 2], "v");
    shard.assert_next_flight(&[3]);
}

#[test]
fn nobody_joins_a_load_without_a_lease() {
    let mut shard = Shard::loading(false);
    shard.join(2);
    assert_answers(&shard.loaded(Loaded::Fill("v")), &[1], "v");
    shard.assert_next_flight(&[2]);
}

#[test]
fn what_is_not_to_be_cached_gives_its_lease_back_and_goes_to_the_early_only() {
    let mut shard = Shard::loading(true);
    shard.join(2);
    assert!(matches!(
        shard.loaded(Loaded::Pass("v")),
        Next::End { fill: false }
    ));
    shard.join(3);
    assert_answers(&shard.ended(Ended::Ours), &[1], "v");
    shard.assert_next_flight(&[2, 3]);
}

#[test]
fn what_is_not_to_be_cached_is_read_again_if_its_lease_was_gone() {
    let mut shard = Shard::loading(true);
    shard.loaded(Loaded::Pass("old"));
    assert_waits(&shard.ended(Ended::Refused));
    shard.assert_next_flight(&[1]);
}

#[test]
fn a_refused_fill_answers_nobody_and_everybody_gets_the_read_that_follows() {
    let mut shard = Shard::filling();
    shard.join(3);
    assert_waits(&shard.ended(Ended::Refused));
    assert_eq!(shard.join(4), Join::Joined);
    shard.send();
    shard.acquired(Acquired::Leased);
    shard.loaded(Loaded::Fill("new"));
    assert_answers(&shard.ended(Ended::Ours), &[1, 2, 3, 4], "new");
    shard.assert_nothing_left();
}

#[test]
fn the_third_refusal_answers_who_came_before_its_read_and_the_others_read_on() {
    let mut shard = Shard::loading(true);
    for reader in 2..2 + u32::from(MAX_REFUSALS) - 1 {
        shard.join(reader);
        shard.refuse_and_read_again();
    }
    shard.join(10);
    shard.loaded(Loaded::Fill("last"));
    shard.join(11);
    assert_answers(&shard.ended(Ended::Refused), &[1, 2, 3], "last");
    shard.assert_next_flight(&[10, 11]);
}

#[test]
fn refusals_are_counted_anew_for_the_next_flight() {
    let mut shard = Shard::loading(true);
    for _ in 1..MAX_REFUSALS {
        shard.refuse_and_read_again();
    }
    shard.join(2);
    shard.loaded(Loaded::Fill("last"));
    assert_answers(&shard.ended(Ended::Refused), &[1], "last");
    shard.send();
    shard.acquired(Acquired::Leased);
    shard.refuse_and_read_again();
    shard.loaded(Loaded::Fill("new"));
    assert_answers(&shard.ended(Ended::Ours), &[2], "new");
    shard.assert_nothing_left();
}

#[test]
fn a_fill_that_may_or_may_not_have_happened_goes_to_the_early_only() {
    let mut shard = Shard::filling();
    shard.join(3);
    assert_answers(&shard.ended(Ended::Unknown), &[1], "v");
    shard.assert_next_flight(&[2, 3]);
}

#[test]
fn a_failed_load_tells_everybody_and_ends_the_flight() {
    for leased in [true, false] {
        let mut shard = Shard::loading(leased);
        shard.join(2);
        assert_answers(&shard.loaded(Loaded::Failed("no")), &[1, 2], "no");
        shard.assert_nothing_left();
    }
}

#[test]
fn nobody_joins_a_load_whose_key_was_invalidated() {
    let mut shard = Shard::loading(true);
    shard.join(2);
    shard.flights.close(b"k");
    shard.join(3);
    shard.loaded(Loaded::Fill("v"));
    assert_answers(&shard.ended(Ended::Ours), &[1, 2], "v");
    shard.assert_next_flight(&[3]);
}

#[test]
fn who_came_after_an_invalidation_is_not_told_the_failure_from_before_it() {
    let mut shard = Shard::loading(false);
    shard.flights.close(b"k");
    shard.join(2);
    assert_answers(&shard.loaded(Loaded::Failed("error")), &[1], "error");
    shard.send();
    shard.acquired(Acquired::Leased);
    shard.loaded(Loaded::Fill("new"));
    assert_answers(&shard.ended(Ended::Ours), &[2], "new");
    shard.assert_nothing_left();
}

#[test]
fn a_closed_flight_that_reads_again_is_open_again() {
    let mut shard = Shard::loading(true);
    shard.flights.close(b"k");
    shard.refuse_and_read_again();
    shard.join(2);
    shard.loaded(Loaded::Fill("new"));
    assert_answers(&shard.ended(Ended::Ours), &[1, 2], "new");
    shard.assert_nothing_left();
}

#[test]
fn closing_what_does_not_fly_does_nothing() {
    let mut shard = Shard::new();
    shard.flights.close(b"k");
    shard.assert_nothing_left();
}

#[test]
fn a_flight_held_up_by_another_daemon_looks_again_ever_more_slowly() {
    let mut shard = Shard::acquiring();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        assert_waits(&shard.acquired(Acquired::Held));
        assert!(shard.flights.any_parked());
        let parked = shard.flights.flights[&key()].parked.expect("parked");
        pauses.push((parked.due - shard.now).as_millis());
        shard
            .flights
            .wake_parked(parked.due - Duration::from_nanos(1));
        assert!(!shard.flights.any_queued(), "woken too early");
        shard.flights.wake_parked(parked.due);
        assert!(!shard.flights.any_parked());
        shard.send();
        shard.now = parked.due;
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 50, 50]);
}

#[test]
fn a_parked_flight_is_joined_and_finds_what_the_other_daemon_filled() {
    let mut shard = Shard::acquiring();
    shard.join(2);
    assert_waits(&shard.acquired(Acquired::Held));
    assert_eq!(shard.join(3), Join::Joined);
    shard.flights.wake_parked(shard.now + PATIENCE);
    shard.send();
    shard.join(4);
    let there = shard.acquired(Acquired::There("theirs"));
    match there {
        Next::Answer(mut told, "theirs") => {
            told.sort_unstable();
            assert_eq!(told, [1, 2, 3]);
        }
        other => panic!("{other:?}"),
    }
    shard.assert_next_flight(&[4]);
}

#[test]
fn a_parked_flight_may_get_the_lease_after_all() {
    let mut shard = Shard::acquiring();
    shard.acquired(Acquired::Held);
    shard.flights.wake_parked(shard.now + PATIENCE);
    shard.send();
    assert!(matches!(
        shard.acquired(Acquired::Leased),
        Next::Load { leased: true }
    ));
    shard.loaded(Loaded::Fill("v"));
    assert_answers(&shard.ended(Ended::Ours), &[1], "v");
    shard.assert_nothing_left();
}

#[test]
fn patience_ends_with_a_load_without_a_lease() {
    let mut shard = Shard::acquiring();
    assert_waits(&shard.acquired(Acquired::Held));
    shard.now += PATIENCE - Duration::from_nanos(1);
    shard.flights.wake_parked(shard.now);
    shard.send();
    assert_waits(&shard.acquired(Acquired::Held));
    shard.now += SLOWEST_POLL;
    shard.flights.wake_parked(shard.now);
    shard.send();
    assert!(matches!(
        shard.acquired(Acquired::Held),
        Next::Load { leased: false }
    ));
    assert_answers(&shard.loaded(Loaded::Fill("v")), &[1], "v");
    shard.assert_nothing_left();
}

/// 1. reader 1's look-up is sent; 2. reader 2 comes; 3. another daemon, which is dead, holds the lease; 4. patience ends.
///
/// Left to a flight of its own, reader 2 would now wait for the dead holder once more, and its time would be up.
#[test]
fn a_dead_holder_costs_nobody_patience_twice() {
    let mut shard = Shard::acquiring();
    shard.join(2);
    assert_waits(&shard.acquired(Acquired::Held));
    shard.now += PATIENCE;
    shard.flights.wake_parked(shard.now);
    shard.send();
    shard.join(3);
    assert!(matches!(
        shard.acquired(Acquired::Held),
        Next::Load { leased: false }
    ));
    assert_answers(&shard.loaded(Loaded::Fill("v")), &[1, 2, 3], "v");
    shard.assert_nothing_left();
}

#[test]
fn one_more_than_may_wait_is_refused_and_room_comes_back_with_every_answer() {
    let mut shard = Shard::new();
    shard.flights = Flights::new(2);
    shard.join(1);
    shard.join(2);
    assert_eq!(shard.join(3), Join::Full(3));
    shard.send();
    assert_answers(&shard.acquired(Acquired::There("v")), &[1, 2], "v");
    assert_eq!(shard.join(3), Join::Led);
    assert_eq!(shard.join(4), Join::Joined);
    assert_eq!(shard.join(5), Join::Full(5));
    shard.assert_next_flight(&[3, 4]);
}

#[test]
fn answers_for_flights_that_are_over_are_ignored() {
    let mut shard = Shard::new();
    assert_waits(&shard.acquired(Acquired::There("v")));
    assert_waits(&shard.loaded(Loaded::Fill("v")));
    assert_waits(&shard.ended(Ended::Ours));
    shard.assert_nothing_left();
}

/// Random lives of one shard; the model check does the same for the protocol, this for the bookkeeping.
#[test]
fn every_reader_is_answered_exactly_once_whatever_comes_back() {
    for seed in 0..2_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut shard = Shard::new();
        let mut left: Vec<u32> = (0..12).collect();
        let mut answered = Vec::new();
        let mut steps = 0;
        while !(left.is_empty() && shard.flights.is_empty()) {
            steps += 1;
            assert!(steps < 10_000, "seed {seed} goes round in circles");
            if random.bool()
                && let Some(reader) = left.pop()
            {
                assert!(!matches!(shard.join(reader), Join::Full(_)));
                continue;
            }
            let Some(flight) = shard.flights.flights.get(&key()) else {
                continue;
            };
            let phase = flight.phase;
            let next = match phase {
                Phase::Queued => {
                    shard.send();
                    continue;
                }
                Phase::Parked => {
                    shard.now += SLOWEST_POLL;
                    shard.flights.wake_parked(shard.now);
                    continue;
                }
                Phase::Acquiring => shard.acquired(match random.u8(0..4) {
                    0 => Acquired::There("v"),
                    1 => Acquired::Leased,
                    2 => Acquired::Held,
                    _ => Acquired::NoLease,
                }),
                Phase::Loading { .. } => shard.loaded(match random.u8(0..3) {
                    0 => Loaded::Fill("v"),
                    1 => Loaded::Pass("v"),
                    _ => Loaded::Failed("no"),
                }),
                Phase::Ending { .. } => {
                    let ends = [Ended::Ours, Ended::Refused, Ended::Unknown];
                    shard.ended(ends[random.usize(0..3)])
                }
            };
            if let Next::Answer(told, _) = next {
                answered.extend(told);
            }
        }
        answered.sort_unstable();
        assert_eq!(answered, (0..12).collect::<Vec<_>>(), "seed {seed}");
        shard.assert_nothing_left();
    }
}
