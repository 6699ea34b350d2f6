use meshward_model::{Finding, Severity};
use serde_json::{Value, json};

use super::*;
use crate::path::Path;

fn read(text: impl AsRef<[u8]>) -> (Vec<Document>, Vec<Finding>) {
    let mut findings = Findings::default();
    let documents = load(text.as_ref(), &mut findings);
    (documents, findings.into_sorted())
}

fn value(text: &str) -> Value {
    let (documents, findings) = read(text);
    assert!(findings.iter().all(|finding| finding.severity != Severity::Error), "{text:?}: {findings:?}");
    documents.into_iter().next().expect("one document").value
}

fn first_error(text: impl AsRef<[u8]>) -> (String, u32, u32, String) {
    let (_, findings) = read(text);
    let finding = findings.into_iter().find(|finding| finding.severity == Severity::Error).expect("an error");
    let at = finding.at.expect("every finding of the text has a place");
    (finding.id, at.line, at.column, finding.message)
}

#[test]
fn values_are_those_that_kubectl_sends() {
    for (text, expected) in [
        ("a: {b: [1, two, null]}", json!({"a": {"b": [1, "two", null]}})),
        ("a: &x {b: 1}\nc: *x", json!({"a": {"b": 1}, "c": {"b": 1}})),
        ("a: &x 1\n*x : 2", json!({"a": 1, "1": 2})),
        ("b: &x {k: 1, l: 2}\na: {<<: *x, k: 3}", json!({"b": {"k": 1, "l": 2}, "a": {"k": 3, "l": 2}})),
        ("b: &x {k: 1}\na: {k: 3, <<: *x}", json!({"b": {"k": 1}, "a": {"k": 1}})),
        ("a: {<<: [{k: 1}, {k: 2, l: 2}]}", json!({"a": {"k": 1, "l": 2}})),
        ("a: {'<<': {k: 1}}", json!({"a": {"<<": {"k": 1}}})),
        ("a: !!str 12\nb: !!int 0x10\nc: !!str no", json!({"a": "12", "b": 16, "c": "no"})),
        ("a: |\n  x\n  y\nb: >-\n  x\n  y", json!({"a": "x\ny\n", "b": "x y"})),
        ("8080: a", json!({"8080": "a"})),
        ("a: [fd00::, b:, c:]", json!({"a": ["fd00::", "b:", "c:"]})),
        ("a: [b: , c: 1, {d: }, \"e\":]", json!({"a": [{"b": null}, {"c": 1}, {"d": null}, {"e": null}]})),
        ("a: |\n  x", json!({"a": "x"})),
        ("a: \"no\"\nb: '0755'", json!({"a": "no", "b": "0755"})),
        ("---\n# nothing\n---\na: 1\n---\n", json!({"a": 1})),
    ] {
        assert_eq!(value(text), expected, "{text:?}");
    }
}

#[test]
fn what_is_wrong_is_found_where_it_stands() {
    let deep = format!("a: {}{}", "[".repeat(64), "]".repeat(64));
    let bomb = format!(
        "a0: &a0 [x, x]\n{}",
        (1..40).map(|n| format!("a{n}: &a{n} [*a{p}, *a{p}]\n", p = n - 1)).collect::<String>()
    );
    let fat = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a, ".repeat(20));
    let nested = format!(
        "{}x: 1",
        (1..70).map(|n| format!("a{n}: &a{n} [*a{}]\n", n - 1)).collect::<String>().replacen("[*a0]", "[1]", 1)
    );
    let mut wrong = Vec::new();
    let many = "---\na: 1\n".repeat(1001);
    for (text, id, line, column) in [
        ("", "MW1008", 1, 1),
        ("# only a comment", "MW1008", 1, 1),
        ("---\n---\n", "MW1008", 1, 1),
        ("~", "MW1008", 1, 1),
        ("a: 1\nb: 2\na: 3", "MW1010", 3, 1),
        ("x:\n  é: {k: 1, k: 2}", "MW1010", 2, 13),
        ("on: 1\ntrue: 2", "MW1010", 2, 1),
        ("a: 1\n~: 2", "MW1011", 2, 1),
        ("? [a]\n: 1", "MW1011", 1, 3),
        ("a: &x [1, *x]", "MW1012", 1, 11),
        ("a: *nowhere", "MW1013", 1, 4),
        ("a: {<<: 1}", "MW1014", 1, 5),
        ("- a", "MW1015", 1, 1),
        ("just a text", "MW1015", 1, 1),
        ("a: !custom 1", "MW1016", 1, 12),
        ("a: .inf", "MW1017", 1, 4),
        ("a: \"open", "MW1019", 1, 4),
        ("a: 'open\n", "MW1019", 1, 4),
        ("a: {b: 1", "MW1009", 1, 4),
        ("a: b: c", "MW1009", 1, 5),
        ("a:\n  b: 1\n c: 2", "MW1009", 3, 2),
        ("%YAML 1.2\n---\na: 1", "MW1009", 1, 1),
        ("a: \u{0}", "MW1006", 1, 4),
        ("a: 1\nb: é\u{7}", "MW1006", 2, 5),
        (&deep, "MW1002", 1, 67),
        (&nested, "MW1002", 64, 12),
        (&bomb, "MW1003", 16, 18),
        (&fat, "MW1003", 2, 41),
        (&many, "MW1004", 2001, 1),
    ] {
        let (found, at_line, at_column, message) = first_error(text);
        let shown: String = text.chars().take(60).collect();
        if (found.as_str(), at_line, at_column) != (id, line, column) {
            wrong.push(format!("{shown:?}: {found} at {at_line}:{at_column}, {message}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert_eq!(first_error(b"a: 1\nb: \xff").0, "MW1005");
    assert_eq!(first_error(vec![b'a'; MAX_BYTES + 1]).0, "MW1001");
    assert!(first_error("a:\n\tb: 1").3.contains("tab"));
}

#[test]
fn the_second_of_two_keys_names_the_first() {
    let message = first_error("a:\n  b: 1\n  b: 2").3;
    assert_eq!(message, "the key \"b\" occurs twice; the first is at line 2, column 3");
    // Each later one is told, merged ones are none, and what an error of syntax leaves open is looked at too.
    let twice = |text: &str| -> Vec<(u32, u32)> {
        let findings = read(text).1.into_iter().filter(|finding| finding.id == "MW1010");
        findings.filter_map(|finding| finding.at).map(|at| (at.line, at.column)).collect()
    };
    assert_eq!(twice("b: 1\na: 1\nb: 2\nb: 3"), [(3, 1), (4, 1)]);
    assert_eq!(twice("b: &x {k: 1}\na: {<<: *x, k: 2, <<: *x, k: 3}"), [(2, 27)]);
    assert_eq!(twice("a:\n  b: 1\n  b: 2\n  c: [\n"), [(3, 3)]);
}

#[test]
fn traps_are_warnings_that_name_the_value() {
    let (_, findings) = read("a: no\nb: 0755\nc: 1_000\nd: 'no'\non: x\n0755: z\nplain: 12");
    let said: Vec<_> = findings.iter().map(|finding| (finding.id.as_str(), finding.at.unwrap().line)).collect();
    let expected = [("MW1020", 1), ("MW1021", 2), ("MW1021", 3), ("MW1022", 5), ("MW1022", 6)];
    assert_eq!(said, expected, "{findings:?}");
    assert_eq!(findings[0].message, "no without quotes is read as false by Kubernetes tools");
    assert_eq!(findings[1].message, "0755 without quotes is read as 493 by Kubernetes tools");
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning));
}

#[test]
fn a_byte_order_mark_is_a_warning_and_moves_nothing() {
    let (documents, findings) = read("\u{feff}a: 1");
    assert_eq!(documents[0].value, json!({"a": 1}));
    assert_eq!(documents[0].places.of(&Path::root().field("a")).column, 4);
    assert_eq!(findings.iter().map(|finding| finding.id.as_str()).collect::<Vec<_>>(), ["MW1007"]);
}

#[test]
fn every_value_has_its_place() {
    let (documents, _) = read("x: 1\n---\nspec:\n  http:\n  - route:\n    - weight: 50\n      é: 'a b'\n");
    let places = &documents[1].places;
    let route = Path::root().field("spec").field("http").index(0).field("route");
    let spot = |path: &Path| {
        let at = places.of(path);
        (at.document, at.line, at.column, at.end_line, at.end_column)
    };
    assert_eq!(spot(&route.index(0).field("weight")), (1, 6, 15, 6, 17));
    assert_eq!(spot(&route.index(0).field("é")), (1, 7, 10, 7, 15));
    assert_eq!(spot(&route), (1, 5, 5, 5, 10), "a list is where its key is");
    assert_eq!(spot(&route.index(0).field("missing")), (1, 6, 7, 6, 8), "what is missing is where it would be");
    assert_eq!(places.key_of(&route.index(0).field("weight")).column, 7);
    assert_eq!(spot(&Path::root().field("no")), (1, 3, 1, 3, 2));
}

#[test]
fn what_was_read_before_an_error_is_kept() {
    let (documents, findings) = read("a: 1\n---\nb: [");
    assert_eq!(documents.len(), 1);
    assert_eq!(findings[0].at.unwrap().document, 1);
}

/// Texts of the full size that are made to be slow. They are only bearable if nothing in the way is quadratic.
#[test]
fn large_texts_end() {
    let fill = |piece: &str| piece.repeat(MAX_BYTES / piece.len());
    let keys: String = (0..90_000).map(|n| format!("k{n}: 1\n")).collect();
    let anchors: String = (0..60_000).map(|n| format!("- &a{n} x\n")).collect();
    for text in [
        fill("["),
        fill("{a: "),
        fill("- "),
        fill("? "),
        fill("a: "),
        fill("[], "),
        fill("\""),
        fill("'"),
        fill("a\n"),
        fill("#\n"),
        fill(" "),
        fill("\n"),
        fill("!"),
        fill("&a "),
        fill("*a "),
        fill("|\n"),
        fill("---\n"),
        fill("a: 1\n"),
        fill("9"),
        format!("a: [{}]", fill("x,")),
        format!("a: {}", fill("x ")),
        format!("a: \"{}", fill("\\n")),
        keys,
        anchors,
    ] {
        let (documents, findings) = read(&text);
        let shown: String = text.chars().take(20).collect();
        assert!(!documents.is_empty() || findings.iter().any(|f| f.severity == Severity::Error), "{shown:?}");
    }
}
