use super::*;
use crate::archive::ArchiveSource;
use crate::config::UpstreamTls;

fn upstream() -> UpstreamEntry {
    UpstreamEntry {
        url: "http://h:1".into(),
        tls: UpstreamTls::default(),
        token: None,
    }
}

fn file(name: &str, path: &str) -> Entry {
    Entry::Database(DatabaseEntry {
        name: name.into(),
        path: path.into(),
        upstream: None,
        primary: PrimaryOptions::default(),
        replica: ReplicaOptions::default(),
    })
}

fn dir(path: &str, upstream: Option<UpstreamEntry>) -> DirectoryEntry {
    DirectoryEntry {
        dir: path.into(),
        pattern: "**/*.db".into(),
        upstream,
        primary: PrimaryOptions::default(),
        replica: ReplicaOptions::default(),
    }
}

fn found(entry: &DirectoryEntry, findings: &[(&str, Finding)]) -> HashMap<Place, Found> {
    let mut found = Found::default();
    for (name, finding) in findings {
        found.note(name, finding.clone());
    }
    HashMap::from([(Place::of(entry), found)])
}

fn names(actions: &[Action]) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::Stop(name) => format!("stop {name}"),
        Action::Start(name) => format!("start {name}"),
    };
    actions.iter().map(name).collect()
}

#[test]
fn only_what_changed_is_touched_and_stops_come_first() {
    let old = plan(
        &[file("a", "/x/a"), file("b", "/x/b"), file("c", "/x/c")],
        &HashMap::new(),
    )
    .0;
    let mut changed = file("b", "/x/b");
    if let Entry::Database(entry) = &mut changed {
        entry.primary.retain_size += 1;
    }
    // a stays, b has other options, c's file has another name, d is new.
    let entries = [
        file("a", "/x/a"),
        changed,
        file("a2", "/x/c"),
        file("d", "/x/d"),
    ];
    let new = plan(&entries, &HashMap::new()).0;
    let actions = names(&diff(&old, &new));
    assert_eq!(
        actions,
        ["stop b", "stop c", "start a2", "start b", "start d"]
    );
    assert!(diff(&new, &new).is_empty());
    assert_eq!(diff(&Plan::new(), &new).len(), 4);
    assert_eq!(
        names(&diff(&old, &Plan::new())),
        ["stop a", "stop b", "stop c"]
    );
}

#[test]
fn a_directory_has_what_was_found_in_it() {
    let entry = dir("/x/t", None);
    let entries = [Entry::Directory(entry.clone())];
    assert!(
        plan(&entries, &HashMap::new()).0.is_empty(),
        "nobody looked yet"
    );
    let link = Finding::Refused("it is a link".into());
    let found = found(&entry, &[("a.db", Finding::Here), ("s/b.db", link)]);
    let (plan, clashes) = plan(&entries, &found);
    assert!(clashes.is_empty());
    assert_eq!(plan["a.db"].path(), Path::new("/x/t/a.db"));
    assert!(matches!(plan["a.db"], Spec::Primary { .. }));
    assert!(
        matches!(&plan["s/b.db"], Spec::Shown { orphan: false, reason, .. } if reason == "it is a link")
    );
}

#[test]
fn a_mirror_keeps_what_its_upstream_let_go() {
    let mut entry = dir("/x/t", Some(upstream()));
    entry.replica.archive = Some(ArchiveSource::new("/backup".parse().expect("a location")));
    let entries = [Entry::Directory(entry.clone())];
    let here = plan(&entries, &found(&entry, &[("t/a.db", Finding::Here)])).0;
    let gone = plan(&entries, &found(&entry, &[("t/a.db", Finding::Gone)])).0;
    let Spec::Replica {
        upstream: Some((_, name)),
        options,
        ..
    } = &here["t/a.db"]
    else {
        panic!("{here:?}")
    };
    assert_eq!(name, "t/a.db");
    let archive = options.archive.as_ref().map(|a| a.location.to_string());
    assert_eq!(archive.as_deref(), Some("/backup/t/a.db"));
    let Spec::Shown { orphan, reason, .. } = &gone["t/a.db"] else {
        panic!("{gone:?}")
    };
    assert!(orphan & reason.contains("no longer followed"), "{reason}");
    assert_eq!(names(&diff(&here, &gone)), ["stop t/a.db", "start t/a.db"]);
    assert_eq!(names(&diff(&gone, &here)), ["stop t/a.db", "start t/a.db"]);
}

#[test]
fn a_copy_that_another_entry_has_is_no_clash() {
    let other = UpstreamEntry {
        url: "http://other:1".into(),
        ..upstream()
    };
    let (a, b) = (dir("/x/t", Some(upstream())), dir("/x/t", Some(other)));
    let mut found_b = found(&b, &[("a.db", Finding::Here)]);
    let left = [
        ("a.db", Finding::Kept),
        ("own.db", Finding::Kept),
        ("old.db", Finding::Gone),
        ("new.db", Finding::Kept),
    ];
    found_b.extend(found(&a, &left));
    let own = file("own.db", "/x/t/own.db");
    let entries = [Entry::Directory(a), Entry::Directory(b), own];
    let (plan, clashes) = plan(&entries, &found_b);
    assert!(clashes.is_empty(), "{clashes:?}");
    let from = |name: &str| match &plan[name] {
        Spec::Replica { upstream, .. } => upstream.as_ref().expect("one").0.url.clone(),
        Spec::Shown { orphan, .. } => format!("orphan: {orphan}"),
        Spec::Primary { .. } => "primary".to_owned(),
    };
    let names = ["a.db", "new.db", "old.db", "own.db"];
    let want = ["http://other:1", "http://h:1", "orphan: true", "primary"];
    assert_eq!(names.map(from), want);
}

#[test]
fn one_name_and_one_file_each_and_those_that_are_named_come_first() {
    let entry = dir("/x/t", None);
    let entries = [
        Entry::Directory(entry.clone()),
        file("own", "/x/t/a.db"),
        file("b.db", "/elsewhere/b.db"),
    ];
    let found = found(
        &entry,
        &[
            ("a.db", Finding::Here),
            ("b.db", Finding::Here),
            ("c.db", Finding::Here),
        ],
    );
    let (plan, clashes) = plan(&entries, &found);
    let kept: Vec<&str> = plan.keys().map(String::as_str).collect();
    assert_eq!(kept, ["b.db", "c.db", "own"]);
    assert_eq!(plan["b.db"].path(), Path::new("/elsewhere/b.db"));
    assert_eq!(clashes.len(), 2, "{clashes:?}");
}
