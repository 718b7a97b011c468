//! The difference between what is declared and what is there: told as problems, mended by steps.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::Oid;

use super::catalog::{Catalog, Lookup, Printed, Relation, Trigger};
use super::definition::{Definition, columns};
use super::migrations::{self, Migration};
use super::triggers::{ROW, STATEMENT};
use crate::config::{Config, Watch};
use crate::keyspace::ChangeTemplate;

/// What to do about all that can be installed.
const MIGRATE: &str = "run `cachewarden migrate`";

/// What stands between a watch and its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchProblem {
    /// The watch's place in the configuration.
    pub watch: usize,
    /// The template it is about, by its place in the watch.
    pub template: Option<usize>,
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Whether the table may change and nothing tells of it: a trigger is missing or disabled on the table that the watch
    /// names. An outdated one tells something, and stands there between a `migrate` and the restarts after it.
    pub is_untold: bool,
}

impl WatchProblem {
    /// Renders problems for a terminal, each with its place in the file.
    pub fn report(problems: &[WatchProblem], config: &Config) -> String {
        let reports = problems.iter().map(|problem| {
            config.report_watch(
                problem.watch,
                problem.template,
                &problem.message,
                &problem.hint,
            )
        });
        let reports: Vec<String> = reports.collect();
        reports.join("\n\n")
    }
}

/// Something to be done in the database, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Such as `watch public.courses`.
    pub title: String,
    pub sql: String,
    pub(super) is_migration: bool,
}

/// What is wrong, and what can be done about it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What people have to mend, in the configuration or in the database.
    pub problems: Vec<WatchProblem>,
    /// What is not installed as it is declared; the steps mend it.
    pub flaws: Vec<WatchProblem>,
    pub steps: Vec<Step>,
}

/// What is wanted beside the watches.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub max_keys: usize,
    pub notify: bool,
    /// Fencing tokens.
    pub fences: bool,
    /// The queue, also where nothing is watched.
    pub writes: bool,
}

/// A table or partition, and all that a change of it invalidates.
struct Target<'a> {
    relation: &'a Relation,
    watch: usize,
    /// Whether a watch names it; else it is a part of one that is named.
    is_named: bool,
    templates: Vec<&'a ChangeTemplate>,
}

impl Target<'_> {
    /// What may become of the columns that the templates name.
    fn printed(&self) -> Printed {
        let named = columns(&self.templates).into_iter();
        let printed = named.map(|name| match self.relation.column(name) {
            Some(column) => column.printed,
            None => Printed::Anyhow,
        });
        printed.max().unwrap_or(Printed::Alike)
    }
}

pub(super) fn compare(catalog: &Catalog, wanted: &Wanted, watches: &[Watch]) -> Plan {
    let Wanted {
        max_keys,
        notify,
        fences,
        writes,
    } = *wanted;
    let needs_queue = writes || !watches.is_empty();
    let mut plan = Plan::default();
    if catalog.is_standby && needs_queue {
        plan.problems.push(WatchProblem {
            watch: 0,
            template: None,
            message: "the server in [postgres] only follows another one, where changes are made"
                .to_owned(),
            hint: "name the primary".to_owned(),
            is_untold: true,
        });
    }
    if (catalog.encoding.as_str(), watches.is_empty()) == ("SQL_ASCII", false) {
        // One that is none keeps all others from being read.
        let message = "the database stores texts as SQL_ASCII, so a key may be no text at all";
        plan.problem(
            0,
            None,
            message.to_owned(),
            "use a database of another encoding, such as UTF8",
        );
    }
    if !catalog.may_drain {
        let role = &catalog.role;
        let message = format!(
            "the role {role} may not use the tables and sequences in the schema `cachewarden`"
        );
        let hint = format!(
            "GRANT USAGE ON SCHEMA cachewarden TO {role}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cachewarden TO {role}; \
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA cachewarden TO {role};"
        );
        plan.problem(0, None, message, &hint);
        // Nor can be seen what is installed.
        return plan;
    }
    plan.migrate(catalog, fences || needs_queue);
    if needs_queue {
        plan.strangers(catalog);
    }
    plan.doorbell(catalog, notify, needs_queue);
    let mut functions = BTreeSet::new();
    let targets = plan.targets(catalog, watches);
    for target in targets.values() {
        let definition = Definition::new(&target.templates, max_keys, target.printed());
        plan.install(catalog, target, &definition, &mut functions);
    }
    plan.clear(catalog, &targets, &functions);
    plan
}

impl Plan {
    /// Schema and migrations. Where nothing declared needs them it is no flaw that they are missing.
    fn migrate(&mut self, catalog: &Catalog, is_needed: bool) {
        let is_pending = |m: &&Migration| !catalog.migrations.iter().any(|done| done == m.version);
        let pending: Vec<&Migration> = migrations::ALL.iter().filter(is_pending).collect();
        if pending.is_empty() {
            return;
        }
        let (title, message) = if catalog.has_schema {
            (
                "bring the schema `cachewarden` up to date",
                "the schema `cachewarden` is of an older version",
            )
        } else {
            (
                "make the schema `cachewarden`",
                "there is no schema `cachewarden`",
            )
        };
        if is_needed {
            self.flaw(0, message.to_owned());
        }
        self.steps.push(Step {
            title: title.to_owned(),
            sql: migrations::as_text(&pending, &catalog.role),
            is_migration: true,
        });
    }

    /// Every table and partition that has to have triggers, with all that any watch wants of it.
    fn targets<'a>(
        &mut self,
        catalog: &'a Catalog,
        watches: &'a [Watch],
    ) -> BTreeMap<(usize, usize), Target<'a>> {
        let mut targets: BTreeMap<(usize, usize), Target<'a>> = BTreeMap::new();
        let mut places: BTreeMap<Oid, (usize, usize)> = BTreeMap::new();
        for (at, (watch, lookup)) in watches.iter().zip(&catalog.tables).enumerate() {
            let relations = match lookup {
                Lookup::Found(relations) => relations,
                Lookup::Missing => {
                    let message = format!("there is no table {}", watch.table);
                    self.problem(
                        at,
                        None,
                        message,
                        "make the table first, or write its name as in SQL",
                    );
                    continue;
                }
                Lookup::Refused(why) => {
                    let message = format!("table {} cannot be looked at: {why}", watch.table);
                    self.problem(
                        at,
                        None,
                        message,
                        "give the role of [postgres] the right to see it",
                    );
                    continue;
                }
            };
            self.check_columns(at, watch, relations);
            for (n, relation) in relations.iter().enumerate() {
                if !matches!(relation.kind.as_str(), "r" | "p") {
                    self.unfit(at, relation);
                    continue;
                }
                let place = *places.entry(relation.oid).or_insert((at, n));
                let target = targets.entry(place).or_insert_with(|| Target {
                    relation,
                    watch: at,
                    is_named: false,
                    templates: Vec::new(),
                });
                target.is_named |= n == 0;
                for template in &watch.templates {
                    if !target.templates.contains(&&template.template) {
                        target.templates.push(&template.template);
                    }
                }
            }
        }
        targets
    }

    fn check_columns(&mut self, at: usize, watch: &Watch, relations: &[Relation]) {
        let Some(table) = relations.first() else {
            return;
        };
        for (n, template) in watch.templates.iter().enumerate() {
            for column in columns(&[&template.template]) {
                if table.column(column).is_none() {
                    let message = format!("{} has no column `{column}`", table.name);
                    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
                    let hint = format!("its columns are {}", names.join(", "));
                    self.problem(at, Some(n), message, &hint);
                }
            }
        }
    }

    fn unfit(&mut self, at: usize, relation: &Relation) {
        let (kind, hint) = match relation.kind.as_str() {
            "v" => ("a view", "watch the tables it reads"),
            "m" => ("a materialized view", "watch the tables it reads"),
            "f" => (
                "a foreign table",
                "its changes are made on another server; watch it there",
            ),
            "system" => ("Postgres' own", "name a table of yours"),
            "own" => (
                "cachewarden's own, and would queue a change for each that is queued",
                "name a table of yours",
            ),
            _ => ("no table", "name a table"),
        };
        let message = match relation.kind.as_str() {
            "system" | "own" => format!("{} is {kind}: it cannot be watched", relation.name),
            _ => format!("{} is {kind}, whose changes cannot be seen", relation.name),
        };
        self.problem(at, None, message, hint);
    }

    /// Function and triggers of one table.
    fn install(
        &mut self,
        catalog: &Catalog,
        target: &Target<'_>,
        definition: &Definition,
        functions: &mut BTreeSet<String>,
    ) {
        let table = &target.relation.name;
        let has_function = catalog
            .functions
            .iter()
            .any(|f| f.name == definition.trigger && f.body == definition.body);
        let mut sql = String::new();
        if functions.insert(definition.trigger.clone()) && !has_function {
            sql += &format!("{}\n", definition.create);
        }
        let is_partitioned = target.relation.kind == "p";
        let row = (!is_partitioned).then_some(&ROW);
        let (mut flaws, mut is_untold) = (BTreeSet::new(), false);
        for wanted in STATEMENT.iter().chain(row) {
            let mut ours = catalog
                .triggers
                .iter()
                .filter(|t| t.relation == target.relation.oid);
            let there = ours.find(|trigger| trigger.name == wanted.name);
            let Some(flaw) = wanted.flaw(there, &definition.trigger) else {
                continue;
            };
            flaws.insert(flaw);
            is_untold |= target.is_named && wanted.is_untold(there);
            if there.is_some() {
                sql += &format!("DROP TRIGGER {} ON {table};\n", wanted.name);
            }
            sql += &wanted.create(table, &definition.trigger);
        }
        if !has_function && flaws.is_empty() {
            flaws.insert("changed by hand");
        }
        // Without the schema nothing can be there, and one line says so.
        for flaw in flaws.iter().filter(|_| catalog.has_schema) {
            self.flaw(target.watch, format!("the triggers on {table} are {flaw}"));
            if let Some(flaw) = self.flaws.last_mut() {
                flaw.is_untold = is_untold;
            }
        }
        if !sql.is_empty() {
            sql += &definition.tell_all;
            self.steps.push(Step::new(format!("watch {table}"), &sql));
        }
    }

    /// Takes away what is declared no more.
    fn clear(
        &mut self,
        catalog: &Catalog,
        targets: &BTreeMap<(usize, usize), Target<'_>>,
        functions: &BTreeSet<String>,
    ) {
        let is_wanted = |trigger: &&Trigger| {
            targets.values().any(|target| {
                let is_known = STATEMENT.iter().any(|wanted| wanted.name == trigger.name)
                    || (target.relation.kind != "p" && ROW.name == trigger.name);
                target.relation.oid == trigger.relation && is_known
            })
        };
        let stray: Vec<&Trigger> = catalog.triggers.iter().filter(|t| !is_wanted(t)).collect();
        for table in tables(&stray) {
            let stray: Vec<&Trigger> = stray
                .iter()
                .copied()
                .filter(|t| t.relation_name == table)
                .collect();
            self.steps.push(Step::new(
                format!("watch {table} no more"),
                &drop_triggers(stray.into_iter()),
            ));
        }
        let unused = catalog
            .functions
            .iter()
            .filter(|function| !functions.contains(&function.name));
        let sql: String = unused
            .map(|function| format!("DROP FUNCTION {};\n", function.signature))
            .collect();
        if !sql.is_empty() {
            self.steps.push(Step::new(
                "drop the functions of earlier watches".to_owned(),
                &sql,
            ));
        }
    }

    fn problem(&mut self, watch: usize, template: Option<usize>, message: String, hint: &str) {
        let hint = hint.to_owned();
        self.problems.push(WatchProblem {
            watch,
            template,
            message,
            hint,
            // Where only a column is missing, a trigger is there, and tells that anything may have changed.
            is_untold: template.is_none(),
        });
    }

    pub(super) fn flaw(&mut self, watch: usize, message: String) {
        let hint = MIGRATE.to_owned();
        self.flaws.push(WatchProblem {
            watch,
            template: None,
            message,
            hint,
            is_untold: false,
        });
    }
}

impl Step {
    pub(super) fn new(title: impl Into<String>, sql: &str) -> Self {
        let sql = format!("BEGIN;\n{sql}COMMIT;");
        Self {
            title: title.into(),
            sql,
            is_migration: false,
        }
    }
}

/// All of it, as one step: half of it would be of no use to anybody.
pub(super) fn uninstall(catalog: &Catalog) -> Vec<Step> {
    let triggers: Vec<&Trigger> = catalog.triggers.iter().collect();
    let watched = tables(&triggers);
    let mut sql = catalog.doorbell.drop() + &drop_triggers(catalog.triggers.iter());
    for function in &catalog.functions {
        sql += &format!("DROP FUNCTION {};\n", function.signature);
    }
    let is_done = |m: &&Migration| catalog.migrations.iter().any(|done| done == m.version);
    for migration in migrations::ALL.iter().rev().filter(is_done) {
        sql += &format!("{}\n", migration.down.trim_end());
    }
    if catalog.has_list {
        sql += "DROP TABLE cachewarden.__diesel_schema_migrations;\nDROP SCHEMA cachewarden;\n";
    }
    if sql.is_empty() {
        return Vec::new();
    }
    let from = watched
        .into_iter()
        .map(|table| format!("the triggers on {table}"));
    let all: Vec<String> = from
        .chain(["the schema `cachewarden`".to_owned()])
        .collect();
    vec![Step::new(format!("take away {}", all.join(", ")), &sql)]
}

fn tables<'t>(triggers: &[&'t Trigger]) -> BTreeSet<&'t str> {
    triggers
        .iter()
        .map(|trigger| trigger.relation_name.as_str())
        .collect()
}

pub(super) fn drop_triggers<'t>(triggers: impl Iterator<Item = &'t Trigger>) -> String {
    let sql = triggers.map(|t| {
        format!(
            "DROP TRIGGER {} ON {};\n",
            super::definition::identifier(&t.name),
            t.relation_name
        )
    });
    sql.collect()
}
