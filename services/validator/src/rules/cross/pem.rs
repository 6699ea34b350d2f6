//! As much of PEM and X.509 as is needed to say that a certificate is none, without a cryptographic library: rules do not
//! verify anything.

/// The bytes of a base64 text; `None` if it is none.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut buffer, mut bits) = (0_u32, 0);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b'=') {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        buffer = (buffer << 6 | u32::from(value)) & 0xff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(buffer >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// What is wrong with the first certificate of a PEM text. `None`: nothing that can be seen.
pub(super) fn problem(text: Option<&[u8]>) -> Option<&'static str> {
    const NONE: Option<&str> = Some("is no PEM text");
    let Some(text) = text.and_then(|bytes| std::str::from_utf8(bytes).ok()) else { return NONE };
    let Some((_, rest)) = text.split_once("-----BEGIN CERTIFICATE-----") else { return NONE };
    let Some((body, _)) = rest.split_once("-----END CERTIFICATE-----") else { return NONE };
    let Some(der) = decoded(body) else { return NONE };
    // Certificate ::= SEQUENCE { SEQUENCE { … } … }: the outer one has to hold the rest exactly.
    match contents(&der, 0x30) {
        Some((certificate, [])) if contents(certificate, 0x30).is_some() => None,
        _ => Some("is malformed"),
    }
}

/// What a DER value of that tag holds, and what follows it.
fn contents(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [first, length, rest @ ..] = der else { return None };
    if *first != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (number, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (number.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_told_from_other_texts() {
        let pem = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        // SEQUENCE { SEQUENCE { INTEGER 1 } }
        for (text, expected) in [
            (pem("MAUwAwIBAQ=="), None),
            (pem("MAUwAwIB"), Some("is malformed")),
            (pem("!"), Some("is no PEM text")),
            ("hello".to_owned(), Some("is no PEM text")),
        ] {
            assert_eq!(problem(Some(text.as_bytes())), expected, "{text}");
        }
        assert_eq!(decoded("aGk="), Some(b"hi".to_vec()));
        assert_eq!(problem(None), Some("is no PEM text"));
    }
}
