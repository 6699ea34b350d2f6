//! Whether a text is an expression of the Common Expression Language.
//!
//! Only the syntax is decided, as Istio does: which names an expression may use is known to the proxy alone. The text becomes
//! tokens, and tokens are consumed by one function per level of the grammar. Operators need no precedence for that.

use crate::{cel::RESERVED, report::quote};

/// Deeper brackets are refused, so that no text can exhaust the stack.
const DEEPEST: usize = 100;

const TWO_SIGNS: [&str; 6] = ["&&", "||", "==", "!=", "<=", ">="];
const ONE_SIGN: &str = "<>+-*/%!?:.,()[]{}";
const BINARY: [&str; 14] = ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "in"];

/// Why a text is no expression, if it is none.
pub(super) fn problem(text: &str) -> Option<String> {
    let tokens = match tokens(text) {
        Ok(tokens) => tokens,
        Err(problem) => return Some(problem),
    };
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    match parser.expression() {
        Err(problem) => Some(problem),
        Ok(()) => parser.peek().map(|token| format!("{} stands behind the end", quote(token.text()))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    Literal(&'a str),
    Sign(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Name(text) | Self::Literal(text) | Self::Sign(text) => text,
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let token = if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.find('\n').map_or("", |end| &comment[end..]).trim_start();
            continue;
        } else if let Some(length) = string(rest)? {
            Token::Literal(&rest[..length])
        } else if let Some(length) = number(rest) {
            Token::Literal(&rest[..length])
        } else if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            Token::Name(&rest[..end])
        } else {
            Token::Sign(sign(rest)?)
        };
        rest = rest[token.text().len()..].trim_start();
        tokens.push(token);
    }
    Ok(tokens)
}

fn sign(rest: &str) -> Result<&str, String> {
    if let Some(two) = TWO_SIGNS.iter().find(|two| rest.starts_with(**two)) {
        return Ok(two);
    }
    match rest.chars().next() {
        Some(c) if ONE_SIGN.contains(c) => Ok(&rest[..1]),
        other => Err(format!("the character {:?} has no meaning", other.unwrap_or_default())),
    }
}

/// The length of a string that the text begins with, prefixes and quotes included.
fn string(rest: &str) -> Result<Option<usize>, String> {
    let prefix = rest.bytes().take(2).take_while(|c| b"rRbB".contains(c)).count();
    let body = &rest[prefix..];
    let Some(quote) = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| body.starts_with(quote)) else {
        return Ok(None);
    };
    let is_raw = rest[..prefix].contains(['r', 'R']);
    let mut chars = body[quote.len()..].char_indices();
    while let Some((index, c)) = chars.next() {
        let here = quote.len() + index;
        if body[here..].starts_with(quote) {
            return Ok(Some(prefix + here + quote.len()));
        }
        if c == '\\' && !is_raw {
            chars.next();
        } else if c == '\n' && quote.len() == 1 {
            break;
        }
    }
    Err("a string has no end".to_owned())
}

/// The length of a number that the text begins with.
fn number(rest: &str) -> Option<usize> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    if let Some(hex) = rest.strip_prefix("0x").filter(|hex| hex.starts_with(|c: char| c.is_ascii_hexdigit())) {
        let end = 2 + hex.bytes().take_while(u8::is_ascii_hexdigit).count();
        return Some(end + usize::from(rest[end..].starts_with(['u', 'U'])));
    }
    let whole = digits(rest);
    let fraction = rest[whole..].strip_prefix('.').map_or(0, digits);
    if whole + fraction == 0 {
        return None;
    }
    let mut end = whole + if fraction > 0 { fraction + 1 } else { 0 };
    if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let length = digits(&exponent[sign..]);
        end += if length > 0 { 1 + sign + length } else { 0 };
    }
    Some(end + usize::from(rest[end..].starts_with(['u', 'U'])))
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    /// Whether the next token is this sign, which is then consumed.
    fn take(&mut self, sign: &str) -> bool {
        let is_next = self.peek() == Some(Token::Sign(sign));
        self.at += usize::from(is_next);
        is_next
    }

    fn need(&mut self, sign: &str) -> Result<(), String> {
        if self.take(sign) { Ok(()) } else { Err(self.unexpected(&format!("{sign:?}"))) }
    }

    fn name(&mut self) -> Result<(), String> {
        match self.peek() {
            Some(Token::Name(name)) if !["in", "true", "false", "null"].contains(&name) => {
                self.at += 1;
                Ok(())
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    fn unexpected(&self, wanted: &str) -> String {
        match self.peek() {
            None => format!("it ends where {wanted} is expected"),
            Some(token) => format!("{} stands where {wanted} is expected", quote(token.text())),
        }
    }

    /// `a`, or `a ? b : c`, where c may go on the same way.
    fn expression(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("it is nested deeper than {DEEPEST} levels"));
        }
        self.chain()?;
        while self.take("?") {
            self.chain()?;
            self.need(":")?;
            self.chain()?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Values with operators between them.
    fn chain(&mut self) -> Result<(), String> {
        self.member()?;
        while self.peek().is_some_and(|token| !matches!(token, Token::Literal(_)) && BINARY.contains(&token.text())) {
            self.at += 1;
            self.member()?;
        }
        Ok(())
    }

    /// A value with what is selected of it.
    fn member(&mut self) -> Result<(), String> {
        let sign = if self.peek() == Some(Token::Sign("!")) { "!" } else { "-" };
        while self.take(sign) {}
        let mut is_type = self.primary()?;
        loop {
            if self.take(".") {
                self.take("?");
                self.name()?;
                if self.take("(") {
                    self.list(")")?;
                    is_type = false;
                }
            } else if self.take("[") {
                self.take("?");
                self.expression()?;
                self.need("]")?;
                is_type = false;
            } else if is_type && self.take("{") {
                self.fields()?;
                is_type = false;
            } else {
                return Ok(());
            }
        }
    }

    /// Whether what was read can be the name of a type.
    fn primary(&mut self) -> Result<bool, String> {
        if self.take("(") {
            self.expression()?;
            return self.need(")").map(|()| false);
        }
        if self.take("[") {
            return self.list("]").map(|()| false);
        }
        if self.take("{") {
            return self.fields().map(|()| false);
        }
        match self.peek() {
            Some(Token::Literal(_) | Token::Name("true" | "false" | "null")) => {
                self.at += 1;
                return Ok(false);
            }
            Some(Token::Name(word)) if RESERVED.contains(&word) => return Err(format!("the word {word} is reserved")),
            Some(Token::Name(_) | Token::Sign(".")) => {}
            _ => return Err(self.unexpected("a value")),
        }
        self.take(".");
        self.name()?;
        if self.take("(") {
            return self.list(")").map(|()| false);
        }
        Ok(true)
    }

    /// Expressions with commas between them; the opening bracket is consumed.
    fn list(&mut self, end: &str) -> Result<(), String> {
        while !self.take(end) {
            self.take("?");
            self.expression()?;
            if !self.take(",") {
                return self.need(end);
            }
        }
        Ok(())
    }

    /// Keys and values; the opening brace is consumed.
    fn fields(&mut self) -> Result<(), String> {
        while !self.take("}") {
            self.take("?");
            self.expression()?;
            self.need(":")?;
            self.expression()?;
            if !self.take(",") {
                return self.need("}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        for good in [
            "true",
            "response.code >= 400 && !(request.url_path.contains('v1beta3') || has(a.b))",
            "a ? b : c ? d : -e",
            "x in [1, 2u, 0xFF, .5, 1e-3,]",
            "{'a': 1, b: [2]}['a'].c",
            "google.rpc.Code{code: 1, message: \"x\"}",
            r#"r'\d' + b"x" + '''a'b''' // end"#,
            "list.all(x, x > 0)",
            "!!a && --b < 0",
            ".a.b(1)[0].c",
        ] {
            assert_eq!(problem(good), None, "{good}");
        }
        let deep = "(".repeat(100_000);
        for bad in
            [")++++", "", "a b", "a +", "a ? b", "'x", "a..b", "f(,)", "{1}", "a @ b", "if", "a = b", "1.2.3", &deep]
        {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }
}
