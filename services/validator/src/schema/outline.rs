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

/// The outline of a definition; `None` if the text is none, or not of that style.
pub(super) fn definition(text: &str) -> Option<Outline<'_>> {
    let spec = section(text, 0, "spec")?;
    if value(text, 0, "kind")? != "CustomResourceDefinition" {
        return None;
    }
    let names = section(spec, 2, "names")?;
    let items = items(section(spec, 2, "versions")?)?;
    let mut versions = Vec::new();
    for (indent, item) in items {
        let name = value(item, indent, "name")?;
        if value(item, indent, "served")? == "true" {
            versions.push((name, item));
        }
    }
    Some(Outline { group: value(spec, 2, "group")?, kind: value(names, 4, "kind")?, versions })
}

/// What stands on a line behind an indentation, if it is exactly so deep. The dash of a list counts as indentation.
fn at_indent(line: &str, indent: usize) -> Option<&str> {
    let (before, rest) = line.split_at_checked(indent)?;
    (before.bytes().all(|b| b == b' ' || b == b'-') && !rest.starts_with([' ', '\n', '\r', '#'])).then_some(rest)
}

/// The lines below a key that stands alone on its line; `None` if there is not exactly one.
fn section<'t>(text: &'t str, indent: usize, key: &str) -> Option<&'t str> {
    let mut own = None;
    let mut end = text.len();
    for (at, line) in lines(text) {
        let Some(rest) = at_indent(line, indent) else { continue };
        if rest.strip_prefix(key).and_then(|rest| rest.strip_prefix(':')).is_some_and(|rest| rest.trim().is_empty()) {
            if own.is_some() {
                return None;
            }
            (own, end) = (Some(at + line.len()), text.len());
        } else if own.is_some() && end == text.len() && !rest.starts_with("- ") {
            end = at;
        }
    }
    Some(&text[own?..end])
}

/// The plain value of a key; `None` if there is not exactly one.
fn value<'t>(text: &'t str, indent: usize, key: &str) -> Option<&'t str> {
    let of_key = |(_, line): (_, &'t str)| at_indent(line, indent)?.strip_prefix(key)?.strip_prefix(": ");
    let mut values = lines(text).filter_map(of_key);
    let value = values.next().filter(|_| values.next().is_none())?.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    (!value.is_empty() && value.chars().all(is_plain)).then_some(value)
}

/// The items of a list, and how deep the keys in them stand.
fn items(list: &str) -> Option<Vec<(usize, &str)>> {
    let dash = list.find("- ")?;
    let is_first = list[..dash].bytes().all(|b| b == b' ');
    let starts =
        |(at, line): (usize, &str)| at_indent(line, dash).is_some_and(|rest| rest.starts_with("- ")).then_some(at);
    let starts: Vec<usize> = lines(list).filter_map(starts).collect();
    let ends = starts.iter().skip(1).copied().chain([list.len()]);
    is_first.then(|| starts.iter().zip(ends).map(|(start, end)| (dash + 2, &list[*start..end])).collect())
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
        let deeper = DEFINITION
            .replace("\n  - ", "\n    - ")
            .replace("\n    ", "\n      ")
            .replace("      kind: A", "    kind: A");
        assert_eq!(definition(&deeper).map(|outline| outline.versions.len()), Some(1), "{deeper}");
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
