//! What can be said of the bytes before any parsing.

use meshward_model::SourceRange;

use super::MAX_BYTES;
use crate::{
    report::{Findings, position},
    rules::catalogue as rule,
};

/// The text without a byte order mark, or `None` if it cannot be parsed at all.
pub(super) fn text<'a>(bytes: &'a [u8], findings: &mut Findings) -> Option<&'a str> {
    if bytes.len() > MAX_BYTES {
        let message = format!("the text has {} bytes, more than the {MAX_BYTES} that are read", bytes.len());
        findings.at(rule::TOO_LARGE, position(1, 1), message, "split it into several policies");
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
            findings.at(
                rule::NOT_UTF8,
                end_of(good),
                format!("the byte 0x{byte:02x} is no UTF-8"),
                "save the file as UTF-8",
            );
            return None;
        }
    };
    let text = without_mark(text, findings);
    match text.char_indices().find(|(_, c)| !is_allowed(*c)) {
        None => Some(text),
        Some((at, c)) => {
            let message = format!("the character U+{:04X} is not allowed in YAML", u32::from(c));
            findings.at(
                rule::CONTROL_CHARACTER,
                end_of(&text[..at]),
                message,
                "remove it, or escape it in double quotes",
            );
            None
        }
    }
}

fn without_mark<'a>(text: &'a str, findings: &mut Findings) -> &'a str {
    let Some(rest) = text.strip_prefix('\u{feff}') else { return text };
    let message = "the text begins with a byte order mark, which some tools take for a part of the first key";
    findings.at(rule::BYTE_ORDER_MARK, position(1, 1), message.to_owned(), "save the file without a byte order mark");
    rest
}

/// YAML's printable characters. A byte order mark inside is left to the parser, which knows where it may stand.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{7e}' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

/// The position just behind a text.
fn end_of(text: &str) -> SourceRange {
    let line = text.matches('\n').count() + 1;
    let column = text.chars().rev().take_while(|c| *c != '\n').count() + 1;
    position(line, column)
}
