//! The triggers of a watched table: which there are, and whether those that are there are right.

use super::catalog::Trigger;

/// A trigger as it should be. All are named alike on every table.
pub(super) struct Wanted {
    pub name: &'static str,
    /// As bits, in the catalog's way: 1 a row, 4 insert, 8 delete, 16 update, 32 truncate.
    kind: i16,
    fires: &'static str,
    /// Old and new rows.
    rows: [bool; 2],
    /// `A` always, also where rows are replayed or restored; `R` only there.
    enabled: &'static str,
}

const OLD_ROWS: &str = "cachewarden_old";
const NEW_ROWS: &str = "cachewarden_new";

const fn wanted(name: &'static str, kind: i16, fires: &'static str, rows: [bool; 2]) -> Wanted {
    Wanted {
        name,
        kind,
        fires,
        rows,
        enabled: "A",
    }
}

/// One for each event, because tables of changed rows allow no more.
pub(super) const STATEMENT: [Wanted; 4] = [
    wanted("cachewarden_insert", 4, "INSERT", [false, true]),
    wanted("cachewarden_update", 16, "UPDATE", [true, true]),
    wanted("cachewarden_delete", 8, "DELETE", [true, false]),
    wanted("cachewarden_truncate", 32, "TRUNCATE", [false, false]),
];

/// For logical replication, whose changes fire no trigger of statements. On what holds the rows:
/// changes of a partitioned table are applied to its partitions.
pub(super) const ROW: Wanted = Wanted {
    name: "cachewarden_replicated",
    kind: 1 | 4 | 8 | 16,
    fires: "INSERT OR UPDATE OR DELETE",
    rows: [false, false],
    enabled: "R",
};

/// On the queue: it rings for those who empty it. Always, for replicated changes are queued, too.
pub(super) const DOORBELL: Wanted = wanted("cachewarden_ring", 4, "INSERT", [false, false]);

impl Wanted {
    /// What is wrong with a trigger, if anything.
    pub fn flaw(&self, there: Option<&Trigger>, function: &str) -> Option<&'static str> {
        let Some(there) = there else {
            return Some("not all installed");
        };
        let rows = [(self.rows[0], OLD_ROWS), (self.rows[1], NEW_ROWS)];
        let rows = rows.map(|(is_wanted, name)| is_wanted.then_some(name));
        let has_rows = [there.rows[0].as_deref(), there.rows[1].as_deref()];
        if there.function != function
            || there.kind != self.kind
            || rows != has_rows
            || there.is_narrowed
        {
            return Some("outdated");
        }
        (there.enabled != self.enabled).then_some("disabled, or do not fire always")
    }

    /// Whether it does not fire for what clients write here.
    pub fn is_untold(&self, there: Option<&Trigger>) -> bool {
        self.enabled == "A"
            && there.is_none_or(|there| there.enabled == "D" || there.enabled == "R")
    }

    /// The SQL that makes it.
    pub fn create(&self, table: &str, function: &str) -> String {
        let name = self.name;
        let [old, new] = self.rows;
        let mut rows = String::new();
        if old || new {
            rows.push_str(" REFERENCING");
        }
        if old {
            rows += &format!(" OLD TABLE AS {OLD_ROWS}");
        }
        if new {
            rows += &format!(" NEW TABLE AS {NEW_ROWS}");
        }
        let each = if self.kind & 1 == 1 {
            "ROW"
        } else {
            "STATEMENT"
        };
        let mode = if self.enabled == "A" {
            "ALWAYS"
        } else {
            "REPLICA"
        };
        // ONLY: a partition's trigger of that name is another one, and may not be there yet.
        format!(
            "CREATE TRIGGER {name} AFTER {} ON {table}{rows} FOR EACH {each} EXECUTE FUNCTION cachewarden.{function}();\n\
         ALTER TABLE ONLY {table} ENABLE {mode} TRIGGER {name};\n",
            self.fires
        )
    }
}
