//! Where the values of a document stand in its text.

use meshward_model::SourceRange;
use smol_str::SmolStr;

use crate::path::{Path, Step};

/// The positions of a value and of everything in it. A value that an alias repeats has the places of its anchor, so a finding
/// points at the text that has to be changed.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// From the value's first to its last character.
    pub(super) at: SourceRange,
    pub(super) inside: Inside,
}

#[derive(Debug, Clone, Default)]
pub(super) enum Inside {
    #[default]
    Nothing,
    Items(Vec<Places>),
    /// Ordered by key.
    Fields(Vec<Named>),
}

/// A field: its key, where the key stands, and the value's places.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: SmolStr,
    pub(super) key: SourceRange,
    pub(super) value: Places,
}

impl Inside {
    /// Of the fields of a mapping in the order of their keys; the last one of a key counts.
    pub(super) fn fields(mut fields: Vec<Named>) -> Self {
        fields.dedup_by(|later, kept| {
            let is_same = later.name == kept.name;
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        Self::Fields(fields)
    }
}

fn named<'f>(fields: &'f [Named], name: &str) -> Option<&'f Named> {
    let at = fields.binary_search_by(|field| field.name.as_str().cmp(name)).ok()?;
    fields.get(at)
}

impl Places {
    /// Where the whole document stands.
    #[must_use]
    pub fn whole(&self) -> SourceRange {
        self.at
    }

    /// Where the value at `path` stands. For a list or mapping that is its key, which is what a reader looks for. For a path
    /// that the text does not have, the nearest field around it.
    #[must_use]
    pub fn of(&self, path: &Path) -> SourceRange {
        let (mut here, mut at) = (self, first_line(self.at));
        for step in path.steps() {
            let next = match (&here.inside, &step) {
                (Inside::Items(items), Step::Index(index)) => items.get(*index).map(|value| (value, value.at)),
                (Inside::Fields(fields), Step::Field(name)) => {
                    named(fields, name).map(|field| (&field.value, field.key))
                }
                _ => None,
            };
            let Some((value, key)) = next else { return at };
            at = if matches!(value.inside, Inside::Nothing) { value.at } else { first_line(key) };
            here = value;
        }
        at
    }

    /// Where the key at the end of `path` stands, or [`Places::of`] if it has none.
    #[must_use]
    pub fn key_of(&self, path: &Path) -> SourceRange {
        let (around, Some(Step::Field(name))) = path.split_last() else { return self.of(path) };
        match self.find(&around).map(|places| &places.inside) {
            Some(Inside::Fields(fields)) => named(fields, &name).map_or_else(|| self.of(path), |field| field.key),
            _ => self.of(path),
        }
    }

    /// The places of the value at `path`.
    #[must_use]
    pub fn inside(&self, path: &Path) -> Option<Self> {
        self.find(path).cloned()
    }

    fn find(&self, path: &Path) -> Option<&Self> {
        path.steps().iter().try_fold(self, |here, step| match (&here.inside, step) {
            (Inside::Items(items), Step::Index(index)) => items.get(*index),
            (Inside::Fields(fields), Step::Field(name)) => named(fields, name).map(|field| &field.value),
            _ => None,
        })
    }
}

/// A range over many lines is cut to its first character: editors would mark half of the file otherwise.
fn first_line(at: SourceRange) -> SourceRange {
    if at.line == at.end_line { at } else { SourceRange { end_line: at.line, end_column: at.column + 1, ..at } }
}
