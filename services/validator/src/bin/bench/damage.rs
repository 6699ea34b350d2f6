//! Texts that are damaged by chance, always the same for a seed. The bench times them, the tests look at what is said of them.

/// Pieces that break YAML in interesting ways.
const PIECES: [&str; 28] = [
    "\t", "\n", "\r", " ", "- ", ": ", "? ", "{", "}", "[", "]", "&a ", "*a ", "*x", "!t ", "!!int ", "<<: ", "\"",
    "'", "|", ">", "#", "%", "---\n", "\u{feff}", "\u{0}", "é", "0777",
];

/// A small generator of numbers (xorshift), so that every run sees the same texts.
pub struct Chance(pub u64);

impl Chance {
    /// A number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}

/// The text with up to `most` changes, none of which touches more than `longest` bytes of it.
pub fn damage(text: &str, most: usize, longest: usize, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=chance.below(most) {
        let at = chance.below(bytes.len() + 1);
        let end = (at + chance.below(longest)).min(bytes.len());
        let piece = PIECES[chance.below(PIECES.len())].as_bytes();
        match chance.below(5) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, piece.iter().copied())),
            2 => drop(bytes.splice(at..end, piece.iter().copied())),
            3 => bytes.extend_from_within(at..end),
            _ if at < bytes.len() => bytes[at] = u8::try_from(chance.below(256)).unwrap_or(0),
            _ => bytes.push(b'\n'),
        }
    }
    bytes
}
