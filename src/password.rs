//! Keeps true that a door's password, or token, is compared in constant time and guessed slowly.

use crate::config::Secret;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// Addresses whose wrong guesses are remembered at once; beyond it the oldest is forgotten.
const MAX_GUESSERS: usize = 1024;
/// How long a wrong guess counts against its address.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The pause before the answer to the first wrong guess; doubled by each further one, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

struct Guesses {
    count: u32,
    last: Instant,
}

/// What whoever enters has to know.
pub struct Password {
    secret: Secret,
    guesses: Mutex<HashMap<Option<IpAddr>, Guesses>>,
}

impl Password {
    /// Nobody has guessed yet.
    pub fn new(secret: Secret) -> Self {
        Self {
            secret,
            guesses: Mutex::new(HashMap::new()),
        }
    }

    /// Whether the guess is right; if not, how long its answer is to be held back. The right password is never delayed, so
    /// that nobody's guessing locks out who knows it.
    ///
    /// # Errors
    /// The pause, for a wrong guess.
    pub fn check(&self, guess: &[u8], from: Option<IpAddr>) -> Result<(), Duration> {
        if bool::from(self.secret.expose().as_bytes().ct_eq(guess)) {
            self.guesses.lock().remove(&from);
            return Ok(());
        }
        let now = Instant::now();
        let mut guesses = self.guesses.lock();
        guesses.retain(|_, guesses| now.duration_since(guesses.last) < REMEMBERED);
        if guesses.len() >= MAX_GUESSERS && !guesses.contains_key(&from) {
            let oldest = guesses.iter().min_by_key(|(_, guesses)| guesses.last);
            if let Some(oldest) = oldest.map(|(from, _)| *from) {
                guesses.remove(&oldest);
            }
        }
        let entry = guesses.entry(from).or_insert(Guesses {
            count: 0,
            last: now,
        });
        entry.last = now;
        let pause = FIRST_PAUSE.saturating_mul(1 << entry.count.min(16));
        entry.count = entry.count.saturating_add(1);
        Err(pause.min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_guesses_are_answered_ever_more_slowly_and_the_right_one_at_once() {
        let password = Password::new(Secret::new("secret"));
        let from = Some(IpAddr::from([127, 0, 0, 1]));
        let pauses: Vec<_> = (0..12)
            .map(|_| password.check(b"guess", from).expect_err("wrong"))
            .collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert_eq!(pauses[11], LONGEST_PAUSE);
        assert_eq!(password.check(b"secret", from), Ok(()));
        assert_eq!(password.check(b"secre", from), Err(FIRST_PAUSE));
    }

    #[test]
    fn remembered_guessers_are_bounded() {
        let password = Password::new(Secret::new("secret"));
        for address in 0..2 * u32::try_from(MAX_GUESSERS).expect("small") {
            let from = Some(IpAddr::from(address.to_be_bytes()));
            assert!(password.check(b"guess", from).is_err());
        }
        assert!(password.guesses.lock().len() <= MAX_GUESSERS);
    }
}
