//! Page sizes and opaque page tokens.
//!
//! A token holds the place where the next page begins, the name of the list it belongs to with its filter, and a
//! checksum. It grants nothing: the reader's rights are checked on every page. A token of another list or filter is
//! refused, because going on there would silently skip or repeat rows.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

/// Page size if none is asked for.
pub const DEFAULT_SIZE: u32 = 50;
/// Largest page.
pub const MAX_SIZE: u32 = 500;

const CHECKSUM_BYTES: usize = 8;

/// A page size that is not within the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {MAX_SIZE}, or 0 for {DEFAULT_SIZE}; it is {0}")]
pub struct InvalidSize(pub i32);

/// A token that we did not make for this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a token of this list with this filter; leave it empty to begin anew")]
pub struct InvalidToken;

/// The page size to use for the one that was asked for; 0 = [`DEFAULT_SIZE`].
///
/// # Errors
/// If it is negative or more than [`MAX_SIZE`].
pub fn size(asked: i32) -> Result<u32, InvalidSize> {
    match u32::try_from(asked) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) if size <= MAX_SIZE => Ok(size),
        _ => Err(InvalidSize(asked)),
    }
}

/// A token for the page after `cursor` of `list`. Name the list and its filter ("policies/namespace=shop").
///
/// # Panics
/// If the cursor cannot be JSON, which numbers, strings and tuples of them always can.
#[must_use]
pub fn token<C: Serialize>(list: &str, cursor: &C) -> String {
    let cursor = serde_json::to_vec(cursor).expect("a cursor is JSON");
    let mut bytes = checksum(list, &cursor).to_vec();
    bytes.extend(cursor);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The cursor in a token of the same list and filter; `None` for the empty token, which asks for the first page.
///
/// # Errors
/// If the token was not made by [`token`] for `list`.
pub fn cursor<C: DeserializeOwned>(list: &str, token: &str) -> Result<Option<C>, InvalidToken> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidToken)?;
    let (check, cursor) = bytes.split_at_checked(CHECKSUM_BYTES).ok_or(InvalidToken)?;
    if check != checksum(list, cursor) {
        return Err(InvalidToken);
    }
    serde_json::from_slice(cursor).map(Some).map_err(|_| InvalidToken)
}

/// Cuts a page out of rows that were read with one more than `size`: the page, and the token of the next one (empty =
/// none).
#[must_use]
pub fn cut<T, C: Serialize>(mut rows: Vec<T>, size: u32, list: &str, cursor_of: impl Fn(&T) -> C) -> (Vec<T>, String) {
    let size = size as usize;
    if rows.len() <= size {
        return (rows, String::new());
    }
    rows.truncate(size);
    let next = rows.last().map(|last| token(list, &cursor_of(last))).unwrap_or_default();
    (rows, next)
}

fn checksum(list: &str, cursor: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::new().chain_update(list).chain_update([0]).chain_update(cursor).finalize();
    std::array::from_fn(|index| hash[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_limits() {
        for (asked, expected) in
            [(0, Ok(50)), (1, Ok(1)), (500, Ok(500)), (501, Err(InvalidSize(501))), (-1, Err(InvalidSize(-1)))]
        {
            assert_eq!(size(asked), expected, "{asked}");
        }
    }

    #[test]
    fn a_token_is_good_for_its_list_only() {
        let made = token("policies/ns=shop", &("b", 7));
        assert_eq!(cursor("policies/ns=shop", &made), Ok(Some(("b".to_owned(), 7))));
        assert_eq!(cursor::<(String, i64)>("policies/ns=shop", ""), Ok(None));
        let mut bent = made.clone();
        bent.replace_range(4..5, if &made[4..5] == "A" { "B" } else { "A" });
        for (list, token) in [
            ("policies/ns=pay", &*made),
            ("policies/ns=shop", &*bent),
            ("policies/ns=shop", "x"),
            ("policies/ns=shop", "%%"),
        ] {
            assert_eq!(cursor::<(String, i64)>(list, token), Err(InvalidToken), "{list} {token}");
        }
        assert_eq!(cursor::<i64>("policies/ns=shop", &made), Err(InvalidToken), "another type of cursor");
    }

    #[test]
    fn a_page_that_is_not_the_last_has_a_token() {
        assert_eq!(cut(vec![1, 2], 2, "n", |n| *n), (vec![1, 2], String::new()));
        let (rows, next) = cut(vec![1, 2, 3], 2, "n", |n| *n);
        assert_eq!((rows, cursor("n", &next)), (vec![1, 2], Ok(Some(2))));
    }
}
