//! From the text of a file to a tree of values that know their places.
//!
//! The tree keeps each value as it is written: `0640` and `10` mean what the key makes of them, not what YAML does.

use super::expand::{Env, expand};
use super::problem::{Place, Problem, Problems};
use granit_parser::{
    ErrorKind, Event, Marker, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag,
};
use std::collections::HashMap;
use std::rc::Rc;

/// Bytes of a file, and of all that variables expand to, at most. A database with all its keys takes 500.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// Values of a file, at most, with what aliases repeat.
const MAX_NODES: usize = 1 << 18;
/// How deep values lie in each other, at most; the keys need 5.
const MAX_DEPTH: usize = 32;

/// A value and where it is.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Kind,
    size: usize,
    depth: usize,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Vec<(Key, Rc<Node>)>),
    /// A mistake in it was told already.
    Broken,
}

/// Text, with what tells its type.
#[derive(Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Written without quotes.
    pub(super) plain: bool,
    /// A variable stood in it.
    pub(super) expanded: bool,
}

/// The key of a pair.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) text: String,
}

/// Reads one document; `None`: the file is empty. A mistake of YAML ends the reading, what cannot be expanded does not.
pub(super) fn read(
    text: &str,
    env: Option<&Env<'_>>,
    problems: &Problems,
) -> Result<Option<Rc<Node>>, Problem> {
    let mut options = Options::default();
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut tree = Tree {
        text,
        env,
        problems,
        open: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        expanded: 0,
        root: None,
    };
    let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str_with_options(text, options);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| bad_yaml(&error))?;
        tree.take(event, span)?;
    }
    Ok(tree.root)
}

fn place(mark: Marker) -> Place {
    Place {
        line: mark.line(),
        column: mark.col() + 1,
    }
}

fn problem(place: Place, text: impl Into<String>) -> Problem {
    Problem {
        place: Some(place),
        text: text.into(),
    }
}

fn bad_yaml(error: &ScanError) -> Problem {
    let hint = match error.kind() {
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation => "; indent with spaces",
        ErrorKind::UnknownAnchor => "; a value that begins with * stands in quotes",
        _ => "",
    };
    problem(
        place(*error.marker()),
        format!("this is not YAML: {}{hint}", error.info()),
    )
}

/// A list or a map that has not ended yet.
struct Open {
    place: Place,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Rc<Node>>),
    Map {
        pairs: Vec<(Key, Rc<Node>)>,
        key: Option<Key>,
    },
}

struct Tree<'a> {
    text: &'a str,
    env: Option<&'a Env<'a>>,
    problems: &'a Problems,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    nodes: usize,
    expanded: usize,
    root: Option<Rc<Node>>,
}

impl Tree<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let at = place(span.start);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => Err(problem(
                at,
                "a second document begins here; a configuration is one, without ---",
            )),
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(span, tag.as_deref())?;
                if let Some(key) = self.awaited_key() {
                    *key = Some(Key {
                        place: at,
                        text: text.into_owned(),
                    });
                    return Ok(());
                }
                let kind = self.scalar(text.into_owned(), style, span)?;
                self.finish(at, kind, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(span, tag.as_deref())?;
                self.begin(at, anchor, Inside::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(span, tag.as_deref())?;
                let pairs = Vec::new();
                self.begin(at, anchor, Inside::Map { pairs, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Err(problem(at, "an end without a beginning"));
                };
                let kind = match open.inside {
                    Inside::List(items) => Kind::List(items),
                    Inside::Map { pairs, .. } => Kind::Map(pairs),
                };
                self.finish(open.place, kind, open.anchor)
            }
            Event::Alias(anchor) => {
                self.refuse_as_key(at)?;
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(problem(
                        at,
                        "this alias lies within the value that it names",
                    ));
                };
                self.count(at, node.size)?;
                self.attach(at, node)
            }
            _ => Ok(()),
        }
    }

    /// Where the next value goes if it is a key.
    fn awaited_key(&mut self) -> Option<&mut Option<Key>> {
        match self.open.last_mut() {
            Some(Open {
                inside: Inside::Map { key, .. },
                ..
            }) if key.is_none() => Some(key),
            _ => None,
        }
    }

    fn refuse_as_key(&mut self, at: Place) -> Result<(), Problem> {
        match self.awaited_key() {
            Some(_) => Err(problem(
                at,
                "a key must be a word; this one is a list, a map or an alias",
            )),
            None => Ok(()),
        }
    }

    fn begin(&mut self, place: Place, anchor: usize, inside: Inside) -> Result<(), Problem> {
        self.refuse_as_key(place)?;
        self.open.push(Open {
            place,
            anchor,
            inside,
        });
        Ok(())
    }

    /// A value is complete.
    fn finish(&mut self, at: Place, kind: Kind, anchor: usize) -> Result<(), Problem> {
        self.count(at, 1)?;
        let children: &mut dyn Iterator<Item = &Rc<Node>> = match &kind {
            Kind::List(items) => &mut items.iter(),
            Kind::Map(pairs) => &mut pairs.iter().map(|(_, node)| node),
            Kind::Scalar(_) | Kind::Broken => &mut std::iter::empty(),
        };
        let (size, depth) = children.fold((1, 1), |(size, depth), child| {
            (size + child.size, depth.max(child.depth + 1))
        });
        let node = Rc::new(Node {
            place: at,
            kind,
            size,
            depth,
        });
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.attach(at, node)
    }

    /// Puts a value where it belongs. Without aliases the parser bounds the depth; with them only this does.
    fn attach(&mut self, at: Place, node: Rc<Node>) -> Result<(), Problem> {
        if self.open.len() + node.depth > MAX_DEPTH {
            return Err(problem(
                at,
                format!("more than {MAX_DEPTH} values within each other"),
            ));
        }
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.root = Some(node),
            Some(Inside::List(items)) => items.push(node),
            Some(Inside::Map { pairs, key }) => match key.take() {
                Some(key) => pairs.push((key, node)),
                None => return Err(problem(at, "a value without a key")),
            },
        }
        Ok(())
    }

    fn count(&mut self, at: Place, nodes: usize) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(problem(
                at,
                format!("more than {MAX_NODES} values, counting those that aliases repeat"),
            ));
        }
        Ok(())
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, span: Span) -> Result<Kind, Problem> {
        let plain = style == ScalarStyle::Plain;
        let env = match self.env {
            Some(env) if text.contains('$') => env,
            _ => {
                return Ok(Kind::Scalar(Scalar {
                    text,
                    plain,
                    expanded: false,
                }));
            }
        };
        match expand(&text, env, MAX_BYTES) {
            Ok(expanded) => {
                self.expanded += expanded.len();
                if self.expanded > MAX_BYTES {
                    let text = format!("more than {MAX_BYTES} bytes from variables");
                    return Err(problem(place(span.start), text));
                }
                Ok(Kind::Scalar(Scalar {
                    text: expanded,
                    plain,
                    expanded: true,
                }))
            }
            Err(bad) => {
                for bad in bad {
                    let at = self.dollar(&text, span, bad.ordinal);
                    self.problems.add(at, bad.text);
                }
                Ok(Kind::Broken)
            }
        }
    }

    /// Where the value's `$` of this ordinal is in the file. Where a `$` was written as an escape, or there are others in
    /// a comment between, the value's beginning has to do.
    fn dollar(&self, value: &str, span: Span, ordinal: usize) -> Place {
        let start = place(span.start);
        let dollars = |text: &str| text.matches('$').count();
        let source = match span.slice(self.text) {
            Some(source) if dollars(source) == dollars(value) => source,
            _ => return start,
        };
        let Some((at, _)) = source.match_indices('$').nth(ordinal) else {
            return start;
        };
        let before = &source[..at];
        match before.rfind('\n') {
            Some(newline) => Place {
                line: start.line + before.matches('\n').count(),
                column: before[newline + 1..].chars().count() + 1,
            },
            None => Place {
                line: start.line,
                column: start.column + before.chars().count(),
            },
        }
    }
}

/// A tag says which type a value has, and here the key does.
fn refuse_tag(span: Span, tag: Option<&Tag>) -> Result<(), Problem> {
    match tag {
        Some(tag) => Err(problem(
            place(span.tag_start().unwrap_or(span.start)),
            format!(
                "tags such as {} are not used here; leave it out",
                tag.original()
            ),
        )),
        None => Ok(()),
    }
}
