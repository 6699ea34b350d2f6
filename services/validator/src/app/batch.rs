//! Thousands of objects at once, and sets of them that are kept warm.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::civil::DateTime;
use meshward_model::{Finding, ObjectRef};

use super::{Input, Known, cross, head, judge as judge_alone, known};
use crate::{
    parallel,
    report::{Findings, Report, is_valid},
    rules::catalogue as rule,
    schema::{Catalogue, Lookup},
    text::{self, Document},
    world::{Entry, Keyed, Kind, Set},
};

/// Most findings of one severity in the answer to a batch.
pub const MAX_BATCH_FINDINGS: usize = 10_000;

/// Objects that are judged together and stay so: what a change means among them can be asked again and again.
#[derive(Debug, Default)]
pub struct Warm {
    pub(crate) set: Set,
    /// The same with approved versions in the place of those that are in force, if there are any.
    later: Option<Set>,
    /// What is wrong with the texts of the context themselves.
    pub(crate) findings: Vec<Finding>,
}

impl Warm {
    /// Nothing around. `complete`: what is not there does not exist.
    #[must_use]
    pub fn new(complete: bool) -> Self {
        Self { set: Set::new(complete), ..Self::default() }
    }

    /// Objects that are known, and those of texts, which take their place.
    #[must_use]
    pub fn among(known: &Known, texts: &[Input<'_>], complete: bool) -> Self {
        let mut warm = Self::new(complete);
        warm.set.extend(known.entries());
        let mut findings = Findings::default();
        let of_texts: Vec<Entry> = texts.iter().flat_map(|input| cross::context(input, &mut findings)).collect();
        let said = of_texts.iter().map(known::key).collect();
        warm.set.extend(of_texts);
        warm.set.settle();
        warm.later = known.later(&warm.set, &said);
        warm.findings = findings.into_sorted();
        warm.ready();
        warm
    }

    /// Does what the first change would have to do.
    pub fn ready(&mut self) {
        [&mut self.set].into_iter().chain(&mut self.later).for_each(Set::ready);
    }

    /// Says what time it is, in UTC.
    pub fn at(&mut self, now: DateTime) {
        for set in [&mut self.set].into_iter().chain(&mut self.later) {
            set.at(now);
            set.settle();
        }
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.world().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a change would mean among these objects.
    #[must_use]
    pub fn what_if(&mut self, text: &[u8], catalogue: &Catalogue) -> Change {
        let mut findings = Findings::default();
        let report = super::validate(text, "", catalogue);
        let (skipped, mended, judged) = cross::judge_change(&report, &mut self.set, &mut findings);
        let mut all = report.findings;
        // A Service may change too; here it need not be a policy.
        let stranger = |finding: &Finding| {
            finding.id == rule::NOT_A_POLICY.id && Kind::of(&finding.object).is_some_and(|kind| !kind.is_policy())
        };
        all.retain(|finding| !stranger(finding));
        all.extend(findings.into_sorted());
        Change { findings: all, mended, judged, skipped: report.skipped.into_iter().chain(skipped).collect() }
    }

    /// Judges the objects of a report among these: what is found, and the rules that could not run, with the reason.
    pub(crate) fn judge(&mut self, report: &Report) -> (Vec<Finding>, BTreeSet<String>) {
        let mut skipped = BTreeSet::new();
        let found = self.now_and_later(|set| {
            let mut findings = Findings::default();
            skipped.extend(cross::judge(report, set, &mut findings));
            findings.into_sorted()
        });
        (found, skipped)
    }

    /// What others lack without these objects.
    pub(crate) fn removal(&mut self, removed: &[ObjectRef]) -> Vec<Finding> {
        self.now_and_later(|set| cross::removal(removed, set))
    }

    fn now_and_later(&mut self, mut judge: impl FnMut(&mut Set) -> Vec<Finding>) -> Vec<Finding> {
        let mut found = judge(&mut self.set);
        if let Some(later) = &mut self.later {
            let later = judge(later);
            let new: Vec<_> = known::only_later(&found, later).collect();
            found.extend(new);
        }
        found
    }
}

/// What a change would mean.
#[derive(Debug, Default)]
pub struct Change {
    /// What is wrong with the changed objects, and what they break elsewhere.
    pub findings: Vec<Finding>,
    /// What was wrong elsewhere and would no longer be.
    pub mended: Vec<Finding>,
    /// How many objects were judged again.
    pub judged: usize,
    /// Rules that did not run, each with the reason.
    pub skipped: Vec<String>,
}

/// The answer to a batch.
#[derive(Debug, Default)]
pub struct BatchReport {
    /// In the order of the texts and of their position.
    pub findings: Vec<Finding>,
    /// How many objects were read.
    pub objects: usize,
    /// Rules that did not run, each with the reason.
    pub skipped: Vec<String>,
}

impl BatchReport {
    /// Whether the cluster would take all objects.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        is_valid(&self.findings)
    }
}

/// Judges all objects of several texts, each alone and among the others, at this time (UTC). Objects that are no policies
/// (Services, Pods…) are there to be referred to.
#[must_use]
pub fn batch(texts: &[Input<'_>], complete: bool, now: DateTime, catalogue: &Catalogue) -> (BatchReport, Warm) {
    // Threads that judge objects of the same kinds would wait for one another's definitions: each is compiled by who meets it
    // first, while others go on reading.
    let met = Mutex::new(BTreeSet::new());
    let read = parallel::map(texts, |input| {
        let read = Read::of(input);
        for (api_version, kind) in read.kinds() {
            let of_kind = (api_version.to_owned(), kind.to_owned());
            let is_first = met.lock().unwrap_or_else(PoisonError::into_inner).insert(of_kind);
            if let Lookup::Schema(schema) = catalogue.find(api_version, kind)
                && is_first
            {
                schema.prepare();
            }
        }
        read
    });
    let mut batch = Batch::new(complete, now);
    for part in parallel::map(read, |text| text.judge(catalogue)) {
        batch.put(part);
    }
    batch.finish()
}

/// What one text of a batch says.
struct Read {
    objects: Vec<(ObjectRef, Document)>,
    findings: Findings,
    source: Arc<str>,
}

impl Read {
    fn of(input: &Input<'_>) -> Self {
        let mut findings = Findings::at_most(MAX_BATCH_FINDINGS);
        let documents = text::load(input.text, &mut findings).into_iter().flat_map(cross::list_items);
        let objects = documents.map(|document| (head(&document.value), document)).collect();
        Self { objects, findings, source: input.source.into() }
    }

    /// Of which kinds its objects are, as apiVersion and kind.
    fn kinds(&self) -> BTreeSet<(&str, &str)> {
        self.objects.iter().map(|(head, _)| (head.api_version.as_str(), head.kind.as_str())).collect()
    }

    fn judge(self, catalogue: &Catalogue) -> Part {
        let Self { objects, mut findings, source } = self;
        let mut skipped: BTreeSet<String> =
            catalogue.is_empty().then(|| super::NO_CATALOGUE.to_owned()).into_iter().collect();
        for (head, document) in &objects {
            if Kind::of(head).is_none_or(Kind::is_policy) {
                skipped.extend(judge_alone(document, head, &source, catalogue, &mut findings));
            }
        }
        findings.name_from(0, &source);
        let read = objects.len();
        let entries = objects.into_iter().filter_map(|(head, document)| cross::entry_of(head, document, &source));
        Part { entries: entries.map(Keyed::from).collect(), objects: read, findings, skipped }
    }
}

/// What is wrong with each object of a text alone.
struct Part {
    entries: Vec<Keyed>,
    objects: usize,
    findings: Findings,
    skipped: BTreeSet<String>,
}

/// A batch to which texts are added one by one.
#[derive(Debug)]
pub struct Batch {
    warm: Warm,
    findings: Findings,
    skipped: BTreeSet<String>,
    objects: usize,
    taken: usize,
}

impl Batch {
    /// Without any object, at this time (UTC). `complete`: what is not there at the end does not exist.
    #[must_use]
    pub fn new(complete: bool, now: DateTime) -> Self {
        let findings = Findings::at_most(MAX_BATCH_FINDINGS);
        let mut warm = Warm::new(complete);
        warm.at(now);
        Self { warm, findings, skipped: BTreeSet::new(), objects: 0, taken: 0 }
    }

    /// Judges the objects of a text alone, and keeps them for [`Batch::finish`].
    pub fn add(&mut self, input: &Input<'_>, catalogue: &Catalogue) {
        self.put(Read::of(input).judge(catalogue));
    }

    fn put(&mut self, part: Part) {
        let Part { entries, objects, findings, skipped } = part;
        self.objects += objects;
        self.warm.set.extend(entries);
        self.findings.append(findings);
        self.skipped.extend(skipped);
    }

    /// How many objects there are.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// What was found since the last call.
    pub fn take(&mut self) -> Vec<Finding> {
        let new = self.findings.from(self.taken).to_vec();
        self.taken += new.len();
        new
    }

    /// Judges the objects among each other. What was taken is not told again.
    #[must_use]
    pub fn finish(mut self) -> (BatchReport, Warm) {
        let set = &mut self.warm.set;
        set.settle();
        for (id, entry) in set.world().entries() {
            let Some(judgement) = set.judgement(id) else { continue };
            self.skipped.extend(judgement.skipped.iter().cloned());
            let hits = judgement.hits.iter().cloned();
            hits.for_each(|hit| self.findings.hit_in(hit, &entry.head, &entry.places, &entry.source));
        }
        self.findings.forget_first(self.taken);
        let (findings, skipped) = (self.findings.into_sorted(), self.skipped.into_iter().collect());
        (BatchReport { findings, objects: self.objects, skipped }, self.warm)
    }
}

/// A long text in pieces that are within the bounds of one and many enough to be read side by side, cut between documents.
#[must_use]
pub fn pieces(text: &str) -> Vec<&str> {
    const LONGEST: usize = text::MAX_BYTES / 2;
    const MOST: usize = text::MAX_DOCUMENTS / 8;
    let (mut pieces, mut start, mut at, mut documents) = (Vec::new(), 0, 0, 0);
    for line in text.split_inclusive('\n') {
        if line.starts_with("---") {
            documents += 1;
            if at - start > LONGEST || documents > MOST {
                pieces.push(&text[start..at]);
                (start, documents) = (at, 0);
            }
        }
        at += line.len();
    }
    pieces.push(&text[start..]);
    pieces
}
