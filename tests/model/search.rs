//! Searches all of a world, or for what breaks in it once a rule is dropped.

use stateright::{Checker, HasDiscoveries, Model};
use std::fmt::Debug;
use std::hash::Hash;

/// More steps than any search here takes: a bound for one that has gone astray.
const MOST_STEPS: usize = 20_000_000;
/// The search shares the machine with other tests.
const THREADS: usize = 2;

/// A protocol, how much may happen in it, and which of its rules does not hold.
pub trait World: Model + Copy + Debug + Send + Sync + 'static
where
    Self::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    Self::Action: Clone + Debug + PartialEq + Send + Sync,
{
    type Rule: Debug + Copy;

    /// What it promises.
    const PROMISES: &'static [&'static str];
    /// Fewer mean that the world has lost the freedom it had.
    const LEAST_STATES: usize;

    /// The same without a rule.
    fn without(self, rule: Self::Rule) -> Self;
}

/// Searches all of a world in which every rule holds: no promise is broken, and it can do what makes it worth having.
pub fn is_right<W>(world: W)
where
    W: World,
    W::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    W::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let search = world
        .checker()
        .threads(THREADS)
        .target_state_count(MOST_STEPS);
    let found = search.spawn_bfs().join();
    let states = found.unique_state_count();
    println!(
        "{world:?}: {states} states, {} steps deep",
        found.max_depth()
    );
    found.assert_properties();
    assert!(
        found.state_count() < MOST_STEPS,
        "too large a world to search all of"
    );
    assert!(
        states > W::LEAST_STATES,
        "only {states} states: what was not tried?"
    );
}

/// Drops a rule, and gives the name of the promise that is broken then.
pub fn broken_without<W>(rule: W::Rule, world: W) -> &'static str
where
    W: World,
    W::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    W::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let world = world.without(rule);
    let search = world
        .checker()
        .threads(THREADS)
        .target_state_count(MOST_STEPS);
    let found = search
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let failure = W::PROMISES
        .iter()
        .find_map(|promise| Some((*promise, found.discovery(promise)?)));
    let Some((promise, way)) = failure else {
        panic!(
            "{rule:?} is not needed, say {} states",
            found.unique_state_count()
        )
    };
    println!(
        "without {rule:?}, not {promise:?}: {:?}",
        way.into_actions()
    );
    promise
}

/// Names the test, and what must break without which rule in which world.
macro_rules! needed {
    ($rules:ident; $($test:ident: $rule:ident in $world:ident breaks $promise:path;)*) => {$(
        #[test]
        fn $test() {
            assert_eq!(crate::search::broken_without($rules::$rule, $world), $promise);
        }
    )*};
}
pub(crate) use needed;
