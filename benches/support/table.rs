//! One table for all targets, in the form that a README takes.

use std::fmt::Write;

use super::rounds::{Measured, Spread, medians, rates};

/// What a figure counts.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// Ours over theirs.
    Times,
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// Mebibytes.
    Mebibytes,
    /// Statements.
    Count,
}

impl Unit {
    fn show(self, figure: f64) -> String {
        match self {
            Self::Times => format!("{figure:.2}x"),
            Self::Micros => format!("{figure:.2} µs"),
            Self::Millis => format!("{figure:.0} ms"),
            Self::Mebibytes => format!("{figure:.1} MiB"),
            Self::Count => format!("{figure:.0}"),
        }
    }
}

/// What a first version must not fall below, and what we are after.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub floor: f64,
    pub goal: f64,
    pub less_is_better: bool,
}

impl Limits {
    /// More is better.
    pub fn at_least(floor: f64, goal: f64) -> Self {
        Self {
            floor,
            goal,
            less_is_better: false,
        }
    }

    /// Less is better.
    pub fn at_most(floor: f64, goal: f64) -> Self {
        Self {
            floor,
            goal,
            less_is_better: true,
        }
    }

    fn verdict(self, figure: f64) -> &'static str {
        let meets = |limit: f64| {
            if self.less_is_better {
                figure <= limit
            } else {
                figure >= limit
            }
        };
        match (meets(self.floor), meets(self.goal)) {
            (_, true) => "goal",
            (true, _) => "floor",
            _ => "BELOW FLOOR",
        }
    }
}

/// One side of a comparison, as it is shown.
#[derive(Debug, Clone, Default)]
pub struct Side {
    pub rate: String,
    pub cpu: String,
}

impl From<&[Measured]> for Side {
    fn from(runs: &[Measured]) -> Self {
        let middle = medians(runs);
        Self {
            rate: rate(middle.rate),
            cpu: format!("{:.2}", middle.cpu_us),
        }
    }
}

/// A rate a second, shortened.
pub fn rate(figure: f64) -> String {
    format!("{:.1}k/s", figure / 1e3)
}

/// Bytes as mebibytes.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Row {
    pub target: &'static str,
    pub work: String,
    pub against: String,
    pub figure: Spread,
    pub unit: Unit,
    pub ours: Side,
    pub theirs: Side,
    pub limits: Limits,
}

impl Row {
    /// A comparison of rates.
    pub fn of_rates(
        target: &'static str,
        work: String,
        against: String,
        ours: &[Measured],
        theirs: &[Measured],
        limits: Limits,
    ) -> Self {
        Self {
            target,
            work,
            against,
            figure: Spread::of_ratio(&rates(ours), &rates(theirs)),
            unit: Unit::Times,
            ours: ours.into(),
            theirs: theirs.into(),
            limits,
        }
    }

    fn cells(&self) -> [String; 11] {
        let Self { unit, limits, .. } = self;
        let Spread { median, min, max } = self.figure;
        let dash = |text: &String| {
            if text.is_empty() {
                "–".to_owned()
            } else {
                text.clone()
            }
        };
        [
            self.target.to_owned(),
            self.work.clone(),
            dash(&self.against),
            format!("{} ({}–{})", unit.show(median), bare(min), bare(max)),
            dash(&self.ours.rate),
            dash(&self.theirs.rate),
            dash(&self.ours.cpu),
            dash(&self.theirs.cpu),
            unit.show(limits.floor),
            unit.show(limits.goal),
            limits.verdict(median).to_owned(),
        ]
    }
}

/// A figure whose unit stands beside it, with three digits that count.
fn bare(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// What a target found.
#[derive(Debug, Default)]
pub struct Report {
    pub rows: Vec<Row>,
    /// What stands behind a figure, a line each.
    pub notes: Vec<String>,
}

impl Report {
    /// Adds another target's findings.
    pub fn append(&mut self, mut other: Self) {
        self.rows.append(&mut other.rows);
        self.notes.append(&mut other.notes);
    }

    /// The table and the notes below it.
    pub fn render(&self) -> String {
        let titles = [
            "target",
            "work",
            "against",
            "ours (min–max)",
            "our rate",
            "their rate",
            "CPU µs",
            "their CPU µs",
            "floor",
            "goal",
            "verdict",
        ];
        let mut lines = vec![titles.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let widths: Vec<usize> = (0..titles.len())
            .map(|column| lines.iter().map(|line| width(&line[column])).max())
            .map(Option::unwrap_or_default)
            .collect();
        let rule = widths.iter().map(|width| "-".repeat(*width));
        let rule: Vec<String> = rule.collect();
        let mut text = String::new();
        push_line(&mut text, &lines[0], &widths);
        push_line(&mut text, &rule, &widths);
        for line in &lines[1..] {
            push_line(&mut text, line, &widths);
        }
        for note in &self.notes {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n- {note}");
        }
        text
    }
}

fn push_line(text: &mut String, cells: &[String], widths: &[usize]) {
    for (cell, widest) in cells.iter().zip(widths) {
        let padding = " ".repeat(widest - width(cell));
        let _ = write!(text, "| {cell}{padding} ");
    }
    text.push_str("|\n");
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}
