//! Which request ids belong to the canary.
//!
//! Envoy gives every request an id in `x-request-id`, a random UUID unless the caller sent one. The canary gets the ids
//! whose last two hexadecimal digits, read with the *last one first*, are a number below n of 256. Why so:
//!
//! - trailing digits are random in every UUID version but 1, leading ones are not (version 7 begins with the time);
//! - Envoy overwrites one digit in the middle to pack its trace decision there, never the last ones;
//! - cohorts are nested: a higher n only adds ids, so that no request goes back to the stable version as the weight
//!   grows;
//! - with the last digit as the more significant one, a share of k/16 needs a single digit class.
//!
//! The regular expression is matched against the whole header, so it begins with `.*`; an id that ends in anything but
//! hexadecimal digits is stable, and so is a request without an id.

use meshward_model::Weight;

/// The number of different pairs of digits.
const PAIRS: u32 = 256;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The ids whose trailing pair of digits is below `below`, of 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cohort {
    below: u32,
}

impl Cohort {
    /// The cohort nearest to a weight. Only the weight zero gives the empty cohort, and only the full weight everybody.
    #[must_use]
    pub fn of(weight: Weight) -> Self {
        let basis_points = u32::from(weight.basis_points());
        let nearest = (basis_points * PAIRS + 5_000) / 10_000;
        let below = match weight {
            Weight::ZERO => 0,
            Weight::FULL => PAIRS,
            _ => nearest.clamp(1, PAIRS - 1),
        };
        Self { below }
    }

    /// The share of random ids that belong to it.
    #[must_use]
    pub fn nominal_share(self) -> Weight {
        let basis_points = (self.below * 10_000 + PAIRS / 2) / PAIRS;
        Weight::from_basis_points(basis_points.into()).unwrap_or(Weight::FULL)
    }

    /// The regular expression (RE2, full match, either case) of its ids; `None` for the empty cohort.
    #[must_use]
    pub fn regex(self) -> Option<String> {
        let (whole, rest) = (self.below / 16, self.below % 16);
        let any = class(16);
        // "Anything before, then a last digit of the first `whole` ones" and "the next last digit with some digits
        // before".
        let alternatives = match (whole, rest) {
            (0, 0) => return None,
            (whole, 0) => class(whole),
            (0, rest) => format!("{}0", class(rest)),
            (whole, rest) => {
                let next = char::from(DIGITS[whole as usize]);
                format!("(?:{any}{}|{}{next})", class(whole), class(rest))
            }
        };
        Some(format!("(?i).*{alternatives}"))
    }

    /// The same ids as values of a header condition of an AuthorizationPolicy, which knows no expressions: "*" and how
    /// the id ends, in either case. Empty for the empty cohort.
    ///
    /// A last digit that is whole in the cohort is one value, whatever stands before it; the expression asks for a
    /// digit there as well. So the two differ for ids that end in a single digit ("order-0"), which no UUID does: a
    /// value for each pair would be up to 480 comparisons a rule and request.
    #[must_use]
    pub fn suffixes(self) -> Vec<String> {
        let (whole, rest) = (self.below as usize / 16, self.below as usize % 16);
        let singles = DIGITS[..whole].iter().flat_map(|last| cases(*last)).map(|last| format!("*{last}"));
        let next = DIGITS.get(whole).filter(|_| rest > 0);
        let pairs = next.into_iter().flat_map(|last| cases(*last)).flat_map(|last| {
            DIGITS[..rest].iter().flat_map(|second| cases(*second)).map(move |second| format!("*{second}{last}"))
        });
        singles.chain(pairs).collect()
    }
}

/// A digit in each of its cases.
fn cases(digit: u8) -> Vec<char> {
    let upper = digit.to_ascii_uppercase();
    if upper == digit { vec![char::from(digit)] } else { vec![char::from(digit), char::from(upper)] }
}

/// The first `count` hexadecimal digits as a character class; `count` is 1 to 16.
fn class(count: u32) -> String {
    let last = char::from(DIGITS[count as usize - 1]);
    match count {
        1 => "0".to_owned(),
        2..=10 => format!("[0-{last}]"),
        11 => "[0-9a]".to_owned(),
        _ => format!("[0-9a-{last}]"),
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn cohort(basis_points: i64) -> Cohort {
        Cohort::of(Weight::from_basis_points(basis_points).unwrap())
    }

    /// The pairs of 256 that are members, asked of the regular expression as Envoy does: against the whole id.
    fn members(cohort: Cohort) -> Vec<(u32, u32)> {
        let Some(pattern) = cohort.regex() else { return Vec::new() };
        let regex = Regex::new(&format!("^(?:{pattern})$")).unwrap();
        let pairs = (0..16).flat_map(|second| (0..16).map(move |last| (second, last)));
        pairs
            .filter(|(second, last)| {
                let id = format!("6a1f2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b{second:x}{last:x}");
                let upper = regex.is_match(&id.to_uppercase());
                assert_eq!(regex.is_match(&id), upper, "either case: {id}");
                upper
            })
            .collect()
    }

    #[test]
    fn the_known_spellings() {
        for (weight, below, regex, share) in [
            (0, 0, None, 0),
            (1000, 26, Some("(?i).*(?:[0-9a-f]0|[0-9]1)"), 1016),
            (3000, 77, Some("(?i).*(?:[0-9a-f][0-3]|[0-9a-c]4)"), 3008),
            (5000, 128, Some("(?i).*[0-7]"), 5000),
            (9000, 230, Some("(?i).*(?:[0-9a-f][0-9a-d]|[0-5]e)"), 8984),
            (1, 1, Some("(?i).*00"), 39),
            (9999, 255, Some("(?i).*(?:[0-9a-f][0-9a-e]|[0-9a-e]f)"), 9961),
            (10_000, 256, Some("(?i).*[0-9a-f]"), 10_000),
        ] {
            let cohort = cohort(weight);
            assert_eq!(cohort.below, below, "{weight}");
            assert_eq!(cohort.regex().as_deref(), regex, "{weight}");
            assert_eq!(cohort.nominal_share().basis_points(), share, "{weight}");
        }
    }

    #[test]
    fn exactly_the_pairs_below_are_members() {
        for below in 0..=PAIRS {
            let expected: Vec<_> = (0..16)
                .flat_map(|second| (0..16).map(move |last| (second, last)))
                .filter(|(second, last)| last * 16 + second < below)
                .collect();
            assert_eq!(members(Cohort { below }), expected, "{below}");
        }
    }

    #[test]
    fn suffixes_and_expression_are_one_cohort() {
        for below in 0..=PAIRS {
            let cohort = Cohort { below };
            let suffixes = cohort.suffixes();
            let regex = cohort.regex().map(|pattern| Regex::new(&format!("^(?:{pattern})$")).unwrap());
            for pair in (0..PAIRS).map(|pair| format!("{pair:02x}")).flat_map(|pair| [pair.to_uppercase(), pair]) {
                let id = format!("6a1f2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b{pair}");
                let ends = suffixes.iter().filter(|suffix| id.ends_with(&suffix[1..])).count();
                assert_eq!(ends, usize::from(regex.as_ref().is_some_and(|regex| regex.is_match(&id))), "{below} {id}");
            }
        }
        for (weight, count) in [(0, 0), (1000, 11), (3000, 20), (5000, 8), (9000, 30), (10_000, 22)] {
            assert_eq!(cohort(weight).suffixes().len(), count, "{weight}");
        }
    }

    #[test]
    fn a_growing_weight_only_adds_members() {
        let mut before = Vec::new();
        for weight in (0..=10_000).step_by(250) {
            let now = members(cohort(weight));
            assert!(before.iter().all(|pair| now.contains(pair)), "{weight}");
            before = now;
        }
        assert_eq!(before.len(), 256);
    }

    #[test]
    fn what_is_no_id_is_stable() {
        let regex = Regex::new(&format!("^(?:{})$", cohort(9999).regex().unwrap())).unwrap();
        for id in ["", "0", "request-x", "zz", "é"] {
            assert!(!regex.is_match(id), "{id:?}");
        }
    }

    #[test]
    fn the_expression_fits_the_limits_of_istio() {
        for below in 1..=PAIRS {
            assert!(Cohort { below }.regex().is_some_and(|regex| regex.len() < 64));
        }
    }
}
