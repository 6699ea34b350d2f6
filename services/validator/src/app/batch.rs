//! Thousands of objects at once, and sets of them that are kept warm.

use std::{collections::BTreeSet, sync::Arc};

use meshward_model::Finding;

use super::{Input, cross, head, judge as judge_alone};
use crate::{
    report::{Findings, Report, is_valid},
    schema::Catalogue,
    text,
    world::{Kind, Set},
};

/// Most findings of one severity in the answer to a batch.
pub const MAX_BATCH_FINDINGS: usize = 10_000;

/// Objects that are judged together and stay so: what a change means among them can be asked again and again.
#[derive(Debug, Default)]
pub struct Warm {
    pub(crate) set: Set,
    /// What is wrong with the texts of the context themselves.
    pub(crate) findings: Vec<Finding>,
}

impl Warm {
    /// Nothing around. `complete`: what is not there does not exist.
    #[must_use]
    pub fn new(complete: bool) -> Self {
        Self { set: Set::new(complete), findings: Vec::new() }
    }

    /// The objects of texts that are context.
    #[must_use]
    pub fn of(texts: &[Input<'_>], complete: bool) -> Self {
        let mut warm = Self::new(complete);
        let mut findings = Findings::default();
        for input in texts {
            warm.set.extend(cross::context(input, &mut findings));
        }
        warm.set.settle();
        warm.findings = findings.into_sorted();
        warm
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

    /// Judges the objects of a report among these; the rules that could not run, with the reason.
    pub(crate) fn judge(&mut self, report: &Report, findings: &mut Findings) -> BTreeSet<String> {
        cross::judge(report, &mut self.set, findings)
    }
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

/// Judges all objects of several texts, each alone and among the others. Objects that are no policies (Services, Pods…) are
/// there to be referred to.
#[must_use]
pub fn batch(texts: &[Input<'_>], complete: bool, catalogue: &Catalogue) -> (BatchReport, Warm) {
    let mut findings = Findings::at_most(MAX_BATCH_FINDINGS);
    let mut skipped = BTreeSet::new();
    let mut warm = Warm::new(complete);
    let mut objects = 0;
    if catalogue.is_empty() {
        skipped.insert(super::NO_CATALOGUE.to_owned());
    }
    for input in texts {
        let source: Arc<str> = input.source.into();
        let before = findings.len();
        for document in text::load(input.text, &mut findings) {
            for (value, places) in cross::list_items(document.value, document.places) {
                objects += 1;
                let document = text::Document { value, places };
                let head = head(&document.value);
                let kind = Kind::of(&head);
                if kind.is_none_or(Kind::is_policy) {
                    skipped.extend(judge_alone(&document, &head, input.source, catalogue, &mut findings));
                }
                warm.set.extend(cross::entry_of(head, document, &source));
            }
        }
        findings.name_from(before, input.source);
    }
    warm.set.settle();
    for (id, entry) in warm.set.world().entries() {
        let Some(judgement) = warm.set.judgement(id) else { continue };
        skipped.extend(judgement.skipped.iter().cloned());
        judgement.hits.iter().for_each(|hit| findings.hit_in(hit.clone(), &entry.head, &entry.places, &entry.source));
    }
    (BatchReport { findings: findings.into_sorted(), objects, skipped: skipped.into_iter().collect() }, warm)
}

/// A long text in pieces that are within the bounds of one, cut between documents.
#[must_use]
pub fn pieces(text: &str) -> Vec<&str> {
    const LONGEST: usize = text::MAX_BYTES / 2;
    const MOST: usize = text::MAX_DOCUMENTS / 2;
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
