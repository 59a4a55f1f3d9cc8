//! All samples of a run, in memory and as CSV, a line each as it is taken.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// Columns with a value at each time; NaN: not measured.
pub struct Series {
    names: Vec<String>,
    times: Vec<f64>,
    values: Vec<Vec<f64>>,
    file: File,
}

impl Series {
    /// The columns are known from the start: a CSV file has one head.
    pub fn create(path: &Path, names: Vec<String>) -> std::io::Result<Series> {
        let mut file = File::create(path)?;
        writeln!(file, "seconds,{}", names.join(","))?;
        Ok(Series {
            values: vec![Vec::new(); names.len()],
            names,
            times: Vec::new(),
            file,
        })
    }

    /// Adds the values of a moment; in one write, so that a kill leaves whole lines.
    pub fn add(&mut self, seconds: f64, of: impl Fn(&str) -> f64) -> std::io::Result<()> {
        let mut line = format!("{seconds:.1}");
        for (name, values) in self.names.iter().zip(&mut self.values) {
            let value = of(name);
            values.push(value);
            line.push(',');
            if value.is_finite() {
                line.push_str(&short(value));
            }
        }
        line.push('\n');
        self.times.push(seconds);
        self.file.write_all(line.as_bytes())
    }

    /// `(seconds, value)` of a column; empty if there is no such column.
    pub fn of(&self, name: &str) -> Vec<(f64, f64)> {
        let at = self.names.iter().position(|n| n == name);
        at.map_or(Vec::new(), |at| {
            self.times
                .iter()
                .copied()
                .zip(self.values[at].iter().copied())
                .collect()
        })
    }

    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Seconds at the last sample; 0 before the first.
    pub fn end(&self) -> f64 {
        self.times.last().copied().unwrap_or(0.0)
    }
}

fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
