//! From the parser's events to documents.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag, options};
use meshward_model::SourceRange;
use serde_json::Value;
use smol_str::SmolStr;

use super::{
    Document, MAX_BYTES, MAX_DEPTH, MAX_DOCUMENTS, MAX_NODES,
    node::{Content, Key, Node, expand, scalar_text, text_with_colon},
    scalar::{Scalar, Trap, resolve},
};
use crate::{
    report::{Findings, clamp, position, quote},
    rules::catalogue::{self as rule, Rule},
};

/// A list or mapping that is still open.
struct Open {
    start: SourceRange,
    anchor: usize,
    nodes: usize,
    bytes: usize,
    height: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Rc<Node>>),
    Mapping { fields: Vec<(Key, Rc<Node>)>, pending: Pending },
}

/// Which half of a field a mapping waits for.
enum Pending {
    Key,
    Value(Key),
    Merge(SourceRange),
    /// The key was refused; its value is read and dropped.
    Nothing,
}

/// A finding that ends the reading.
struct Stop;

/// All documents up to the first error of syntax.
pub(super) fn documents(text: &str, findings: &mut Findings) -> Vec<Document> {
    let options = options! {
        emit_comments: false,
        disallow_directives: true,
        emit_unresolved_aliases: true,
        block_scalar_eof_without_line_feed: true,
        flow_nesting_limit: MAX_DEPTH + 1,
        block_nesting_limit: MAX_DEPTH + 1,
    };
    let mut composer = Composer::new(findings);
    for next in Parser::new_from_str_with_options(text, options) {
        let outcome = match next {
            Ok((event, span)) => composer.event(event, span),
            Err(error) => composer.refuse(&error),
        };
        if outcome.is_err() {
            break;
        }
    }
    composer.left_open();
    composer.documents
}

struct Composer<'f> {
    findings: &'f mut Findings,
    documents: Vec<Document>,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    /// Anchors of lists and mappings that are still open.
    unfinished: HashSet<usize>,
    started: u32,
    nodes: usize,
    bytes: usize,
}

impl<'f> Composer<'f> {
    fn new(findings: &'f mut Findings) -> Self {
        Self {
            findings,
            documents: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            unfinished: HashSet::new(),
            started: 0,
            nodes: 0,
            bytes: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let at = self.range(span);
        match event {
            Event::DocumentStart(..) => self.document(at),
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref(), at),
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(Kind::List(Vec::new()), anchor, tag.as_deref(), "seq", at)
            }
            Event::MappingStart(_, anchor, tag) => {
                let kind = Kind::Mapping { fields: Vec::new(), pending: Pending::Key };
                self.begin(kind, anchor, tag.as_deref(), "map", at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(at),
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::UnresolvedAlias(name) => {
                let message = format!("the anchor &{} is not defined before this alias", cut(&name));
                self.stop(rule::UNKNOWN_ALIAS, at, message, "define the anchor earlier in the same document")
            }
            _ => Ok(()),
        }
    }

    fn range(&self, span: Span) -> SourceRange {
        let (line, column) = (clamp(span.start.line()), clamp(span.start.col() + 1));
        let (end_line, end_column) = (clamp(span.end.line()), clamp(span.end.col() + 1));
        let (end_line, end_column) = (end_line, end_column).max((line, column));
        SourceRange { document: self.started.saturating_sub(1), line, column, end_line, end_column }
    }

    fn stop<T>(&mut self, rule: &'static Rule, at: SourceRange, message: String, suggestion: &str) -> Result<T, Stop> {
        self.findings.at(rule, at, message, suggestion);
        Err(Stop)
    }

    fn document(&mut self, at: SourceRange) -> Result<(), Stop> {
        self.started += 1;
        self.anchors.clear();
        if self.started as usize > MAX_DOCUMENTS {
            let message = format!("the text has more than {MAX_DOCUMENTS} documents");
            return self.stop(rule::TOO_MANY_DOCUMENTS, at, message, "split it into several texts");
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: SourceRange,
    ) -> Result<(), Stop> {
        let plain = matches!(style, ScalarStyle::Plain);
        if plain && tag.is_none() && text == "<<" && self.awaits_key() {
            return self.place_merge_key(at);
        }
        let value = match tag.map(|tag| (tag.core_suffix(), tag.is_custom())) {
            None if plain => self.plain(text, at),
            None | Some((Some("str"), _)) => Value::from(text),
            Some((Some("int" | "float" | "bool" | "null"), _)) => self.plain(text, at),
            Some(_) => {
                let message = format!("the tag {} is not read here", cut(&tag_name(tag)));
                return self.stop(rule::BAD_TAG, at, message, "leave the tag out");
            }
        };
        if anchor == 0 && self.awaits_key() {
            return self.key(Some(&value), text, at);
        }
        let bytes = if value.is_string() { text.len() } else { 0 };
        let node = Rc::new(Node { at, content: Content::Scalar(value), nodes: 1, bytes, height: 0 });
        self.remember(anchor, &node);
        self.put(node, text, at)
    }

    /// A plain scalar as kubectl reads it. As a key, only a changed text surprises, which `key` reports.
    fn plain(&mut self, text: &str, at: SourceRange) -> Value {
        let is_key = self.awaits_key();
        match resolve(text) {
            Scalar::Plain(value) => value,
            Scalar::Surprising(value, trap) => {
                if !is_key {
                    let rule = if trap == Trap::Boolean { rule::IMPLICIT_BOOLEAN } else { rule::IMPLICIT_NUMBER };
                    let message = format!("{} without quotes is read as {value} by Kubernetes tools", cut(text));
                    self.findings.at(rule, at, message, &format!("write \"{}\" for the text, or {value}", cut(text)));
                }
                value
            }
            Scalar::NotFinite => {
                let message = format!("{text} cannot be sent to Kubernetes: JSON has no such number");
                self.findings.at(rule::NOT_FINITE, at, message, "write a number, or put the text in quotes");
                Value::from(text)
            }
        }
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last().map(|open| &open.kind), Some(Kind::Mapping { pending: Pending::Key, .. }))
    }

    fn place_merge_key(&mut self, at: SourceRange) -> Result<(), Stop> {
        if let Some(Open { kind: Kind::Mapping { pending, .. }, .. }) = self.open.last_mut() {
            *pending = Pending::Merge(at);
        }
        Ok(())
    }

    fn begin(
        &mut self,
        kind: Kind,
        anchor: usize,
        tag: Option<&Tag>,
        expected: &str,
        at: SourceRange,
    ) -> Result<(), Stop> {
        if tag.is_some_and(|tag| tag.core_suffix() != Some(expected)) {
            let message = format!("the tag {} is not read here", cut(&tag_name(tag)));
            return self.stop(rule::BAD_TAG, at, message, "leave the tag out");
        }
        if self.open.len() >= MAX_DEPTH {
            return self.too_deep(at);
        }
        if anchor != 0 {
            self.unfinished.insert(anchor);
        }
        self.open.push(Open { start: at, anchor, nodes: 1, bytes: 0, height: 1, kind });
        Ok(())
    }

    fn too_deep(&mut self, at: SourceRange) -> Result<(), Stop> {
        let message = format!("values are nested deeper than {MAX_DEPTH} levels here");
        self.stop(
            rule::TOO_DEEP,
            at,
            message,
            "no mesh policy is nested so deeply: check the indentation and the aliases",
        )
    }

    fn end(&mut self, at: SourceRange) -> Result<(), Stop> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        if let Kind::Mapping { fields, .. } = &open.kind
            && let Some(node) = text_with_colon(open.start, fields, at).filter(|_| open.anchor == 0)
        {
            return self.put(Rc::new(node), "", at);
        }
        let (content, last) = match open.kind {
            Kind::List(items) => {
                let last = items.last().map(|item| item.at);
                (Content::Items(items), last)
            }
            Kind::Mapping { mut fields, .. } => {
                let last = fields.last().map(|(_, value)| value.at);
                self.sort(&mut fields);
                (Content::Fields(fields), last)
            }
        };
        // The parser ends a block where the next thing begins; a reader ends it with its last value.
        let end = last.filter(|last| last.line >= open.start.line).unwrap_or(at);
        let at = SourceRange { end_line: end.end_line, end_column: end.end_column, ..open.start };
        let node = Rc::new(Node { at, content, nodes: open.nodes, bytes: open.bytes, height: open.height });
        self.unfinished.remove(&open.anchor);
        self.remember(open.anchor, &node);
        self.put(node, "", at)
    }

    /// Puts the fields of a mapping in the order of their keys, of one key in the order of the text, and tells of keys that are
    /// written twice.
    fn sort(&mut self, fields: &mut [(Key, Rc<Node>)]) {
        fields.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        for same in fields.chunk_by(|(one, _), (other, _)| one.name == other.name).filter(|same| same.len() > 1) {
            let mut written = same.iter().map(|(key, _)| key).filter(|key| !key.merged);
            let Some(first) = written.next() else { continue };
            for again in written {
                let place = format!("line {}, column {}", first.at.line, first.at.column);
                let message = format!("the key {} occurs twice; the first is at {place}", quote(&again.name));
                self.findings.at(rule::DUPLICATE_KEY, again.at, message, "keep one of the two");
            }
        }
    }

    /// Tells of keys that are written twice in what an error of syntax has left open.
    fn left_open(&mut self) {
        for open in std::mem::take(&mut self.open) {
            if let Kind::Mapping { mut fields, .. } = open.kind {
                self.sort(&mut fields);
            }
        }
    }

    fn remember(&mut self, anchor: usize, node: &Rc<Node>) {
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(node));
        }
    }

    fn alias(&mut self, anchor: usize, at: SourceRange) -> Result<(), Stop> {
        if self.unfinished.contains(&anchor) {
            let message = "this alias stands inside the value that it refers to, which would never end".to_owned();
            return self.stop(rule::SELF_REFERENCE, at, message, "write the value out");
        }
        let Some(node) = self.anchors.get(&anchor).map(Rc::clone) else {
            let message = "the anchor of this alias is not defined before it".to_owned();
            return self.stop(rule::UNKNOWN_ALIAS, at, message, "define the anchor earlier in the same document");
        };
        let text = match &node.content {
            Content::Scalar(value) => scalar_text(value),
            _ => String::new(),
        };
        self.put(node, &text, at)
    }

    /// Puts a finished value where it belongs: into the open list or mapping, as a key, or as the document. `text` is the
    /// scalar's text for a key.
    fn put(&mut self, node: Rc<Node>, text: &str, at: SourceRange) -> Result<(), Stop> {
        if self.open.len() + node.height > MAX_DEPTH {
            return self.too_deep(at);
        }
        let Some(open) = self.open.last_mut() else { return self.finish(node) };
        let Kind::Mapping { fields, pending, .. } = &mut open.kind else { return self.add_item(node, at) };
        match std::mem::replace(pending, Pending::Key) {
            Pending::Key => {
                let value = match &node.content {
                    Content::Scalar(value) => Some(value),
                    _ => None,
                };
                self.key(value, text, at)
            }
            Pending::Nothing => Ok(()),
            Pending::Merge(key) => self.merge(&node, key),
            Pending::Value(key) => {
                let cost = (node.nodes, node.bytes + key.name.len());
                open.height = open.height.max(node.height + 1);
                fields.push((key, node));
                self.charge(cost, at)
            }
        }
    }

    fn add_item(&mut self, node: Rc<Node>, at: SourceRange) -> Result<(), Stop> {
        let cost = (node.nodes, node.bytes);
        if let Some(open) = self.open.last_mut() {
            open.height = open.height.max(node.height + 1);
            if let Kind::List(items) = &mut open.kind {
                items.push(node);
            }
        }
        self.charge(cost, at)
    }

    /// Counts what the open value has become, and stops before the whole is too much.
    fn charge(&mut self, (nodes, bytes): (usize, usize), at: SourceRange) -> Result<(), Stop> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        open.nodes += nodes;
        open.bytes += bytes;
        self.bounded(open_total(&self.open), at)
    }

    fn bounded(&mut self, (nodes, bytes): (usize, usize), at: SourceRange) -> Result<(), Stop> {
        if self.nodes + nodes > MAX_NODES {
            let message = format!("aliases expanded, the text has more than {MAX_NODES} values up to here");
            return self.stop(rule::TOO_MANY_NODES, at, message, "write fewer aliases, or split the text");
        }
        if self.bytes + bytes > MAX_BYTES {
            let message = format!("aliases expanded, the text is larger than {MAX_BYTES} bytes up to here");
            return self.stop(rule::TOO_MANY_NODES, at, message, "write fewer aliases, or split the text");
        }
        Ok(())
    }

    fn key(&mut self, value: Option<&Value>, text: &str, at: SourceRange) -> Result<(), Stop> {
        let name: SmolStr = match value {
            Some(Value::String(name)) => name.as_str().into(),
            Some(value) if !value.is_null() => value.to_string().into(),
            _ => {
                let message = "a key must be a text, and this one is null, a list or a mapping".to_owned();
                self.findings.at(rule::KEY_NOT_TEXT, at, message, "put the key in quotes");
                self.set_pending(Pending::Nothing);
                return Ok(());
            }
        };
        if name != text && !text.is_empty() {
            let message =
                format!("the key {} without quotes is read as {} by Kubernetes tools", cut(text), quote(&name));
            self.findings.at(rule::KEY_CONVERTED, at, message, "put the key in quotes");
        }
        self.set_pending(Pending::Value(Key { name, at, merged: false }));
        Ok(())
    }

    fn set_pending(&mut self, value: Pending) {
        if let Some(Open { kind: Kind::Mapping { pending, .. }, .. }) = self.open.last_mut() {
            *pending = value;
        }
    }

    /// `<<`: the fields of a mapping, or of several, of which earlier ones win. As with kubectl, what stands later in the
    /// text overrides what stands earlier, be it a merge or a field.
    fn merge(&mut self, node: &Rc<Node>, at: SourceRange) -> Result<(), Stop> {
        let single = [Rc::clone(node)];
        let sources: &[Rc<Node>] = match &node.content {
            Content::Items(items) => items,
            _ => &single,
        };
        for source in sources.iter().rev() {
            let Content::Fields(merged) = &source.content else {
                let message = "a merge key (<<) needs a mapping or a list of mappings".to_owned();
                self.findings.at(rule::BAD_MERGE, at, message, "refer to a mapping");
                return Ok(());
            };
            if let Some(Open { kind: Kind::Mapping { fields, .. }, height, .. }) = self.open.last_mut() {
                *height = (*height).max(source.height);
                let merged = merged.iter().map(|(key, node)| (Key { merged: true, ..key.clone() }, Rc::clone(node)));
                fields.extend(merged);
            }
            self.charge((source.nodes, source.bytes), at)?;
        }
        Ok(())
    }

    fn finish(&mut self, node: Rc<Node>) -> Result<(), Stop> {
        self.bounded((node.nodes, node.bytes), node.at)?;
        self.nodes += node.nodes;
        self.bytes += node.bytes;
        match &node.content {
            Content::Scalar(Value::Null) => {}
            Content::Fields(_) => {
                let (value, places) = expand(node);
                self.documents.push(Document { value, places });
            }
            _ => {
                let message = "a document must be a mapping with apiVersion, kind and metadata".to_owned();
                self.findings.at(rule::NOT_A_MAPPING, node.at, message, "write one object per document");
            }
        }
        Ok(())
    }

    fn refuse(&mut self, error: &ScanError) -> Result<(), Stop> {
        let mark = error.marker();
        let document = self.started.saturating_sub(1);
        let at = SourceRange { document, ..position(mark.line().max(1), mark.col() + 1) };
        let said = error.info();
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => self.too_deep(at),
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabInPlainScalar
            | ErrorKind::TabAtBlockScalarStart => self.stop(rule::TAB, at, said, "indent with spaces"),
            ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
                self.stop(rule::UNTERMINATED_QUOTE, at, said, "close the quote")
            }
            ErrorKind::DirectiveDisallowed => {
                let message = "directives (lines that begin with %) are not read".to_owned();
                self.stop(rule::MALFORMED, at, message, "remove the line")
            }
            _ => self.stop(rule::MALFORMED, at, format!("this is not YAML: {said}"), ""),
        }
    }
}

/// Nodes and bytes of everything that is still open: each level counts its finished children, so they add up.
fn open_total(open: &[Open]) -> (usize, usize) {
    open.iter().fold((0, 0), |(nodes, bytes), open| (nodes + open.nodes, bytes + open.bytes))
}

fn tag_name(tag: Option<&Tag>) -> String {
    tag.map(Tag::original).unwrap_or_default()
}

fn cut(text: &str) -> String {
    const LONGEST: usize = 40;
    let short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}
