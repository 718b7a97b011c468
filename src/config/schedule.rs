//! When something is to be done again and again: by the hands of a clock in some place, or every so often.
//!
//! What is scheduled has an identity, its *slot*: the moment at which it falls due, in milliseconds since 1970. Every daemon
//! that reads the same schedule finds the same slots, whenever it was started.

use super::value::parse_cron;
use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A schedule that fires.
#[derive(Clone)]
pub struct Schedule(Kind);

#[derive(Clone)]
enum Kind {
    /// Every time that the hands stand so in that zone: an hour that is left out in spring has its slot when it is over, and of
    /// one that comes twice in autumn a single moment is one slot.
    Cron {
        text: String,
        cron: Arc<Cron>,
        zone: TimeZone,
        zone_name: String,
    },
    /// Counted from the beginning of 1970, so that all daemons mean the same moments.
    Every(Duration),
}

impl Schedule {
    /// Reads a cron expression with seconds, for a time zone by its name.
    ///
    /// # Errors
    /// What is wrong with either, in words that follow *is `…`: *.
    pub fn cron(text: &str, zone_name: &str) -> Result<Self, String> {
        let cron = Arc::new(parse_cron(text)?);
        let zone = TimeZone::get(zone_name).map_err(|error| error.to_string())?;
        let (text, zone_name) = (text.to_owned(), zone_name.to_owned());
        Ok(Self(Kind::Cron {
            text,
            cron,
            zone,
            zone_name,
        }))
    }

    /// Every so often; at least once a millisecond.
    pub fn every(period: Duration) -> Self {
        Self(Kind::Every(period.max(Duration::from_millis(1))))
    }

    /// The last slot that is not after `now_ms`; `None`: there was none.
    pub fn latest(&self, now_ms: u64) -> Option<u64> {
        match &self.0 {
            Kind::Every(period) => Some(now_ms - now_ms % millis(*period)),
            Kind::Cron { cron, zone, .. } => {
                let now = zoned(now_ms, zone)?;
                let slot = cron.find_previous_occurrence(&now, true).ok()?;
                u64::try_from(slot.timestamp().as_millisecond()).ok()
            }
        }
    }

    /// The first slot after `now_ms`; `None`: there is none for thousands of years.
    pub fn next(&self, now_ms: u64) -> Option<u64> {
        match &self.0 {
            Kind::Every(period) => {
                let period = millis(*period);
                (now_ms - now_ms % period).checked_add(period)
            }
            Kind::Cron { cron, zone, .. } => {
                let now = zoned(now_ms, zone)?;
                let slot = cron.find_next_occurrence(&now, false).ok()?;
                u64::try_from(slot.timestamp().as_millisecond()).ok()
            }
        }
    }
}

/// A parsed expression is five kilobytes, and prints pages.
impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Every(period) => write!(f, "every {period:?}"),
            Kind::Cron {
                text, zone_name, ..
            } => write!(f, "`{text}` in {zone_name}"),
        }
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Every(one), Kind::Every(other)) => one == other,
            (
                Kind::Cron {
                    text, zone_name, ..
                },
                Kind::Cron {
                    text: text_b,
                    zone_name: zone_b,
                    ..
                },
            ) => (text, zone_name) == (text_b, zone_b),
            _ => false,
        }
    }
}

fn zoned(now_ms: u64, zone: &TimeZone) -> Option<jiff::Zoned> {
    let now = Timestamp::from_millisecond(i64::try_from(now_ms).ok()?).ok()?;
    Some(now.to_zoned(zone.clone()))
}

fn millis(period: Duration) -> u64 {
    u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> u64 {
        let time: Timestamp = text.parse().unwrap();
        u64::try_from(time.as_millisecond()).unwrap()
    }

    /// The slots after a moment, one after the other.
    fn slots(schedule: &Schedule, after: &str, many: usize) -> Vec<String> {
        let mut now = ms(after);
        let mut slots = Vec::new();
        for _ in 0..many {
            now = schedule.next(now).unwrap();
            let slot = Timestamp::from_millisecond(i64::try_from(now).unwrap()).unwrap();
            slots.push(slot.to_string());
        }
        slots
    }

    #[test]
    fn a_slot_is_its_own_latest_one_and_the_next_comes_after_it() {
        let ten = Schedule::cron("0 */10 * * * *", "UTC").unwrap();
        for (now, latest) in [
            ("2026-11-22T05:50:00Z", "2026-11-22T05:50:00Z"),
            ("2026-11-22T05:50:00.001Z", "2026-11-22T05:50:00Z"),
            ("2026-11-22T05:59:59.999Z", "2026-11-22T05:50:00Z"),
        ] {
            assert_eq!(ten.latest(ms(now)), Some(ms(latest)), "{now}");
            assert_eq!(ten.next(ms(now)), Some(ms("2026-11-22T06:00:00Z")), "{now}");
            let every = Schedule::every(Duration::from_secs(600));
            assert_eq!(every.latest(ms(now)), Some(ms(latest)), "{now}");
            assert_eq!(every.next(ms(now)), Some(ms("2026-11-22T06:00:00Z")));
        }
    }

    #[test]
    fn a_slot_in_the_hour_that_spring_leaves_out_comes_when_that_is_over_and_once() {
        let berlin = Schedule::cron("0 30 2 * * *", "Europe/Berlin").unwrap();
        // At 01:00 UTC the clocks of Berlin go from 2 to 3.
        let seen = slots(&berlin, "2026-03-27T12:00:00Z", 3);
        assert_eq!(
            seen,
            [
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:30:00Z"
            ]
        );
    }

    #[test]
    fn a_slot_in_the_hour_that_autumn_gives_twice_comes_once() {
        let berlin = Schedule::cron("0 30 2 * * *", "Europe/Berlin").unwrap();
        let seen = slots(&berlin, "2026-10-24T12:00:00Z", 2);
        assert_eq!(seen, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        // Whenever somebody asks, and however the wall clock is spelled then.
        for now in [
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:29:59Z",
            "2026-10-25T01:45:00Z",
        ] {
            let latest = berlin.latest(ms(now));
            assert_eq!(latest, Some(ms("2026-10-25T00:30:00Z")), "{now}");
        }
    }

    #[test]
    fn a_leap_day_is_waited_for() {
        let leap = Schedule::cron("0 0 0 29 2 *", "UTC").unwrap();
        let seen = slots(&leap, "2026-11-22T00:00:00Z", 1);
        assert_eq!(seen, ["2028-02-29T00:00:00Z"]);
    }

    #[test]
    fn it_prints_as_it_was_declared() {
        let cron = Schedule::cron("0 0 3 * * *", "Asia/Tokyo").unwrap();
        assert_eq!(format!("{cron:?}"), "`0 0 3 * * *` in Asia/Tokyo");
        assert_ne!(cron, Schedule::cron("0 0 3 * * *", "UTC").unwrap());
        assert_ne!(cron, Schedule::every(Duration::from_secs(1)));
        assert_eq!(cron, cron.clone());
    }
}
