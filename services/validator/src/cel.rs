//! What all that reads expressions of CEL has in common.

/// Words that CEL has for itself or keeps for later: none of them is a name.
pub(crate) const RESERVED: [&str; 18] = [
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
