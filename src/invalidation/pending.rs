//! The patterns that wait for a sweep: what is merged, what is widened, and which pass serves whom. Pure.
//!
//! A pattern that comes while a pass is under way has its leases ended at once, but is served by the next whole pass: the
//! one under way may have gone past its keys.

use crate::keyspace::Pattern;
use bytes::Bytes;
use uuid::Uuid;

/// Earlier announcements of one pattern that are remembered, to be withdrawn. Those before them expire.
const MAX_EARLIER: usize = 8;
/// Patterns of one prefix that wait; one more, and they wait as everything under that prefix.
pub(super) const MAX_A_PREFIX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Loads from before may still fill.
    New,
    /// Their leases are being ended. Who comes now is too late for that.
    Revoking,
    /// No load from before can fill; the next pass is theirs.
    Revoked,
    /// This pass is theirs.
    Swept,
}

struct Job<W> {
    id: Uuid,
    /// How it was announced before it broke off, here or in a daemon that is gone: this stands until it is announced anew.
    earlier: Vec<Sweep>,
    pattern: Pattern,
    stage: Stage,
    removed: u64,
    waiting: Vec<W>,
    claims: Vec<Bytes>,
}

/// A pattern on its way through the stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    pub(super) id: Uuid,
    pub(super) pattern: Pattern,
}

/// A pattern whose pass is over.
pub(super) struct Done<W> {
    pub(super) sweep: Sweep,
    /// Keys that were removed.
    pub(super) removed: u64,
    pub(super) waiting: Vec<W>,
}

/// The patterns that wait, with whoever (`W`) waits for them.
pub(super) struct Pending<W> {
    jobs: Vec<Job<W>>,
    /// What was announced and is not wanted any more: to be withdrawn.
    orphans: Vec<Sweep>,
}

impl<W> Default for Pending<W> {
    fn default() -> Self {
        Self {
            jobs: Vec::new(),
            orphans: Vec::new(),
        }
    }
}

impl<W> Pending<W> {
    /// Adds a pattern; `wide` is everything under its prefix. `claim` is deleted when its leases are ended.
    pub(super) fn add(
        &mut self,
        pattern: Pattern,
        wide: Pattern,
        waiting: Option<W>,
        claim: Option<Bytes>,
    ) {
        let job = self.place(pattern, wide);
        job.waiting.extend(waiting);
        job.claims.extend(claim);
    }

    /// Adds what a daemon that is gone has announced: that stands until it is announced anew.
    pub(super) fn adopt(&mut self, sweep: Sweep, wide: Pattern) {
        self.place(sweep.pattern.clone(), wide).remember(sweep);
    }

    /// The new job that sweeps a pattern, or everything under its prefix.
    fn place(&mut self, pattern: Pattern, wide: Pattern) -> &mut Job<W> {
        let crowded = self
            .jobs
            .iter()
            .filter(|job| job.pattern.head().starts_with(wide.head()))
            .count()
            >= MAX_A_PREFIX;
        let find = |jobs: &[Job<W>], pattern: &Pattern| {
            let is_it = |job: &Job<W>| job.stage == Stage::New && job.pattern == *pattern;
            jobs.iter().position(is_it)
        };
        let (at, pattern) = match find(&self.jobs, &pattern) {
            None if crowded => (find(&self.jobs, &wide), wide),
            at => (at, pattern),
        };
        let at = at.unwrap_or_else(|| {
            self.jobs.push(Job::new(pattern));
            self.jobs.len() - 1
        });
        &mut self.jobs[at]
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether any has come whose leases nobody has ended.
    pub(super) fn any_new(&self) -> bool {
        self.jobs.iter().any(|job| job.stage == Stage::New)
    }

    /// The new ones, and the claims to delete: their leases are being ended from now on.
    pub(super) fn take_new(&mut self) -> (Vec<Sweep>, Vec<Bytes>) {
        let (mut sweeps, mut claims) = (Vec::new(), Vec::new());
        for job in self.jobs.iter_mut().filter(|job| job.stage == Stage::New) {
            job.stage = Stage::Revoking;
            claims.append(&mut job.claims);
            sweeps.push(job.sweep());
        }
        (sweeps, claims)
    }

    /// Their leases have been ended.
    pub(super) fn revoked(&mut self) {
        self.advance(Stage::Revoking, Stage::Revoked);
    }

    /// A pass begins: whom it serves.
    pub(super) fn begin_pass(&mut self) -> Vec<Sweep> {
        self.advance(Stage::Revoked, Stage::Swept);
        self.under_way()
    }

    /// Keys of the pass under way were removed.
    pub(super) fn removed(&mut self, id: Uuid, keys: u64) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) {
            job.removed += keys;
        }
    }

    /// The pass is over, and was whole.
    pub(super) fn end_pass(&mut self) -> Vec<Done<W>> {
        let (done, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.jobs)
            .into_iter()
            .partition(|job| job.stage == Stage::Swept);
        self.jobs = left;
        done.into_iter().map(Job::done).collect()
    }

    /// This one was swept by itself; who waits for it, unless it is gone.
    pub(super) fn end(&mut self, id: Uuid) -> Vec<Done<W>> {
        let at = self.jobs.iter().position(|job| job.id == id);
        let done = at.map(|at| self.jobs.remove(at).done());
        done.into_iter().collect()
    }

    /// The connection was lost, or it is another server now: everything begins again with the leases, under new ids,
    /// because what was renewed since may be lost as well.
    pub(super) fn begin_again(&mut self) {
        for job in &mut self.jobs {
            if job.is_announced() {
                job.remember(job.sweep());
                job.id = Uuid::new_v4();
            }
            job.stage = Stage::New;
        }
    }

    /// What stands announced until it is announced anew.
    pub(super) fn broken(&self) -> Vec<Sweep> {
        self.jobs
            .iter()
            .flat_map(|job| job.earlier.clone())
            .collect()
    }

    /// The earlier announcements of what is announced anew: to be withdrawn.
    pub(super) fn take_superseded(&mut self) -> Vec<Sweep> {
        let mut superseded = Vec::new();
        for job in self.jobs.iter_mut().filter(|job| job.is_announced()) {
            superseded.append(&mut job.earlier);
        }
        superseded
    }

    /// Gives up whatever `is_meant`, announced or not: who waited for it.
    pub(super) fn cancel(&mut self, is_meant: impl Fn(&Pattern) -> bool) -> Vec<Done<W>> {
        let (cancelled, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.jobs)
            .into_iter()
            .partition(|job| is_meant(&job.pattern));
        self.jobs = left;
        for job in &cancelled {
            let begun = (job.stage != Stage::New).then(|| job.sweep());
            self.orphans
                .extend(job.earlier.iter().cloned().chain(begun));
        }
        cancelled.into_iter().map(Job::done).collect()
    }

    /// Whether it is announced, or was, by what is here.
    pub(super) fn knows(&self, id: Uuid) -> bool {
        let earlier = self.jobs.iter().flat_map(|job| &job.earlier);
        let mut others = earlier.chain(&self.orphans);
        self.holds(id) || others.any(|sweep| sweep.id == id)
    }

    /// Whether this one is still wanted.
    pub(super) fn holds(&self, id: Uuid) -> bool {
        self.jobs.iter().any(|job| job.id == id)
    }

    /// Whom the pass under way still serves.
    pub(super) fn under_way(&self) -> Vec<Sweep> {
        self.swept().map(Job::sweep).collect()
    }

    /// Whether any announcement is to be withdrawn.
    pub(super) fn any_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// Everybody who waits: nobody does any more, and the patterns stay.
    pub(super) fn take_waiting(&mut self) -> Vec<W> {
        let waiting = self.jobs.iter_mut();
        waiting.flat_map(|job| job.waiting.drain(..)).collect()
    }

    /// What is to be withdrawn.
    pub(super) fn take_orphans(&mut self) -> Vec<Sweep> {
        std::mem::take(&mut self.orphans)
    }

    /// The ones that are announced.
    pub(super) fn announced(&self) -> Vec<Sweep> {
        let announced = self.jobs.iter().filter(|job| job.is_announced());
        announced.map(Job::sweep).collect()
    }

    fn swept(&self) -> impl Iterator<Item = &Job<W>> {
        self.jobs.iter().filter(|job| job.stage == Stage::Swept)
    }

    fn advance(&mut self, from: Stage, to: Stage) {
        for job in self.jobs.iter_mut().filter(|job| job.stage == from) {
            job.stage = to;
        }
    }
}

impl<W> Job<W> {
    fn new(pattern: Pattern) -> Self {
        Self {
            id: Uuid::new_v4(),
            earlier: Vec::new(),
            pattern,
            stage: Stage::New,
            removed: 0,
            waiting: Vec::new(),
            claims: Vec::new(),
        }
    }

    /// It was announced so before.
    fn remember(&mut self, announced: Sweep) {
        if self.earlier.len() >= MAX_EARLIER {
            self.earlier.remove(0);
        }
        self.earlier.push(announced);
    }

    fn done(self) -> Done<W> {
        Done {
            sweep: self.sweep(),
            removed: self.removed,
            waiting: self.waiting,
        }
    }

    fn is_announced(&self) -> bool {
        matches!(self.stage, Stage::Revoked | Stage::Swept)
    }

    fn sweep(&self) -> Sweep {
        let (id, pattern) = (self.id, self.pattern.clone());
        Sweep { id, pattern }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text.as_bytes()).expect("a pattern")
    }

    fn add(pending: &mut Pending<u32>, text: &str, who: u32) {
        pending.add(pattern(text), pattern("a:*"), Some(who), None);
    }

    fn texts(sweeps: &[Sweep]) -> Vec<String> {
        sweeps.iter().map(|sweep| sweep.pattern.shown()).collect()
    }

    #[test]
    fn one_pass_serves_all_whose_leases_were_ended_before_it() {
        let mut pending = Pending::default();
        add(&mut pending, "a:1*", 1);
        add(&mut pending, "a:2*", 2);
        pending.take_new();
        pending.revoked();
        assert_eq!(texts(&pending.begin_pass()), ["a:1*", "a:2*"]);
        assert_eq!(pending.end_pass().len(), 2);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn who_comes_during_a_pass_is_served_by_the_next() {
        let mut pending = Pending::default();
        add(&mut pending, "a:1*", 1);
        pending.take_new();
        pending.revoked();
        pending.begin_pass();
        add(&mut pending, "a:1*", 2);
        assert!(pending.any_new());
        pending.take_new();
        pending.revoked();
        let done = pending.end_pass();
        assert_eq!(done.len(), 1);
        assert_eq!(done[0].waiting, [1]);
        assert_eq!(texts(&pending.begin_pass()), ["a:1*"]);
        assert_eq!(pending.end_pass()[0].waiting, [2]);
    }

    #[test]
    fn who_comes_while_leases_are_ended_has_them_ended_again() {
        let mut pending = Pending::default();
        add(&mut pending, "a:*", 1);
        add(&mut pending, "a:*", 2);
        assert_eq!(pending.take_new().0.len(), 1, "equal new patterns are one");
        add(&mut pending, "a:*", 3);
        pending.revoked();
        assert!(pending.any_new());
        pending.begin_pass();
        assert_eq!(pending.end_pass()[0].waiting, [1, 2]);
        assert_eq!(pending.take_new().0.len(), 1);
    }

    #[test]
    fn many_patterns_of_a_prefix_become_all_of_it() {
        let mut pending = Pending::default();
        for who in 0..10_000 {
            add(&mut pending, &format!("a:{who}*"), who);
        }
        assert_eq!(pending.len(), MAX_A_PREFIX + 1);
        let (sweeps, _) = pending.take_new();
        assert_eq!(sweeps[MAX_A_PREFIX].pattern.shown(), "a:*");
        pending.revoked();
        pending.begin_pass();
        let waiting = pending
            .end_pass()
            .into_iter()
            .map(|done| done.waiting.len());
        assert_eq!(waiting.sum::<usize>(), 10_000, "nobody is forgotten");
    }

    #[test]
    fn what_is_cancelled_is_left_and_its_announcement_is_to_be_withdrawn() {
        let mut pending = Pending::default();
        for (text, who) in [("a:1*", 1), ("a:2*", 2)] {
            add(&mut pending, text, who);
        }
        pending.take_new();
        pending.revoked();
        let pass = pending.begin_pass();
        add(&mut pending, "a:1*", 3);
        let cancelled = pending.cancel(|meant| *meant == pattern("a:1*"));
        let waiting: Vec<_> = cancelled
            .into_iter()
            .flat_map(|done| done.waiting)
            .collect();
        assert_eq!(waiting, [1, 3]);
        assert!(!pending.holds(pass[0].id) && pending.holds(pass[1].id));
        assert_eq!(texts(&pending.under_way()), ["a:2*"]);
        // The one that had not begun was never announced.
        assert!(pending.any_orphans());
        let orphans = pending.take_orphans();
        assert_eq!((orphans.len(), orphans[0].id), (1, pass[0].id));
        assert_eq!(pending.end_pass()[0].waiting, [2]);
    }

    #[test]
    fn after_a_loss_everything_begins_with_the_leases_and_keeps_who_waits() {
        let mut pending = Pending::default();
        add(&mut pending, "a:1*", 1);
        let (first, _) = pending.take_new();
        pending.revoked();
        pending.begin_pass();
        pending.begin_again();
        assert_eq!(pending.begin_pass().len(), 0, "leases first");
        let (again, _) = pending.take_new();
        assert_ne!(again[0].id, first[0].id);
        pending.revoked();
        pending.begin_pass();
        assert_eq!(pending.end_pass()[0].waiting, [1]);
    }

    #[test]
    fn what_is_adopted_stands_announced_as_it_was_until_it_is_announced_anew() {
        let mut pending = Pending::default();
        let left = |text: &str| Sweep {
            id: Uuid::new_v4(),
            pattern: pattern(text),
        };
        for who in 0..MAX_A_PREFIX {
            add(&mut pending, &format!("a:{who}*"), 1);
        }
        let (merged, widened) = (left("a:1*"), left("a:x*"));
        pending.adopt(merged.clone(), pattern("a:*"));
        pending.adopt(widened.clone(), pattern("a:*"));
        assert_eq!(pending.len(), MAX_A_PREFIX + 1);
        let left = [merged, widened];
        assert_eq!(pending.broken(), left);
        assert!(pending.knows(left[0].id));
        pending.take_new();
        assert!(pending.take_superseded().is_empty(), "leases first");
        pending.revoked();
        assert_eq!(pending.take_superseded(), left);
        assert!(!pending.knows(left[0].id));
    }

    #[test]
    fn what_breaks_off_stands_announced_until_it_is_announced_anew_or_cancelled() {
        let mut pending = Pending::default();
        add(&mut pending, "a:1*", 1);
        let (first, _) = pending.take_new();
        pending.begin_again();
        assert!(pending.broken().is_empty(), "it was never announced");
        pending.take_new();
        pending.revoked();
        for _ in 0..2 {
            pending.begin_again();
            assert_eq!(pending.broken()[0].id, first[0].id);
            pending.take_new();
            assert!(pending.take_superseded().is_empty(), "leases first");
        }
        pending.revoked();
        let superseded = pending.take_superseded();
        assert_eq!((superseded.len(), superseded[0].id), (1, first[0].id));
        assert!(pending.broken().is_empty());
        for _ in 0..MAX_EARLIER + 5 {
            pending.begin_again();
            pending.take_new();
            pending.revoked();
        }
        pending.begin_again();
        let broken = pending.broken();
        assert_eq!(broken.len(), MAX_EARLIER);
        pending.cancel(|_| true);
        let orphans = pending.take_orphans();
        assert_eq!(orphans.len(), MAX_EARLIER);
        assert_eq!(orphans[0].id, broken[0].id);
    }
}
