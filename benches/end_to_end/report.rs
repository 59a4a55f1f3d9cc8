//! Figures, as a table for people and as JSON for programs.

use crate::number::number;
use std::fmt;
use walcast::demo::stats::percentile;

/// What a figure should be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Target {
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
    /// Only to be known: the plain alternative, or a figure without a target.
    Report,
}

impl Target {
    fn met(self, value: f64) -> &'static str {
        let met = match self {
            Target::Report => return "",
            Target::AtMost(limit) => value <= limit,
            Target::AtLeast(limit) => value >= limit,
        };
        if met { "met" } else { "MISSED" }
    }

    fn text(self) -> String {
        match self {
            Target::AtMost(limit) => format!("<= {}", number(limit)),
            Target::AtLeast(limit) => format!(">= {}", number(limit)),
            Target::Report => String::new(),
        }
    }
}

struct Row {
    scenario: &'static str,
    figure: String,
    unit: &'static str,
    runs: Vec<f64>,
    target: Target,
}

impl Row {
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// Of an even number of runs, the lower of the two in the middle.
    fn median(&self) -> f64 {
        percentile(&self.sorted(), 0.5).unwrap_or(f64::NAN)
    }

    fn range(&self) -> String {
        match self.sorted().as_slice() {
            [first, .., last] => format!("{} .. {}", number(*first), number(*last)),
            _ => String::new(),
        }
    }
}

/// All figures of one call.
pub struct Report {
    conditions: Vec<(&'static str, String)>,
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Report {
    /// An empty report, with what it was measured on.
    pub fn new(conditions: Vec<(&'static str, String)>) -> Report {
        Report {
            conditions,
            rows: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds one run's value of a figure.
    pub fn add(
        &mut self,
        scenario: &'static str,
        figure: &str,
        unit: &'static str,
        target: Target,
        value: f64,
    ) {
        let same = |row: &&mut Row| row.scenario == scenario && row.figure == figure;
        match self.rows.iter_mut().find(same) {
            Some(row) => row.runs.push(value),
            None => self.rows.push(Row {
                scenario,
                figure: figure.to_owned(),
                unit,
                runs: vec![value],
                target,
            }),
        }
    }

    /// Replication was wrong.
    pub fn fail(&mut self, why: String) {
        self.failures.push(why);
    }

    /// Whether it ever was.
    pub fn failed(&self) -> bool {
        !self.failures.is_empty()
    }

    /// One JSON object.
    pub fn to_json(&self) -> String {
        let conditions: Vec<String> = self
            .conditions
            .iter()
            .map(|(name, value)| format!("{}: {}", string(name), string(value)))
            .collect();
        let rows: Vec<String> = self.rows.iter().map(row_to_json).collect();
        let failures: Vec<String> = self.failures.iter().map(|why| string(why)).collect();
        format!(
            "{{\n  \"conditions\": {{{}}},\n  \"figures\": [\n    {}\n  ],\n  \"failures\": [{}]\n}}\n",
            conditions.join(", "),
            rows.join(",\n    "),
            failures.join(", ")
        )
    }
}

fn row_to_json(row: &Row) -> String {
    let runs: Vec<String> = row.runs.iter().map(f64::to_string).collect();
    let (at_most, at_least) = match row.target {
        Target::AtMost(limit) => (limit.to_string(), "null".to_owned()),
        Target::AtLeast(limit) => ("null".to_owned(), limit.to_string()),
        Target::Report => ("null".to_owned(), "null".to_owned()),
    };
    format!(
        "{{\"scenario\": {}, \"figure\": {}, \"unit\": {}, \"median\": {}, \"runs\": [{}], \"at_most\": {at_most}, \"at_least\": {at_least}}}",
        string(row.scenario),
        string(&row.figure),
        string(row.unit),
        row.median(),
        runs.join(", ")
    )
}

/// A JSON string.
fn string(text: &str) -> String {
    let mut out = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "SCENARIO",
            "FIGURE",
            "MEDIAN",
            "UNIT",
            "MIN .. MAX",
            "TARGET",
            "",
        ]
        .map(str::to_owned);
        let cells = |row: &Row| {
            let median = row.median();
            let target = row.target;
            let scenario = row.scenario.to_owned();
            let met = target.met(median).to_owned();
            [
                scenario,
                row.figure.clone(),
                number(median),
                row.unit.to_owned(),
                row.range(),
                target.text(),
                met,
            ]
        };
        let lines: Vec<[String; 7]> = std::iter::once(head)
            .chain(self.rows.iter().map(cells))
            .collect();
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: [usize; 7] = std::array::from_fn(width);
        writeln!(f)?;
        for (name, value) in &self.conditions {
            writeln!(f, "{name}: {value}")?;
        }
        writeln!(f)?;
        for line in &lines {
            let padded: Vec<String> = (0..7)
                .map(|i| {
                    if i == 2 {
                        format!("{:>1$}", line[i], widths[i])
                    } else {
                        format!("{:<1$}", line[i], widths[i])
                    }
                })
                .collect();
            writeln!(f, "{}", padded.join("  ").trim_end())?;
        }
        for why in &self.failures {
            writeln!(f, "WRONG: {why}")?;
        }
        Ok(())
    }
}
