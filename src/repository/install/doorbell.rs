//! What hangs on the queue itself: the doorbell, where the configuration wants one: a trigger on the queue itself. So whatever queues something
//! rings, the function for programs included; and what is installed on the watched tables is the same with it and without. And
//! triggers of whoever else: one of them may drop what is queued, and nobody would know.

use super::catalog::{Catalog, Function, Trigger};
use super::definition::identifier;
use super::plan::{Plan, Step, WatchProblem, drop_triggers};
use super::triggers::DOORBELL;
use crate::repository::outbox::CHANNEL;

/// Where it hangs.
pub(super) const TABLE: &str = "cachewarden.outbox";
/// What it calls.
pub(super) const FUNCTION: &str = "ring";

/// What of it is there.
#[derive(Default)]
pub(super) struct Doorbell {
    /// Those that call a function of our schema, of whatever version.
    pub triggers: Vec<Trigger>,
    pub function: Option<Function>,
    /// Triggers on the queue that are somebody else's.
    strangers: Vec<Trigger>,
}

impl Doorbell {
    /// Takes it from among the triggers and functions that are there.
    pub fn take(triggers: &mut Vec<Trigger>, functions: &mut Vec<Function>) -> Self {
        let hangs_there = |trigger: &mut Trigger| trigger.relation_name == TABLE;
        let hanging = triggers.extract_if(.., hangs_there);
        let (ours, strangers) = hanging.partition(|trigger| trigger.is_ours);
        let at = functions.iter().position(|f| f.name == FUNCTION);
        Self {
            triggers: ours,
            function: at.map(|at| functions.remove(at)),
            strangers,
        }
    }

    /// The SQL that takes it down: nothing, if nothing is there.
    pub fn drop(&self) -> String {
        let mut sql = drop_triggers(self.triggers.iter());
        if let Some(function) = &self.function {
            sql += &format!("DROP FUNCTION {};\n", function.signature);
        }
        sql
    }

    /// What is wrong with one that is wanted, if anything.
    fn flaw(&self) -> Option<&'static str> {
        let there = self.triggers.iter().find(|t| t.name == DOORBELL.name);
        let Some(function) = self.function.as_ref().filter(|_| there.is_some()) else {
            return Some("not installed");
        };
        let is_changed = function.body != body();
        let has_more = self.triggers.len() > 1;
        DOORBELL
            .flaw(there, FUNCTION)
            .or(is_changed.then_some("changed by hand"))
            .or(has_more.then_some("not alone: an older version has left a trigger beside it"))
    }
}

impl Plan {
    /// Tells of triggers on the queue that are not ours. They are not ours to drop, either.
    pub(super) fn strangers(&mut self, catalog: &Catalog) {
        for stranger in &catalog.doorbell.strangers {
            let name = &stranger.name;
            self.flaws.push(WatchProblem {
                watch: 0,
                template: None,
                message: format!(
                    "a trigger that is not ours on {TABLE}: {}",
                    name.escape_debug()
                ),
                hint: format!("DROP TRIGGER {} ON {TABLE}", identifier(name)),
                is_untold: stranger.may_swallow(),
            });
        }
    }

    /// What hangs there in our name may be nothing that ever was ours.
    fn tell_swallowing(&mut self, there: &Doorbell) {
        if let Some(flaw) = self.flaws.last_mut() {
            flaw.is_untold = there.triggers.iter().any(Trigger::may_swallow);
        }
    }

    /// Hangs it, or takes it down. Of no use is one where nothing is watched.
    pub(super) fn doorbell(&mut self, catalog: &Catalog, is_wanted: bool, is_watching: bool) {
        let there = &catalog.doorbell;
        let down = there.drop();
        if is_wanted && is_watching {
            let Some(flaw) = there.flaw() else { return };
            // Without the schema nothing can be there, and one line says so.
            if catalog.has_schema {
                self.flaw(0, format!("the doorbell (`notify = true`) is {flaw}"));
                self.tell_swallowing(there);
            }
            let sql = format!("{down}{}{}", create(), DOORBELL.create(TABLE, FUNCTION));
            self.steps.push(Step::new("hang the doorbell", &sql));
        } else if !down.is_empty() {
            if is_watching {
                let message = "a doorbell is installed that is not asked for (`notify = false`)";
                self.flaw(0, message.to_owned());
                self.tell_swallowing(there);
            }
            self.steps.push(Step::new("take the doorbell down", &down));
        }
    }
}

fn create() -> String {
    format!(
        "CREATE FUNCTION cachewarden.{FUNCTION}() RETURNS trigger\n\
         LANGUAGE plpgsql AS $cachewarden${}$cachewarden$;\n\
         REVOKE ALL ON FUNCTION cachewarden.{FUNCTION} FROM PUBLIC;\n",
        body()
    )
}

fn body() -> String {
    format!(
        "
BEGIN
    -- Without a payload: however often a transaction rings, Postgres tells of it once. What is to be done stands in the queue.
    PERFORM pg_catalog.pg_notify('{CHANNEL}', '');
    RETURN NULL;
END
"
    )
}
