//! Listens to Redis' channels: messages, events, and what other daemons tell of their sweeps.
//!
//! Fast, and at most once: what is published while nobody listens is gone. So it is known since when nobody did, and
//! `on_deaf` says what follows from it ([`hearing`](super::hearing)).
//!
//! Every daemon of a fleet hears every message. Keys each of them invalidates by name: that is cheap, and closes its own
//! flights. Patterns are swept by the one that claims them first; the claim is deleted when the sweep begins to end leases,
//! so that who publishes later is never counted as served by a sweep that began before.

use super::actor::InvalidationParts;
use super::message::{self, Ack, Message, Refusal, shown};
use super::pending::Sweep;
use super::scripts::Notice;
use super::{InvalidationError, events, invalidate};
use crate::cache::Origin;
use crate::config::{Invalidation, OnDeaf};
use crate::keyspace::names::{SWEEPS_CHANNEL, claim_of};
use crate::keyspace::{Pattern, Targets, escape};
use crate::store::{Heard, StoreError, Subscription};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Messages being carried out, each with its acknowledgement to come. Beyond, what they name is swept unacknowledged.
const MAX_HANDLING: usize = 4096;
/// How long a claim stands if its sweep does not begin: then somebody else may.
const CLAIM_LIFE: Duration = Duration::from_secs(2);
/// How long a claim is held before its sweep begins, so that daemons which hear the same message a moment later find it.
const CLAIM_HELD: Duration = Duration::from_millis(10);
/// The pause before subscribing again, and before trying keys again: the first, doubled up to the longest, jittered by half.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long keys are tried again that could not be invalidated.
const TRY_KEYS_FOR: Duration = Duration::from_secs(60);
/// Refused messages logged in a while; the others are counted.
const LOGGED_A_WHILE: u32 = 10;
const WHILE: Duration = Duration::from_secs(10);

type Handling = FuturesUnordered<LocalBoxFuture<'static, ()>>;

/// What a subscriber works with.
#[derive(Clone)]
pub(super) struct Subscriber {
    parts: InvalidationParts,
    settings: Arc<Invalidation>,
    log: Arc<Mutex<Log>>,
    /// What we listen to, and for which prefixes; the same in daemons that listen to the same.
    covers: u128,
}

/// Since when refusals are logged, and how many were.
#[derive(Debug)]
struct Log {
    since: Instant,
    refused: u32,
}

impl Subscriber {
    pub(super) fn new(parts: InvalidationParts) -> Self {
        Self {
            settings: Arc::clone(&parts.settings),
            covers: covered(&parts),
            parts,
            log: Arc::new(Mutex::new(Log {
                since: Instant::now(),
                refused: 0,
            })),
        }
    }

    /// Listens, and again after every loss; runs until dropped. `listening` says whether it does.
    pub(super) async fn run(self, listening: watch::Sender<bool>) {
        let mut channels = self.settings.channels();
        channels.push(SWEEPS_CHANNEL.to_owned());
        let mut handling = Handling::new();
        listening.send_replace(false);
        // Starting is not being deaf; not getting through at the first try is, and being started again.
        let mut is_deaf = self.parts.hearing.begins();
        let mut pause = FIRST_PAUSE;
        loop {
            let subscribing = self.parts.store.subscribe(&channels);
            match drive(&mut handling, subscribing).await {
                Ok(mut subscription) => {
                    pause = FIRST_PAUSE;
                    if is_deaf {
                        self.hears_again(&mut handling);
                    } else if self.settings.on_deaf == OnDeaf::Invalidate {
                        handling.push(Box::pin(self.clone().begin()));
                    }
                    self.parts.hearing.heard_until(subscription.heard_at());
                    listening.send_replace(true);
                    self.listen(&mut subscription, &mut handling).await;
                    listening.send_replace(false);
                }
                Err(error) => tracing::debug!(%error, "cannot subscribe"),
            }
            is_deaf = true;
            self.count_deafness();
            let resting = tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0));
            drive(&mut handling, resting).await;
            self.count_deafness();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn count_deafness(&self) {
        let deaf = self.parts.hearing.take_deafness();
        let counter = &self.parts.metrics.subscriber_deaf;
        counter.inc_by(deaf.as_secs_f64());
    }

    fn hears_again(&self, handling: &mut Handling) {
        self.count_deafness();
        match self.settings.on_deaf {
            OnDeaf::Ignore => tracing::warn!(
                "published invalidations are heard again; what was published meanwhile is lost"
            ),
            OnDeaf::Invalidate => {
                tracing::warn!(
                    "published invalidations are heard again; everything is invalidated, for some may have been missed"
                );
                self.parts.hearing.set_sure(false);
                handling.push(Box::pin(self.clone().invalidate_everything()));
            }
        }
    }

    /// Nobody has told us what was published before we were there; unless another daemon has heard it, that was missed.
    async fn begin(self) {
        if self.parts.hearing.any_witness().await {
            self.parts.hearing.set_sure(true);
            return;
        }
        tracing::warn!(
            "no other daemon has heard what was published before this one was started; everything is invalidated, for some may have been missed"
        );
        self.invalidate_everything().await;
    }

    async fn invalidate_everything(self) {
        let patterns = self.parts.scope.everything().patterns.into_iter();
        let each = patterns.map(|pattern| {
            let targets = Targets {
                patterns: vec![pattern],
                ..Targets::default()
            };
            self.clone().carry_out(b"", targets, Origin::Deaf)
        });
        // What could not be done in time is done later.
        let _removed = futures_util::future::join_all(each).await;
        self.parts.hearing.set_sure(true);
    }

    /// Listens until the line is dead, or leads to a server on which nobody publishes.
    async fn listen(&self, subscription: &mut Subscription, handling: &mut Handling) {
        let parts = &self.parts;
        let proving = parts
            .hearing
            .prove(&parts.store, parts.instance, self.covers);
        let learning = async {
            self.learn_sweeps().await;
            pending::<Infallible>().await
        };
        tokio::select! {
            error = self.hear(subscription, handling) => {
                tracing::warn!(%error, "published invalidations are not heard");
            }
            until = proving => {
                parts.hearing.heard_until(until);
                tracing::warn!("published invalidations are not heard: what we publish ourselves does not come back");
            }
            never = learning => match never {},
        }
    }

    /// Hears until the line is dead.
    async fn hear(&self, subscription: &mut Subscription, handling: &mut Handling) -> StoreError {
        loop {
            match drive(handling, subscription.next()).await {
                Ok(heard) => {
                    self.parts.hearing.heard_until(subscription.heard_at());
                    if let Some(heard) = heard {
                        self.take(&heard, handling);
                    }
                }
                Err(error) => return error,
            }
        }
    }

    fn take(&self, heard: &Heard, handling: &mut Handling) {
        if heard.channel == SWEEPS_CHANNEL {
            return self.take_notice(&heard.payload);
        }
        if heard.channel == self.settings.channel {
            let message = message::read(&self.parts.scope, &heard.payload);
            self.refuse(&heard.payload, &message.refused);
            if handling.len() >= MAX_HANDLING {
                return self.sweep_unheard(message.targets);
            }
            handling.push(Box::pin(self.clone().answer(message)));
            return;
        }
        let (targets, refused) = events::read(
            &self.parts.scope,
            &self.settings.events,
            &heard.channel,
            &heard.payload,
        );
        self.refuse(&heard.payload, &refused);
        if targets.is_empty() {
            return;
        }
        if handling.len() >= MAX_HANDLING {
            return self.sweep_unheard(targets);
        }
        let work = self.clone().carry_out(b"", targets, Origin::Event);
        handling.push(Box::pin(async move { drop(work.await) }));
    }

    /// What another daemon tells of its sweeps.
    fn take_notice(&self, payload: &[u8]) {
        match Notice::read(payload) {
            Some(Notice::Announced {
                by,
                id,
                life,
                pattern,
            }) if by != self.parts.instance => {
                self.parts
                    .trace
                    .swept(&pattern, Origin::Elsewhere, Some(by));
                self.heed(Sweep { id, pattern }, life);
            }
            Some(Notice::Ended { by, id }) if by != self.parts.instance => {
                self.parts.others.ended(id);
                self.parts.sweeps.end(id);
            }
            Some(Notice::Echo { by, word, .. }) if by == self.parts.instance => {
                self.parts.hearing.echoed(word);
            }
            Some(Notice::Echo { covers, .. }) if covers == self.covers => {
                self.parts.hearing.witnessed();
            }
            _ => {}
        }
    }

    /// From now on hits that it matches are doubted; and if it is left, it is swept all the same.
    fn heed(&self, sweep: Sweep, life: Duration) {
        self.parts.sweeps.announce(sweep.id, &sweep.pattern, life);
        // Nobody makes us sweep what we do not declare.
        let reach = self.parts.scope.reach();
        if reach.pattern(sweep.pattern.text()).is_ok() {
            self.parts.others.announced(sweep, life);
        }
    }

    /// Sweeps that were announced before we listened, those too that were left before they had ended.
    async fn learn_sweeps(&self) {
        let (mut pause, mut is_told) = (FIRST_PAUSE, false);
        let sweeps = loop {
            match self.parts.scripts.list(&self.parts.store).await {
                Ok(sweeps) => break sweeps,
                // It is away, and will come back, or something is to be put right by somebody.
                Err(error) if !is_told && !error.is_outage() => {
                    is_told = true;
                    tracing::warn!(%error, "sweeps that were announced before are not known yet: what they are about to remove may be given out");
                }
                Err(error) => tracing::debug!(%error, "announced sweeps are not known yet"),
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        for (sweep, left) in sweeps {
            if !self.parts.queue.pending().knows(sweep.id) {
                self.heed(sweep, left);
            }
        }
    }

    /// Carries out a message, and acknowledges it.
    async fn answer(self, message: Message) {
        let begun = Instant::now();
        let mut error = message.error();
        let mut removed = None;
        if !message.targets.is_empty() {
            let id = message.id.as_deref().map_or("", RawValue::get).as_bytes();
            let done = self.clone().carry_out(id, message.targets, Origin::Pubsub);
            match done.await {
                Ok(Some(count)) => removed = Some(count),
                // Another daemon sweeps, and acknowledges.
                Ok(None) => return,
                Err(failed) => error = Some(error.unwrap_or_else(|| failed.to_string())),
            }
        }
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ack = Ack {
            id: message.id.as_deref(),
            removed,
            took_ms: removed.map(|_| took_ms),
            error,
            by: self.parts.instance.to_string(),
        };
        // What we write is always JSON.
        let text = serde_json::to_vec(&ack).unwrap_or_default();
        let sent = self.parts.store.publish(&self.settings.ack_channel, &text);
        if let Err(error) = sent.await {
            tracing::debug!(%error, "an invalidation was done and not acknowledged");
        }
    }

    /// Invalidates; the number of keys removed, or `None` if another daemon sweeps the patterns.
    async fn carry_out(
        self,
        id: &[u8],
        mut targets: Targets,
        origin: Origin,
    ) -> Result<Option<u64>, InvalidationError> {
        let begun = Instant::now();
        let patterns = std::mem::take(&mut targets.patterns);
        let by_name = self.try_keys(targets, origin);
        let by_pattern = self.sweep_if_claimed(id, patterns, origin);
        let (by_name, by_pattern) = tokio::join!(by_name, by_pattern);
        let (by_name, by_pattern) = (by_name?, by_pattern?);
        if by_pattern.is_some() {
            let seconds = begun.elapsed().as_secs_f64();
            let timings = &self.parts.metrics.timings;
            timings.invalidated(origin.label(), seconds);
        }
        Ok(by_pattern.map(|removed| removed + by_name))
    }

    /// Invalidates keys, again and again while Redis is away: who published cannot know.
    async fn try_keys(&self, targets: Targets, origin: Origin) -> Result<u64, InvalidationError> {
        let end = Instant::now() + TRY_KEYS_FOR;
        let mut pause = FIRST_PAUSE;
        loop {
            match invalidate::keys(&self.parts, targets.clone(), origin).await {
                Err(error) if Instant::now() < end => {
                    tracing::debug!(%error, "published keys are tried again");
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => {
                    let keys = targets.names().len();
                    tracing::error!(%error, keys, "published keys could not be invalidated");
                    return Err(error);
                }
                Ok(removed) => return Ok(removed),
            }
        }
    }

    async fn sweep_if_claimed(
        &self,
        id: &[u8],
        patterns: Vec<Pattern>,
        origin: Origin,
    ) -> Result<Option<u64>, InvalidationError> {
        if patterns.is_empty() {
            return Ok(Some(0));
        }
        let claim = Bytes::from(claim_of(fingerprint(id, &patterns)));
        // Whether it is ours or cannot be known: to sweep twice costs time, not to sweep costs truth.
        if let Ok(false) = self.parts.store.claim(&claim, CLAIM_LIFE).await {
            return Ok(None);
        }
        tokio::time::sleep(CLAIM_HELD).await;
        let targets = Targets {
            patterns,
            ..Targets::default()
        };
        let swept = invalidate::queue(&self.parts, &targets, origin, Some(&claim));
        let swept = invalidate::wait(swept).await;
        invalidate::note(&self.parts, &targets.patterns, origin);
        swept.map(Some)
    }

    /// More comes than can be acknowledged: all of it is swept, as few patterns.
    fn sweep_unheard(&self, targets: Targets) {
        self.parts.metrics.refused_message("unacknowledged");
        let as_pattern = |name: Bytes| Pattern::parse(&escape(&name)).ok();
        let names = targets.names().into_iter().filter_map(as_pattern);
        for pattern in targets.patterns.into_iter().chain(names) {
            invalidate::note(&self.parts, std::slice::from_ref(&pattern), Origin::Pubsub);
            self.parts.queue.add_unheard(&self.parts.scope, pattern);
        }
    }

    fn refuse(&self, payload: &[u8], refused: &[Refusal]) {
        for refusal in refused {
            self.parts.metrics.refused_message(refusal.reason);
        }
        let Some(first) = refused.first() else { return };
        let mut log = self.log.lock();
        if log.since.elapsed() > WHILE {
            let unlogged = log.refused.saturating_sub(LOGGED_A_WHILE);
            if unlogged > 0 {
                tracing::warn!(unlogged, "more published messages were refused");
            }
            (log.since, log.refused) = (Instant::now(), 0);
        }
        log.refused = log.refused.saturating_add(1);
        if log.refused <= LOGGED_A_WHILE {
            let payload = &*shown(payload);
            tracing::warn!(why = first.text, payload, "a published message is refused");
        }
    }
}

/// Waits for `work`, and carries out messages meanwhile.
pub(super) async fn drive<T>(handling: &mut Handling, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(()) = handling.next() => {}
        }
    }
}

/// The same for daemons of which each makes the same of whatever is published.
fn covered(parts: &InvalidationParts) -> u128 {
    let (settings, reach) = (&parts.settings, parts.scope.reach());
    let heard = format!("{:?} {:?}", settings.channels(), settings.events);
    let mut prefixes = reach.prefixes().to_vec();
    prefixes.sort_unstable();
    xxhash_rust::xxh3::xxh3_128(format!("{heard} {prefixes:?}").as_bytes())
}

/// The same for the same message, in every daemon. Two that name the same patterns are two: each is acknowledged.
fn fingerprint(id: &[u8], patterns: &[Pattern]) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(id);
    hasher.update(b"\0");
    for pattern in patterns {
        hasher.update(pattern.text());
        hasher.update(b"\0");
    }
    hasher.digest128()
}
