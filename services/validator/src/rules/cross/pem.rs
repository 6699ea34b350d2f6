//! As much of PEM and X.509 as is needed to say that a certificate is none, and when it holds, without a cryptographic
//! library: rules do not verify anything.

use jiff::civil::DateTime;

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

/// From when to when a certificate holds, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub from: DateTime,
    pub until: DateTime,
}

/// Reads the first certificate of a PEM text, as Istio does; the others are those of its authorities.
///
/// # Errors
/// What is wrong with it.
pub(super) fn first_certificate(text: Option<&[u8]>) -> Result<Validity, &'static str> {
    const NONE: &str = "is no PEM text";
    let text = text.and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or(NONE)?;
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----").ok_or(NONE)?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----").ok_or(NONE)?;
    validity(&decoded(body).ok_or(NONE)?).ok_or("is malformed")
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// What stands in a certificate (RFC 5280, 4.1) up to the key, as far as it has to be stepped over.
fn validity(der: &[u8]) -> Option<Validity> {
    let (certificate, []) = contents(der, SEQUENCE)? else { return None };
    let (signed, _) = contents(certificate, SEQUENCE)?;
    let serial = contents(signed, VERSION).map_or(signed, |(_, rest)| rest);
    let (_, algorithm) = contents(serial, INTEGER)?;
    let (_, issuer) = contents(algorithm, SEQUENCE)?;
    let (_, validity) = contents(issuer, SEQUENCE)?;
    let (times, subject) = contents(validity, SEQUENCE)?;
    let (_, key) = contents(subject, SEQUENCE)?;
    contents(key, SEQUENCE)?;
    let (from, rest) = time(times)?;
    let (until, []) = time(rest)? else { return None };
    Some(Validity { from, until })
}

/// A time, and what follows it: with a year of two digits, the first of which are those of 1950 to 2049, or of four.
fn time(der: &[u8]) -> Option<(DateTime, &[u8])> {
    let short = contents(der, UTC_TIME);
    let (text, rest) = short.or_else(|| contents(der, GENERALIZED_TIME))?;
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, others) = digits.split_at_checked(if short.is_some() { 2 } else { 4 })?;
    if others.len() != 10 || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let year: i16 = year.parse().ok()?;
    let year = match short {
        Some(_) if year < 50 => 2000 + year,
        Some(_) => 1900 + year,
        None => year,
    };
    let pair = |at: usize| others.get(at..at + 2)?.parse::<i8>().ok();
    let time = DateTime::new(year, pair(0)?, pair(2)?, pair(4)?, pair(6)?, pair(8)?, 0);
    Some((time.ok()?, rest))
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

    fn pem(der: &[u8]) -> String {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut body = String::new();
        for three in der.chunks(3) {
            let bits = three.iter().chain(&[0; 2]).take(3).fold(0, |bits, byte| bits << 8 | usize::from(*byte));
            let letters = (0..=three.len()).map(|at| char::from(alphabet[bits >> (18 - 6 * at) & 63]));
            body.extend(letters.chain(std::iter::repeat_n('=', 3 - three.len())));
        }
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn a_certificate_tells_when_it_holds() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (years, expected) in [
            // Written with two digits, and from 2050 on with four.
            ((1950, 2049), Ok(("1950-01-01T00:00:00", "2049-01-01T00:00:00"))),
            ((2026, 2050), Ok(("2026-01-01T00:00:00", "2050-01-01T00:00:00"))),
            ((2026, 9999), Ok(("2026-01-01T00:00:00", "9999-01-01T00:00:00"))),
        ] {
            let mut params = rcgen::CertificateParams::new(vec!["a.com".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
            let certificate = params.self_signed(&key).unwrap();
            let expected = expected.map(|(from, until): (&str, &str)| Validity {
                from: from.parse().unwrap(),
                until: until.parse().unwrap(),
            });
            // After others, and before those of its authorities.
            let texts = format!("a comment\n{}{}", certificate.pem(), pem(b"another"));
            assert_eq!(first_certificate(Some(texts.as_bytes())), expected, "{years:?}");
            let der = certificate.der();
            assert_eq!(first_certificate(Some(pem(der).as_bytes())), expected, "{years:?}");
            for end in 0..der.len() {
                let cut = pem(&der[..end]);
                assert_eq!(first_certificate(Some(cut.as_bytes())), Err("is malformed"), "cut after {end} bytes");
            }
            for at in 0..der.len() {
                let mut damaged = der.to_vec();
                damaged[at] = 0xff;
                // It may still be read; it must not panic.
                let _ = first_certificate(Some(pem(&damaged).as_bytes()));
            }
        }
    }

    #[test]
    fn certificates_are_told_from_other_texts() {
        let text = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        for (text, expected) in [
            // SEQUENCE { SEQUENCE { INTEGER 1 } }
            (text("MAUwAwIBAQ=="), "is malformed"),
            (text("MAUwAwIB"), "is malformed"),
            (text("!"), "is no PEM text"),
            ("hello".to_owned(), "is no PEM text"),
        ] {
            assert_eq!(first_certificate(Some(text.as_bytes())), Err(expected), "{text}");
        }
        assert_eq!(decoded("aGk="), Some(b"hi".to_vec()));
        assert_eq!(first_certificate(None), Err("is no PEM text"));
    }
}
