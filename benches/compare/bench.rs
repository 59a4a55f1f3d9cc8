//! All that a call measures: every system in every scenario.

use crate::figures::Figures;
use crate::machine::conditions;
use crate::scenario::{Scenario, Turn};
use crate::system::{Kind, Needs};
use anyhow::Context as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tempfile::TempDir;

/// All that a call measures.
pub struct Bench {
    pub figures: Figures,
    quick: bool,
    runs: usize,
    root: TempDir,
}

impl Bench {
    pub fn new(parent: &Path, quick: bool, runs: usize) -> anyhow::Result<Bench> {
        std::fs::create_dir_all(parent)?;
        let root = directory_in(parent)?;
        let figures = Figures::new(conditions(quick, runs));
        Ok(Bench {
            figures,
            quick,
            runs,
            root,
        })
    }

    /// Measures; what was missing, and how to get it.
    pub fn run(&mut self, systems: &[Kind], scenarios: &[Scenario]) -> anyhow::Result<Vec<String>> {
        let mut missing = Vec::new();
        let mut present = Vec::new();
        for kind in systems {
            match kind.programs() {
                Ok(needs) => {
                    if let Some(how) = needs.settings()? {
                        self.figures.set_up(*kind, how);
                    }
                    present.push((*kind, needs));
                }
                Err(why) => {
                    let why = format!("{}: {why:#}", kind.title());
                    eprintln!("##### SKIPPED: {why} #####");
                    missing.push(why);
                }
            }
        }
        for scenario in scenarios {
            for _ in 0..self.runs {
                // In turns, so that what else happens on the machine meets all.
                for (kind, needs) in &present {
                    eprintln!("{scenario:?}, {} ...", kind.title());
                    if let Err(error) = self.measure(*scenario, *kind, needs) {
                        let why = format!("{scenario:?}, {}: {error:#}", kind.title());
                        eprintln!("{why}");
                        self.figures.fail(why);
                    }
                }
            }
        }
        Ok(missing)
    }

    fn measure(&mut self, scenario: Scenario, kind: Kind, needs: &Needs) -> anyhow::Result<()> {
        let root = directory_in(self.root.path())?;
        let turn = Turn {
            figures: &mut self.figures,
            quick: self.quick,
            root: root.path(),
            kind,
            needs,
        };
        turn.run(scenario)
    }
}

/// Others may pass through it: a server that runs as another user has its directory in there.
pub fn directory_in(parent: &Path) -> anyhow::Result<TempDir> {
    let permissions = std::fs::Permissions::from_mode(0o711);
    let mut builder = tempfile::Builder::new();
    builder.prefix("bench-").permissions(permissions);
    builder
        .tempdir_in(parent)
        .with_context(|| format!("make a directory in {}", parent.display()))
}
