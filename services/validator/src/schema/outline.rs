//! Finds the versions in the text of a CustomResourceDefinition without reading all of it.
//!
//! The definitions of a mesh are a megabyte of YAML, of which a run needs a tenth: one version of each kind that it meets. In
//! the style that generators write (block style, one key a line, plain names) indentation alone tells where a version begins
//! and ends, for whatever belongs to a key stands deeper than it. A text in another style has no outline, and is read whole. A cut
//! at a wrong place, as inside a quoted text, leaves two pieces of which neither can be read: it is noticed when they are.

/// What the text of a definition says without its schemas.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outline<'t> {
    pub(super) group: &'t str,
    pub(super) kind: &'t str,
    /// Each served version: its name, and the text of a list with it alone.
    pub(super) versions: Vec<(&'t str, &'t str)>,
}

/// The documents of a text. The whole text, if it uses more of YAML than lines of `---`.
pub(super) fn documents(text: &str) -> Vec<&str> {
    let is_end = |line: &str| line.trim_end() == "---";
    let odd =
        |line: &str| (line.starts_with("---") && !is_end(line)) || line.starts_with("...") || line.starts_with('%');
    if text.lines().any(odd) {
        return vec![text];
    }
    let (mut documents, mut start) = (Vec::new(), 0);
    for (at, line) in lines(text).filter(|(_, line)| is_end(line)) {
        documents.push(&text[start..at]);
        start = at + line.len();
    }
    documents.push(&text[start..]);
    documents.retain(|document| !document.trim().is_empty());
    documents
}

/// The lines of a text with their line ends, and where each begins.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line))
    })
}

/// A line and where it begins.
type Line<'t> = (usize, &'t str);

/// The outline of a definition; `None` if the text is none, or not of that style.
pub(super) fn definition(text: &str) -> Option<Outline<'_>> {
    // Whatever is looked at stands less deep.
    const DEEP: &str = "       ";
    let shallow: Vec<Line<'_>> = lines(text).filter(|(_, line)| !line.starts_with(DEEP)).collect();
    let spec = section(&shallow, 0, "spec")?;
    if value(&shallow, 0, "kind")? != "CustomResourceDefinition" {
        return None;
    }
    let list = section(spec, 2, "versions")?;
    // The list ends where the next line begins that is not of it.
    let end = shallow.iter().map(|(at, _)| *at).find(|at| list.last().is_some_and(|(last, _)| at > last));
    let (indent, items) = items(list)?;
    let ends = items.iter().skip(1).map(|item| item[0].0).chain([end.unwrap_or(text.len())]);
    let mut versions = Vec::new();
    for (item, end) in items.iter().zip(ends) {
        let name = value(item, indent, "name")?;
        if value(item, indent, "served")? == "true" {
            versions.push((name, &text[item[0].0..end]));
        }
    }
    let names = section(spec, 2, "names")?;
    Some(Outline { group: value(spec, 2, "group")?, kind: value(names, 4, "kind")?, versions })
}

/// What stands on a line behind an indentation, if it is exactly so deep. The dash of a list counts as indentation.
fn at_indent(line: &str, indent: usize) -> Option<&str> {
    let (before, rest) = line.split_at_checked(indent)?;
    (before.bytes().all(|b| b == b' ' || b == b'-') && !rest.starts_with([' ', '\n', '\r', '#'])).then_some(rest)
}

/// The lines below a key that stands alone on its line; `None` if there is not exactly one.
fn section<'l, 't>(lines: &'l [Line<'t>], indent: usize, key: &str) -> Option<&'l [Line<'t>]> {
    let is_own = |rest: &str| {
        rest.strip_prefix(key).and_then(|rest| rest.strip_prefix(':')).is_some_and(|rest| rest.trim().is_empty())
    };
    let found = |(_, line): &Line<'_>| at_indent(line, indent).is_some_and(is_own);
    let start = lines.iter().position(found)? + 1;
    let below = &lines[start..];
    if below.iter().any(found) {
        return None;
    }
    // A list may stand as deep as its key.
    let is_next = |(_, line): &Line<'_>| at_indent(line, indent).is_some_and(|rest| !rest.starts_with("- "));
    Some(&below[..below.iter().position(is_next).unwrap_or(below.len())])
}

/// The plain value of a key; `None` if there is not exactly one.
fn value<'t>(lines: &[Line<'t>], indent: usize, key: &str) -> Option<&'t str> {
    let of_key = |(_, line): &Line<'t>| at_indent(line, indent)?.strip_prefix(key)?.strip_prefix(": ");
    let mut values = lines.iter().filter_map(of_key);
    let value = values.next().filter(|_| values.next().is_none())?.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    (!value.is_empty() && value.chars().all(is_plain)).then_some(value)
}

/// How deep the keys in the items of a list stand, and the items.
fn items<'l, 't>(list: &'l [Line<'t>]) -> Option<(usize, Vec<&'l [Line<'t>]>)> {
    let dash = list.first()?.1.find("- ")?;
    let is_start = |(_, line): &Line<'_>| at_indent(line, dash).is_some_and(|rest| rest.starts_with("- "));
    let starts: Vec<usize> = (0..list.len()).filter(|index| is_start(&list[*index])).collect();
    let ends = starts.iter().skip(1).copied().chain([list.len()]);
    Some((dash + 2, starts.iter().zip(ends).map(|(start, end)| &list[*start..end]).collect()))
        .filter(|_| is_start(&list[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFINITION: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: as.b
spec:
  group: b.io
  names:
    kind: A
    shortNames: [a]
  scope: Namespaced
  versions:
  - additionalPrinterColumns:
    - name: Age
      jsonPath: .a
    name: v1
    schema:
      openAPIV3Schema:
        description: |-
          name: v9
        type: object
    served: true
  - name: v1beta1
    served: false
status:
  a: b
";

    #[test]
    fn versions_are_found_by_indentation() {
        let outline = definition(DEFINITION).expect("of that style");
        assert_eq!((outline.group, outline.kind), ("b.io", "A"));
        let [(name, text)] = outline.versions.as_slice() else { panic!("{outline:?}") };
        assert_eq!(*name, "v1");
        let read: Vec<serde_json::Value> = serde_yaml::from_str(text).expect("a list");
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].pointer("/schema/openAPIV3Schema/description"), Some(&"name: v9".into()));
        let (before, list) = DEFINITION.split_once("  versions:\n").expect("a list");
        let (list, after) = list.split_once("status:").expect("more behind it");
        let list: String = list.lines().map(|line| format!("  {line}\n")).collect();
        let deeper = format!("{before}  versions:\n{list}status:{after}");
        let versions = definition(&deeper).map(|outline| outline.versions.len());
        assert_eq!(versions, Some(1), "a list that stands deeper than its key");
    }

    #[test]
    fn another_style_has_no_outline() {
        for (from, to) in [
            ("kind: CustomResourceDefinition", "kind: ConfigMap"),
            ("  group: b.io", "  group: \"b.io\""),
            ("  group: b.io", "  group: &g b.io"),
            ("  group: b.io", "  group: b.io\n  group: c.io"),
            ("spec:\n", "spec: # what it is\n"),
            ("    served: true", "    served: yes, it is"),
            ("    served: true\n", ""),
            ("  versions:\n", "  versions: [{name: v2, served: true}]\n  other:\n"),
        ] {
            assert_eq!(definition(&DEFINITION.replace(from, to)), None, "{from:?} -> {to:?}");
        }
        assert_eq!(definition(r#"{"kind": "CustomResourceDefinition", "spec": {}}"#), None);
    }

    #[test]
    fn documents_end_at_their_line_only() {
        assert_eq!(documents("---\na: 1\n---\nb: |\n  ---\n---\n"), ["a: 1\n", "b: |\n  ---\n"]);
        for odd in ["--- {a: 1}\n---\nb: 1\n", "a: 1\n...\n---\nb: 1\n", "%YAML 1.2\n---\na: 1\n"] {
            assert_eq!(documents(odd), [odd]);
        }
    }
}
