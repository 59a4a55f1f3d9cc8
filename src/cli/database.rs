//! `--db [NAME=]PATH`.

use super::exit::{Exit, Failure};
use crate::config::{identity, parse_name};
use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

/// One database on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseArg {
    /// Its name; the file's, unless given.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
}

impl FromStr for DatabaseArg {
    type Err = String;

    fn from_str(text: &str) -> Result<DatabaseArg, String> {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) => (Some(name), path),
            None => (None, text),
        };
        if path.is_empty() || path.ends_with('/') {
            return Err(format!("'{path}' is no path of a file; write [NAME=]PATH"));
        }
        let path = PathBuf::from(path);
        let name = match name {
            Some(name) => name.to_owned(),
            None => path
                .file_name()
                .and_then(|name| name.to_str())
                .ok_or_else(|| format!("{} has no file name; write NAME=PATH", path.display()))?
                .to_owned(),
        };
        // Also catches an absolute path with '=' in it that has no NAME= before it.
        let name = parse_name(&name)
            .map_err(|why| format!("{why}; for a path that contains '=' write NAME=PATH"))?;
        Ok(DatabaseArg { name, path })
    }
}

/// Refuses two databases with one name, or one file under two names.
pub fn refuse_duplicates(databases: &[DatabaseArg]) -> Result<(), Failure> {
    let mut names = HashMap::new();
    let mut files = HashMap::new();
    for DatabaseArg { name, path } in databases {
        if let Some(other) = names.insert(name, path) {
            let (a, b) = (other.display(), path.display());
            let message = format!(
                "{a} and {b} would both be named '{name}'; write --db NAME=PATH with two names"
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        if let Some(other) = files.insert(identity(path), name) {
            let message = format!(
                "'{other}' and '{name}' are the same file, {}",
                path.display()
            );
            return Err(Failure::new(Exit::Usage, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, PathBuf), String> {
        text.parse::<DatabaseArg>().map(|d| (d.name, d.path))
    }

    #[test]
    fn the_name_is_the_files_unless_given() {
        assert_eq!(
            parse("/data/app.db"),
            Ok(("app.db".into(), "/data/app.db".into()))
        );
        assert_eq!(
            parse("main=/data/app.db"),
            Ok(("main".into(), "/data/app.db".into()))
        );
        assert_eq!(
            parse("main=/d/a=b.db"),
            Ok(("main".into(), "/d/a=b.db".into()))
        );
        assert_eq!(
            parse("tenants/a.db=/d/a.db"),
            Ok(("tenants/a.db".into(), "/d/a.db".into()))
        );
        for wrong in [
            "",
            "=",
            "=x",
            "name=",
            "/d/a=b.db",
            "..",
            "dir/",
            "a\nb=c",
            "../x=y",
            "a//b=y",
            "a/./b=y",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_name_and_one_file_each() {
        let list = |texts: &[&str]| -> Vec<DatabaseArg> {
            texts.iter().map(|t| t.parse().expect("valid")).collect()
        };
        assert!(refuse_duplicates(&list(&["a/x.db", "y=b/x.db"])).is_ok());
        assert!(refuse_duplicates(&list(&["a/x.db", "b/x.db"])).is_err());
        assert!(refuse_duplicates(&list(&["x=a.db", "y=./a.db"])).is_err());
        let here = tempfile::tempdir().expect("a directory");
        let file = here.path().join("f.db");
        std::fs::write(&file, b"").expect("a file");
        let link = here.path().join("l.db");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        let both = [format!("{}", file.display()), format!("{}", link.display())];
        assert!(refuse_duplicates(&list(&[&both[0], &both[1]])).is_err());
    }
}
