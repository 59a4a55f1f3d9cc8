//! Figures of all systems side by side: a table that is Markdown and readable as it is, and JSON.

use crate::library::demo::stats::percentile;
use crate::number::number;
use crate::system::Kind;
use serde_json::{Map, Value, json};
use std::fmt;

/// One line of the table.
struct Figure {
    name: &'static str,
    unit: &'static str,
    cells: Vec<Cell>,
}

struct Cell {
    system: Kind,
    runs: Vec<f64>,
    note: Option<String>,
}

impl Cell {
    /// Of an even number of runs, the lower of the two in the middle; `None`: it cannot be told.
    fn median(&self) -> Option<f64> {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        percentile(&sorted, 0.5)
    }
}

/// All figures of one call.
pub struct Figures {
    conditions: Vec<(&'static str, String)>,
    settings: Vec<(Kind, String)>,
    figures: Vec<Figure>,
    failures: Vec<String>,
}

impl Figures {
    /// None yet, with what they will be measured on.
    pub fn new(conditions: Vec<(&'static str, String)>) -> Figures {
        Figures {
            conditions,
            settings: Vec::new(),
            figures: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// How a system is set up.
    pub fn set_up(&mut self, system: Kind, how: String) {
        self.settings.push((system, how));
    }

    /// Adds one run's value.
    pub fn add(&mut self, name: &'static str, unit: &'static str, system: Kind, value: f64) {
        self.cell(name, unit, system).runs.push(value);
    }

    /// Why there is no value, or what is to be known of it.
    pub fn note(&mut self, name: &'static str, unit: &'static str, system: Kind, text: &str) {
        self.cell(name, unit, system).note = Some(text.to_owned());
    }

    fn cell(&mut self, name: &'static str, unit: &'static str, system: Kind) -> &mut Cell {
        let at = self.figures.iter().position(|figure| figure.name == name);
        let at = at.unwrap_or_else(|| {
            self.figures.push(Figure {
                name,
                unit,
                cells: Vec::new(),
            });
            self.figures.len() - 1
        });
        let cells = &mut self.figures[at].cells;
        let of = cells.iter().position(|cell| cell.system == system);
        let of = of.unwrap_or_else(|| {
            cells.push(Cell {
                system,
                runs: Vec::new(),
                note: None,
            });
            cells.len() - 1
        });
        &mut cells[of]
    }

    /// A copy was wrong.
    pub fn fail(&mut self, why: String) {
        self.failures.push(why);
    }

    /// Whether one ever was.
    pub fn failed(&self) -> bool {
        !self.failures.is_empty()
    }

    /// The median of a figure.
    pub fn median(&self, name: &str, system: Kind) -> Option<f64> {
        let figure = self.figures.iter().find(|figure| figure.name == name)?;
        figure.of(system)?.median()
    }

    /// The systems that have figures, in the order of their kinds.
    pub fn systems(&self) -> Vec<Kind> {
        let all = <Kind as clap::ValueEnum>::value_variants().iter().copied();
        all.filter(|system| {
            self.figures
                .iter()
                .any(|figure| figure.of(*system).is_some())
        })
        .collect()
    }

    /// One JSON object.
    pub fn to_json(&self) -> anyhow::Result<String> {
        let conditions = self.conditions.iter();
        let conditions: Map<String, Value> = conditions
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let settings = self.settings.iter();
        let settings: Map<String, Value> = settings
            .map(|(system, how)| (system.name(), json!(how)))
            .collect();
        let figures: Vec<Value> = self.figures.iter().map(Figure::to_json).collect();
        let all = json!({
            "conditions": conditions,
            "settings": settings,
            "figures": figures,
            "failures": self.failures,
        });
        Ok(serde_json::to_string_pretty(&all)? + "\n")
    }
}

impl Figure {
    fn of(&self, system: Kind) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.system == system)
    }

    fn to_json(&self) -> Value {
        let cells = self.cells.iter().map(|cell| {
            let value = json!({"median": cell.median(), "runs": cell.runs, "note": cell.note});
            (cell.system.name(), value)
        });
        let systems: Map<String, Value> = cells.collect();
        json!({"figure": self.name, "unit": self.unit, "systems": systems})
    }
}

/// Notes, each once, by the number that cells refer to.
struct Notes(Vec<String>);

impl Notes {
    fn number(&mut self, text: &str) -> usize {
        let at = self.0.iter().position(|known| known == text);
        at.unwrap_or_else(|| {
            self.0.push(text.to_owned());
            self.0.len() - 1
        }) + 1
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for (name, value) in &self.conditions {
            writeln!(f, "- {name}: {value}")?;
        }
        for (system, how) in &self.settings {
            writeln!(f, "- {}: {how}", system.title())?;
        }
        writeln!(f)?;
        let systems = self.systems();
        let mut notes = Notes(Vec::new());
        let mut head = vec!["figure".to_owned(), "unit".to_owned()];
        head.extend(systems.iter().map(|system| system.title().to_owned()));
        let mut lines = vec![head];
        for figure in &self.figures {
            let mut line = vec![figure.name.to_owned(), figure.unit.to_owned()];
            line.extend(systems.iter().map(|system| match figure.of(*system) {
                Some(cell) => {
                    let value = cell.median().map_or_else(|| "-".to_owned(), number);
                    match &cell.note {
                        Some(note) => format!("{value} ({})", notes.number(note)),
                        None => value,
                    }
                }
                None => String::new(),
            }));
            lines.push(line);
        }
        write_table(f, &lines)?;
        writeln!(f)?;
        for (i, note) in notes.0.iter().enumerate() {
            writeln!(f, "({}) {note}.  ", i + 1)?;
        }
        for why in &self.failures {
            writeln!(f, "WRONG: {why}")?;
        }
        Ok(())
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, lines: &[Vec<String>]) -> fmt::Result {
    let columns = lines.first().map_or(0, Vec::len);
    let length = |line: &Vec<String>, column: usize| line[column].chars().count();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines
                .iter()
                .map(|line| length(line, column))
                .max()
                .unwrap_or(0)
                .max(3)
        })
        .collect();
    for (i, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            match column {
                0 | 1 => write!(f, "| {cell:<width$} ")?,
                _ => write!(f, "| {cell:>width$} ")?,
            }
        }
        writeln!(f, "|")?;
        if i == 0 {
            for (column, width) in widths.iter().enumerate() {
                match column {
                    0 | 1 => write!(f, "|{}", "-".repeat(width + 2))?,
                    _ => write!(f, "|{}:", "-".repeat(width + 1))?,
                }
            }
            writeln!(f, "|")?;
        }
    }
    Ok(())
}
