//! An asker that takes down whoever answers it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

const TRIES: usize = 1000;

/// Panics in the thread of whoever answers.
struct Grenade;

impl Wake for Grenade {
    fn wake(self: Arc<Self>) {
        panic!("an asker that takes its actor with it");
    }
}

/// Asks until an answer wakes who asked: who gives that panics. What is given back has to live until then.
///
/// # Panics
/// If every answer is there before it is waited for.
pub fn ask_with_a_panic<T, F: Future<Output = T>>(ask: impl Fn() -> Pin<Box<F>>) -> Pin<Box<F>> {
    let waker = Waker::from(Arc::new(Grenade));
    for _ in 0..TRIES {
        let mut asking = ask();
        let polled = asking.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            return asking;
        }
    }
    panic!("it was answered at once, {TRIES} times");
}
