//! Prints one trace as a tree that stays readable, however long the deployment was.
//!
//! Siblings of the same service and name become one line with their number and median, and so do their children, taken
//! together. What is still too long is folded from the deepest level up: a folded line says how many spans it hides.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::{Span, SpanStatus};

/// Under this line stand the spans whose parent did not reach the receiver (yet), or was dropped.
const PARENT_NOT_SEEN: &str = "(parent not seen)";

/// Renders the spans of one trace as text of at most `max_lines` lines (at least 2), each ending with a newline. One
/// line tells the service, the name, the duration and, where it is one, the error:
///
/// ```text
/// trace 0af7651916cd43dd8448eb211c80319c · 44 spans · 2 services · 83.2 s
/// orchestrator  Deploy  83.2 s
///   gateway  ApplyExposure  × 42, median 3 ms, 1 failed: conflict
/// ```
pub fn render_trace(spans: &[Span], max_lines: usize) -> String {
    let Some(first) = spans.first() else { return "no spans\n".to_owned() };
    let lines = fold(Forest::new(spans).lines(), max_lines.max(2) - 1);
    let services: HashSet<_> = spans.iter().map(|span| &span.service).collect();
    let mut text = format!(
        "trace {} · {} · {} · {}\n",
        first.trace_id,
        counted(spans.len(), "span"),
        counted(services.len(), "service"),
        told(extent(spans)),
    );
    for line in lines {
        text.extend(std::iter::repeat_n("  ", line.depth));
        text.push_str(&line.text);
        text.push('\n');
    }
    text
}

/// One line of the tree, in the order of printing.
#[derive(Debug)]
struct Line {
    depth: usize,
    text: String,
    /// How many spans it stands for.
    spans: usize,
}

/// Spans that are printed as one line.
type Group<'a> = Vec<&'a Span>;

/// The spans of a trace by their parents.
struct Forest<'a> {
    roots: Vec<&'a Span>,
    orphans: Vec<&'a Span>,
    children: HashMap<&'a str, Vec<&'a Span>>,
}

impl<'a> Forest<'a> {
    fn new(spans: &'a [Span]) -> Self {
        let ids: HashSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
        let mut forest = Self { roots: Vec::new(), orphans: Vec::new(), children: HashMap::new() };
        for span in spans {
            match span.parent_id.as_deref() {
                None => forest.roots.push(span),
                Some(parent) if ids.contains(parent) => forest.children.entry(parent).or_default().push(span),
                Some(_) => forest.orphans.push(span),
            }
        }
        forest.cut_loops(spans);
        forest
    }

    /// Spans that are their own ancestors hang under no root. No sound client makes them, but they must not vanish.
    fn cut_loops(&mut self, spans: &'a [Span]) {
        let mut reached: HashSet<&str> = HashSet::new();
        let mut open: Vec<&Span> = self.roots.iter().chain(&self.orphans).copied().collect();
        while let Some(span) = open.pop() {
            reached.insert(&span.span_id);
            open.extend(self.children.get(span.span_id.as_str()).into_iter().flatten());
        }
        let lost: Vec<&Span> = spans.iter().filter(|span| !reached.contains(span.span_id.as_str())).collect();
        for span in &lost {
            self.children.remove(span.span_id.as_str());
        }
        self.orphans.extend(lost);
    }

    /// All lines, parents before children, siblings by start. Without recursion: a trace may be any number deep.
    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        self.walk(&self.roots, 0, &mut lines);
        if !self.orphans.is_empty() {
            lines.push(Line { depth: 0, text: PARENT_NOT_SEEN.to_owned(), spans: 0 });
            self.walk(&self.orphans, 1, &mut lines);
        }
        lines
    }

    fn walk(&self, top: &[&'a Span], depth: usize, lines: &mut Vec<Line>) {
        let mut open: Vec<(usize, Group)> =
            grouped(top.iter().copied()).into_iter().map(|g| (depth, g)).rev().collect();
        while let Some((depth, group)) = open.pop() {
            let below = group.iter().flat_map(|span| self.children.get(span.span_id.as_str())).flatten().copied();
            open.extend(grouped(below).into_iter().map(|child| (depth + 1, child)).rev());
            lines.push(Line { depth, text: describe(&group), spans: group.len() });
        }
    }
}

/// Puts siblings of the same service and name together, in the order of their first starts.
fn grouped<'a>(siblings: impl Iterator<Item = &'a Span>) -> Vec<Group<'a>> {
    let mut siblings: Vec<&Span> = siblings.collect();
    siblings.sort_by_key(|span| span.start_nanos);
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for span in siblings {
        let place = *places.entry((&span.service, &span.name)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(span),
            None => groups.push(vec![span]),
        }
    }
    groups
}

fn describe(group: &[&Span]) -> String {
    let span = group[0];
    let errors: Vec<&str> = group.iter().filter_map(|span| error_of(span)).collect();
    let message = errors.iter().find(|message| !message.is_empty()).map_or(String::new(), |m| format!(": {m}"));
    let (time, failed) = match group.len() {
        1 => (told(span.duration), "failed".to_owned()),
        many => (format!("× {many}, median {}", told(median(group))), format!("{} failed", errors.len())),
    };
    let failed = if errors.is_empty() { String::new() } else { format!(", {failed}{message}") };
    format!("{}  {}  {time}{failed}", span.service, span.name)
}

fn error_of(span: &Span) -> Option<&str> {
    match &span.status {
        SpanStatus::Error(message) => Some(message),
        SpanStatus::Ok | SpanStatus::Unset => None,
    }
}

fn median(group: &[&Span]) -> Duration {
    let mut durations: Vec<Duration> = group.iter().map(|span| span.duration).collect();
    durations.sort();
    durations[durations.len() / 2]
}

/// From the first start to the last end.
fn extent(spans: &[Span]) -> Duration {
    let start = spans.iter().map(|span| span.start_nanos).min().unwrap_or_default();
    let ends = spans.iter().map(|span| Duration::from_nanos(span.start_nanos) + span.duration);
    ends.max().unwrap_or_default().saturating_sub(Duration::from_nanos(start))
}

/// A duration as people say it.
fn told(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms {
        ..1.0 => format!("{ms:.2} ms"),
        ..10.0 => format!("{ms:.1} ms"),
        ..10_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1e3),
    }
}

fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Folds the deepest levels into the lines above them until at most `max` lines are left; if even the top level is
/// longer than that, its end is cut and counted.
fn fold(lines: Vec<Line>, max: usize) -> Vec<Line> {
    let limit = deepest_that_fits(&lines, max);
    let mut kept: Vec<Line> = Vec::new();
    let mut hidden: Vec<usize> = Vec::new();
    for line in lines {
        match hidden.last_mut() {
            Some(below) if line.depth > limit => *below += line.spans,
            _ => {
                kept.push(line);
                hidden.push(0);
            }
        }
    }
    for (line, below) in kept.iter_mut().zip(hidden).filter(|(_, below)| *below > 0) {
        line.text.push_str(&format!("  (+ {} below)", counted(below, "span")));
        line.spans += below;
    }
    if kept.len() > max {
        let rest: usize = kept.split_off(max.saturating_sub(1)).iter().map(|line| line.spans).sum();
        kept.push(Line { depth: 0, text: format!("… and {} more", counted(rest, "span")), spans: rest });
    }
    kept
}

/// The greatest depth such that the lines down to it are no more than `max`; 0 if there is none.
fn deepest_that_fits(lines: &[Line], max: usize) -> usize {
    let mut depths: Vec<usize> = lines.iter().map(|line| line.depth).collect();
    depths.sort_unstable();
    match depths.get(max) {
        // This line is one too many, and with it its whole level.
        Some(depth) => depth.saturating_sub(1),
        None => usize::MAX,
    }
}
