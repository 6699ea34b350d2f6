//! The page that explains every rule, made from the catalogue: `cargo run -p meshward-validator --example rules`.

use std::fmt::Write as _;

use meshward_model::Severity;

use super::catalogue::{ALL, Rule};

/// What the first digits of an id stand for.
const FAMILIES: [(&str, &str, &str); 13] = [
    ("MW10", "Syntax", "The text is not the YAML that Kubernetes tools read, or not what its author means."),
    ("MW20", "Schema", "The object is not as the definition of its kind says. The API server refuses it."),
    ("MW30", "Admission and request", "What the cluster itself says, and what Meshward needs."),
    ("MW31", "Istio: single objects", "What Istio's own validation refuses or warns of."),
    ("MW32", "Linkerd: single objects", "What Linkerd's admission refuses, and what its controller leaves out."),
    ("MW35", "Istio: single objects, continued", "What takes no effect although Istio admits it."),
    ("MW41", "Istio: references", "An object refers to something that is not there, or is not as it needs it."),
    ("MW42", "Linkerd: references", "An object refers to something that is not there, or is not as it needs it."),
    ("MW50", "Conflicts in every mesh", "Objects get in each other's way."),
    ("MW51", "Istio: conflicts", "Objects are right one by one, and wrong together."),
    ("MW52", "Linkerd: conflicts", "Objects are right one by one, and wrong together."),
    ("MW6", "Impact", "What a change does to requests."),
    ("MW9", "Others", ""),
];

/// The whole page, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut text = String::from(
        "# Rules of the validator\n\n\
         This page is made from the catalogue of rules: `cargo run -p meshward-validator --example rules`.\n\n\
         An id never changes its meaning. Its first digit is the layer (1 syntax, 2 schema, 3 single objects and admission, 4 references,\n\
         5 conflicts, 6 impact), the second the mesh (0 every, 1 and 5 Istio, 2 Linkerd). Errors of layers 1 to 3 are what the cluster refuses;\n\
         layers 4 to 6 advise. A finding of confidence *possible* depends on objects that were not sent, and is at most a warning.\n\n\
         To accept a finding for a while, name it in the object's annotation `meshward.io/suppress`, one a line:\n\
         `MW5102=reason;until=2026-12-31`.\n",
    );
    for (start, title, about) in FAMILIES {
        let rules: Vec<&Rule> = ALL.iter().copied().filter(|rule| rule.id.starts_with(start)).collect();
        if rules.is_empty() {
            continue;
        }
        let _ = write!(text, "\n## {title}\n\n{about}\n");
        rules.iter().for_each(|rule| entry(&mut text, rule));
    }
    text
}

fn entry(text: &mut String, rule: &Rule) {
    let severity = match rule.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    let aliases = if rule.aliases.is_empty() { String::new() } else { format!(" · {}", rule.aliases.join(", ")) };
    let _ = write!(text, "\n### {}\n\n`{}` · {severity}{aliases}\n\n{}\n", rule.id, rule.slug, rule.doc);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_has_every_rule_under_its_anchor() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rules.md");
        let there = std::fs::read_to_string(path).expect("the page is there");
        assert!(there == page(), "{path} is old: cargo run -p meshward-validator --example rules > {path}");
        for rule in ALL {
            // A heading's anchor is its text in lower case.
            let (file, anchor) = rule
                .doc_link()
                .split_once('#')
                .map(|(file, anchor)| (file.to_owned(), anchor.to_owned()))
                .expect("an anchor");
            assert!(path.ends_with(file.trim_start_matches("services/validator")), "{file}");
            let heading = format!("\n### {}\n", anchor.to_ascii_uppercase());
            assert_eq!(there.matches(&heading).count(), 1, "{}", rule.id);
        }
    }
}
